"""Networks that know that their pixels are an image."""

import math
from itertools import pairwise
from typing import Any, Self

from torch import Tensor, nn

from ..errors import InputError, check_at_least
from .activations import Activation, Initialisation, before, initialise, make_activation
from .mlp import MLP
from .network import Network

Shape = tuple[int, int, int]


class Conv(Network):
    r"""Convolutions that halve an image, then fully connected layers.

    From ``(..., P)`` to ``(..., outputs)``:
    h_l = f(W_l * h_(l-1) + b_l), taken at every second pixel, with W_l of 4x4; h_0 is the image, ``(C, H, W)``, and
    h_l is ``(2^(l-1) channels, floor(H / 2^l), floor(W / 2^l))``. An :class:`MLP` takes the last, flattened.

    Radford, Metz and Chintala (2016), Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks, section 3, https://arxiv.org/abs/1511.06434: strides in place of pooling. Their batch
    normalisation is left out, since with it the bound of a datum would depend on the others of its batch; hidden
    layers stay. The mirror is :class:`ConvTransposed`. Leading dimensions are batch dimensions.

    Args:
        shape: of an image, ``(H, W)`` or ``(C, H, W)``; P = C H W, and rows are flattened in this order.
        sizes: hidden units of each fully connected layer, outputs.
        channels: of the first convolution; each further one has twice as many.
        layers: how many convolutions; each side of the image is to have 2^layers pixels or more.
        activation: f, as of :class:`MLP`; ``gated``: between channels.
        initialisation: as of :class:`MLP`.

    Example:
        >>> import torch
        >>> network = Conv((28, 20), 200, 2 * 10)   # 1x28x20, 32x14x10, 64x7x5, 200, 20
        >>> network(torch.zeros(3, 5, 560)).shape
        torch.Size([3, 5, 20])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *sizes: int,
        channels: int = 32,
        layers: int = 2,
        activation: Activation = "tanh",
        initialisation: Initialisation = "torch",
    ) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise InputError(f"Conv takes positive sizes, at least one, the outputs; it got {sizes}.")
        self.shapes = _shapes(_image(shape), channels, layers)
        steps: list[nn.Module] = []
        for (inputs, *_), (outputs, *_) in pairwise(self.shapes):
            steps += [_halving(inputs, before(activation, outputs)), make_activation(activation, -3)]
        self.convolutions = nn.Sequential(*steps)
        initialise(self.convolutions, initialisation)
        flat = math.prod(self.shapes[-1])
        self.dense = MLP(flat, *sizes, activation=activation, initialisation=initialisation)

    @classmethod
    def encoder(cls, shape: tuple[int, ...], *sizes: int, **options: Any) -> Self:
        """From images of that shape; sizes: hidden units of each layer, outputs."""
        return cls(shape, *sizes, **options)

    @classmethod
    def decoder(cls, shape: tuple[int, ...], *sizes: int, **options: Any) -> "ConvTransposed":
        """To images of that shape; sizes: inputs, hidden units of each layer, outputs."""
        return ConvTransposed(shape, *sizes, **options)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., outputs)``, from images as rows, ``(..., P)``.

        Raises:
            InputError: the rows are of another length.
        """
        first, last = self.shapes[0], self.shapes[-1]
        if x.shape[-1] != math.prod(first):
            raise InputError(f"Conv takes {_said(first)} images as rows of {math.prod(first)}; x is {tuple(x.shape)}.")
        maps = self.convolutions(x.reshape(x.shape[:-1].numel(), *first))
        return self.dense(maps.reshape(*x.shape[:-1], math.prod(last)))


