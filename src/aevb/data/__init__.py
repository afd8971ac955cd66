"""Data sets by name or from a file, as splits that can be had in batches."""

from .load import load as load
from .named import *  # noqa: F403
from .named import DATA_SETS as DATA_SETS
from .split import BINARISATIONS as BINARISATIONS
from .split import DataSet as DataSet
from .split import Labelled as Labelled
from .split import Split as Split
