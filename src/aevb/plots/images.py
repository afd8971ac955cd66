"""Images: samples, reconstructions, the manifold, interpolations."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..models import VAE
from .style import STYLE


def colours(images: Tensor) -> str:
    """Bright pictures as they are; what is drawn on black is shown as ink on paper."""
    return "gray" if images.mean() > 0.5 else "gray_r"


def image_rows(rows: dict[str, Tensor], shape: Sequence[int]) -> Figure:
    """Labelled rows of images, each ``(count, P)``; the first row decides how they are shown."""
    count = max(len(images) for images in rows.values())
    cmap = colours(next(iter(rows.values())))
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(9, 0.3 + 0.8 * len(rows) * 12 / count))
        grid = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        for axis, (label, images) in zip(grid, rows.items(), strict=True):
            _strip(axis, images, shape, cmap)
            axis.set_title(label, loc="left", fontsize=9)
    return figure


@torch.no_grad()
def manifold(model: VAE, shape: Sequence[int], count: int = 20) -> Figure:
    """The mean of p(x|z) on a grid of z at equal quantiles of a standard normal, for two latents.

    Kingma and Welling (2013), Auto-Encoding Variational Bayes, figure 4.
    """
    quantiles = torch.linspace(0.5 / count, 1 - 0.5 / count, count, dtype=torch.float64)
    z = torch.distributions.Normal(0.0, 1.0).icdf(quantiles).to(torch.get_default_dtype())
    grid = torch.stack(torch.meshgrid(z, z.flip(0), indexing="xy"), -1).reshape(-1, 2)  # upwards is larger
    images = model.decode(grid).mean
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(7, 7))
        axis = figure.subplots()
        rows = [np.pad(canvas(part, shape), ((0, 1), (0, 0))) for part in images.split(count)]
        axis.imshow(np.concatenate(rows), cmap=colours(images), interpolation="nearest")
        axis.set_axis_off()
    return figure


@torch.no_grad()
def between(model: VAE, starts: Tensor, ends: Tensor, count: int = 12) -> Tensor:
    """The mean of p(x|z) on straight lines between codes ``(R, D)``: ``(R, count, P)``."""
    share = torch.linspace(0, 1, count).unsqueeze(-1)
    return model.decode(starts.unsqueeze(1) * (1 - share) + ends.unsqueeze(1) * share).mean


def _strip(axis: Axes, images: Tensor, shape: Sequence[int], cmap: str) -> None:
    pixels = canvas(images, shape)
    axis.imshow(pixels, cmap=cmap, interpolation="nearest", vmin=0, vmax=max(1.0, float(pixels.max())))
    axis.set_axis_off()


def canvas(images: Tensor, shape: Sequence[int]) -> np.ndarray:
    """Images side by side, ``(height, count * width)``; rows without a shape become nearly square."""
    height, width = shape if len(shape) == 2 else _nearly_square(images.shape[1])
    joined = np.zeros((height, len(images) * (width + 1) - 1))
    for i, image in enumerate(images):
        pixels = np.zeros(height * width)
        pixels[: len(image)] = image
        joined[:, i * (width + 1) : i * (width + 1) + width] = pixels.reshape(height, width)
    return joined


def _nearly_square(pixels: int) -> tuple[int, int]:
    width = math.ceil(math.sqrt(pixels))
    return math.ceil(pixels / width), width
