"""Networks: one file and one line here each."""

from .conv import Conv as Conv
from .conv import ConvTransposed as ConvTransposed
from .mlp import MLP as MLP
from .network import Network as Network
