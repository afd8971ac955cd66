"""Many figures in a few characters."""

from torch import Tensor


def brief(values: Tensor) -> str:
    """The mean of one figure a datum and its standard error over the data.

    Example:
        >>> import torch
        >>> brief(torch.tensor([-24.0, -26.0]))
        '-25 ± 1'
    """
    values, count = values.detach().double(), values.numel()
    mean = f"{values.mean().item():.4g}"
    return f"{mean} ± {values.std().item() / count**0.5:.2g}" if count > 1 else mean
