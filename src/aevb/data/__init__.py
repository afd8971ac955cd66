"""Data sets by name or from a file, as splits that can be had in batches."""

from .load import DATA_SETS as DATA_SETS
from .load import load as load
from .split import BINARISATIONS as BINARISATIONS
from .split import DataSet as DataSet
from .split import Split as Split
