"""Networks: one file and one line here each."""

from .mlp import MLP as MLP
from .network import Network as Network
