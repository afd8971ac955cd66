"""What is given beside x: real numbers, or a label."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import InputError, check_at_least


class Condition(nn.Module):
    """c as networks take it, ``(..., C)``: real numbers as they are; whole numbers, labels, as rows of the identity.

    Args:
        classes: C, the number of labels, which count from 0; None where c is real.

    Example:
        >>> Condition(3)(torch.tensor([2, 0]))
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
    """

    one_hot: Tensor | None

    def __init__(self, classes: int | None) -> None:
        super().__init__()
        rows = None if classes is None else torch.eye(check_at_least(1, "classes", classes))
        self.register_buffer("one_hot", rows, persistent=False)

    def forward(self, c: Tensor) -> Tensor:
        """From real numbers ``(..., C)``, or labels ``(...)``.

        Raises:
            InputError: labels, but no number of classes; or a label that is not one of them.
        """
        if c.is_floating_point():
            return c
        if self.one_hot is None:
            raise InputError(
                f"c is real numbers, (B, C); these are {str(c.dtype).removeprefix('torch.')}.\n"
                "  If they are labels, say how many there are: classes=10. If not, use c.float()."
            )
        try:
            return functional.embedding(c.long(), self.one_hot)  # unlike an index, it refuses a label of -1
        except IndexError as error:
            raise InputError(
                f"Labels of {len(self.one_hot)} classes count from 0 to {len(self.one_hot) - 1}; these reach from "
                f"{c.min()} to {c.max()}."
            ) from error


def beside(v: Tensor, c: Tensor) -> Tensor:
    """v ``(..., V)`` and c ``(..., C)`` in one vector, ``(..., V + C)``; their leading dimensions are broadcast."""
    shape = torch.broadcast_shapes(v.shape[:-1], c.shape[:-1])
    return torch.cat([v.expand(*shape, -1), c.expand(*shape, -1)], -1)