class ConvTransposed(nn.Module):
    r"""The mirror of :class:`Conv`: fully connected layers, then convolutions that double an image.

    From ``(..., inputs)`` to ``(..., outputs)``, through the shapes of :class:`Conv` upwards: h_n = f(MLP(z)), then
    h_(l-1) = f(W_l' h_l + b_l), W_l' the transpose of a convolution that halves, and without f at the image, h_0. Odd
    sides are met by a pixel more at the end. h_0 has as many channels as outputs / (H W), and is flattened channel by
    channel: P numbers of each kind, one kind after the other, as a likelihood takes them.

    Radford, Metz and Chintala (2016), Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks, section 3, https://arxiv.org/abs/1511.06434. Leading dimensions are batch dimensions.

    Args:
        shape: of an image, ``(H, W)`` or ``(C, H, W)``; P = C H W.
        sizes: inputs, hidden units of each fully connected layer, outputs, which are a multiple of P.
        channels: of the last hidden map; each one before it has twice as many.
        layers: how many convolutions; each side of the image is to have 2^layers pixels or more.
        activation: f, as of :class:`MLP`; ``gated``: between channels.
        initialisation: as of :class:`MLP`.

    Example:
        >>> import torch
        >>> from aevb.models import VAE, Gaussian, StandardNormal
        >>> likelihood = Gaussian()
        >>> decoder = ConvTransposed((28, 20), 10, 200, likelihood.outputs(560))   # 10, 200, 64x7x5, 32x14x10, 2x28x20
        >>> VAE(StandardNormal(10), decoder, likelihood).sample(3).shape
        torch.Size([3, 560])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *sizes: int,
        channels: int = 32,
        layers: int = 2,
        activation: Activation = "tanh",
        initialisation: Initialisation = "torch",
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise InputError(f"ConvTransposed takes at least two positive sizes, inputs and outputs; it got {sizes}.")
        colours, height, width = _image(shape)
        kinds, rest = divmod(sizes[-1], colours * height * width)
        if rest:
            raise InputError(
                f"The outputs of ConvTransposed are a multiple of the {colours * height * width} pixels of a "
                f"{_said((colours, height, width))} image; they are {sizes[-1]}."
            )
        self.shapes = _shapes((kinds * colours, height, width), channels, layers)[::-1]
        self.first = (before(activation, self.shapes[0][0]), *self.shapes[0][1:])
        self.dense = MLP(*sizes[:-1], math.prod(self.first), activation=activation, initialisation=initialisation)
        steps = [make_activation(activation, -3)]
        for (inputs, *_), (outputs, *size) in pairwise(self.shapes[:-1]):
            steps += [_doubling(inputs, before(activation, outputs), *size), make_activation(activation, -3)]
        self.convolutions = nn.Sequential(*steps, _doubling(self.shapes[-2][0], *self.shapes[-1]))
        initialise(self.convolutions, initialisation)

    def forward(self, z: Tensor) -> Tensor:
        """``(..., outputs)``, from ``(..., inputs)``."""
        maps = self.dense(z).reshape(z.shape[:-1].numel(), *self.first)
        return self.convolutions(maps).reshape(*z.shape[:-1], math.prod(self.shapes[-1]))


def _halving(inputs: int, outputs: int) -> nn.Conv2d:
    """From sides of H to floor(H / 2). The kernel is whole strides wide, so that inside no pixel is seen more often
    than its neighbours."""
    return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)


def _doubling(inputs: int, outputs: int, height: int, width: int) -> nn.ConvTranspose2d:
    """From floor(H / 2) back to H, even or odd."""
    odd = height % 2, width % 2
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, output_padding=odd)


def _image(shape: tuple[int, ...]) -> Shape:
    """``(C, H, W)``, the channel being written where it was not."""
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise InputError(
            f"Convolutions are for images of (height, width) or (channels, height, width); these are {shape}.\n"
            "  Use --network MLP for what is no image."
        )
    channels, height, width = (1, *shape) if len(shape) == 2 else shape
    return channels, height, width


def _shapes(image: Shape, channels: int, layers: int) -> list[Shape]:
    """Of the image and of what each layer makes of it."""
    check_at_least(1, "channels", channels)
    check_at_least(1, "layers", layers)
    _, height, width = image
    most = min(height, width).bit_length() - 1
    if layers > most:
        raise InputError(
            f"Each layer halves height and width, which images of {_said(image)}, channels first, allow {most} times; "
            f"layers is {layers}.\n  Use {f'layers={most} or fewer' if most else '--network MLP'}."
        )
    return [image, *((channels << n, height >> n + 1, width >> n + 1) for n in range(layers))]


def _said(shape: Shape) -> str:
    return "x".join(map(str, shape))
