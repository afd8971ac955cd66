"""The embedded default."""

import numpy as np
import torch

from ..raw import Raw


def digits() -> Raw:
    """1,797 handwritten digits, 8x8, 17 grey levels, part of scikit-learn (UCI; Alpaydin and Kaynak, 1998)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Raw(torch.from_numpy(bunch.images.astype(np.uint8)), 16.0, torch.from_numpy(bunch.target))
