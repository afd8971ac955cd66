"""Convolutional networks: the formula, the shapes, and that what they see are images."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from aevb.guides import AmortizedNormal
from aevb.inference import fit
from aevb.models import VAE, Bernoulli, Categorical, Conv, ConvTransposed, Gaussian, InputError, StandardNormal
from aevb.models.networks.activations import Activation

SIZES = [(8, 8), (28, 28), (28, 20), (7, 5), (9, 16), (4, 4), (5, 31), (3, 11, 6)]


def pixels(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def halved(v: Tensor, layer: nn.Conv2d) -> Tensor:
    """Every second window of 4x4, a pixel of zeros around the image, times the weights: ``(C, H, W)``."""
    v = pad(v, (1, 1, 1, 1))
    rows, columns = (range(0, side - 3, 2) for side in v.shape[1:])
    windows = torch.stack([torch.stack([v[:, i : i + 4, j : j + 4] for j in columns]) for i in rows])
    return torch.einsum("ocij,hwcij->ohw", layer.weight, windows) + layer.bias[:, None, None]  # type: ignore[index]


@pytest.mark.parametrize("shape", [(8, 8), (7, 5), (2, 5, 6)])
def test_conv_is_its_formula(shape: tuple[int, ...], float64: None) -> None:
    network, x = Conv(shape, 3, 2, channels=3), torch.randn(pixels(shape))
    one, _, two, _ = network.convolutions
    assert isinstance(one, nn.Conv2d)
    assert isinstance(two, nn.Conv2d)
    maps = halved(halved(x.reshape(-1, *shape[-2:]), one).tanh(), two).tanh()
    w1, b1, w2, b2 = network.dense.parameters()
    expected = torch.tanh(maps.flatten() @ w1.T + b1) @ w2.T + b2
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(8, 8), (7, 5), (5, 6)])
def test_a_transposed_convolution_is_the_transpose_of_one_that_halves(shape: tuple[int, int], float64: None) -> None:
    """<W h, v> = <h, W' v> for all h and v: the mirror's map is the matrix of Conv's, turned."""
    up = ConvTransposed(shape, 2, pixels(shape), layers=1, channels=3)
    _, doubling = up.convolutions
    assert isinstance(doubling, nn.ConvTranspose2d)
    down = nn.Conv2d(1, 3, 4)
    with torch.no_grad():
        down.weight.copy_(doubling.weight)
        nn.init.zeros_(down.bias)  # type: ignore[arg-type]
        nn.init.zeros_(doubling.bias)  # type: ignore[arg-type]
    image, maps = torch.randn(1, *shape), torch.randn(3, shape[0] // 2, shape[1] // 2)
    torch.testing.assert_close((halved(image, down) * maps).sum(), (image * doubling(maps)).sum(), rtol=1e-12, atol=0)


def test_conv_transposed_is_its_formula(float64: None) -> None:
    network, z = ConvTransposed((7, 5), 2, 4, 35, channels=3), torch.randn(2)
    w1, b1, w2, b2 = network.dense.parameters()
    _, one, _, two = network.convolutions
    maps = (torch.tanh(z @ w1.T + b1) @ w2.T + b2).reshape(6, 1, 1).tanh()
    expected = two(one(maps).tanh())
    assert one(maps).shape == (3, 3, 2)
    torch.testing.assert_close(network(z), expected.flatten(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("shape", SIZES)
def test_the_mirror_gives_the_shape_back_through_the_same_maps(shape: tuple[int, ...], activation: Activation) -> None:
    p = pixels(shape)
    options: dict[str, Any] = {"channels": 4, "activation": activation}
    down, up = Conv(shape, 6, 5, **options), ConvTransposed(shape, 5, 6, 2 * p, **options)
    assert down.shapes[1:] == up.shapes[-2::-1]
    maps, seen = torch.rand(2, *down.shapes[0]), []
    for layer in down.convolutions:
        maps = layer(maps)
        seen += [tuple(maps.shape[1:])]
    assert seen[1::2] == down.shapes[1:]
    assert down(torch.rand(3, 2, p)).shape == (3, 2, 5)
    assert up(torch.rand(3, 2, 5)).shape == (3, 2, 2 * p)
    loss = up(down(torch.rand(3, 2, p))).square().sum()
    parameters = [*down.parameters(), *up.parameters()]
    for gradient in torch.autograd.grad(loss, parameters):
        assert gradient.isfinite().all()
        assert gradient.any()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_as_many_layers_as_asked_for(layers: int) -> None:
    down, up = Conv((11, 8), 2, layers=layers, channels=2), ConvTransposed((11, 8), 2, 88, layers=layers, channels=2)
    assert sum(isinstance(step, nn.Conv2d) for step in down.convolutions) == layers
    assert sum(isinstance(step, nn.ConvTranspose2d) for step in up.convolutions) == layers
    assert up(down(torch.rand(3, 88))).shape == (3, 88)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(8, 8), (7, 5), (3, 4, 6)])
def test_leading_dimensions_are_data_one_at_a_time(shape: tuple[int, ...], float64: None) -> None:
    p = pixels(shape)
    for network, inputs in ((Conv(shape, 4, 3), p), (ConvTransposed(shape, 3, 4, 2 * p), 3)):
        v = torch.randn(2, 3, 4, inputs)
        together = network(v)
        alone = torch.stack([network(row) for row in v.flatten(0, -2)]).unflatten(0, (2, 3, 4))
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)
        assert torch.equal(together, network(v))
        assert network(v[:, :0]).shape == (2, 0, 4, together.shape[-1])
        expanded = v[:1].expand(5, -1, -1, -1)
        torch.testing.assert_close(network(expanded)[4], together[0], rtol=1e-12, atol=1e-14)


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2])
def test_an_image_moved_by_the_stride_moves_the_map_by_one(layers: int, float64: None) -> None:
    """Inside, where no border is in reach; rows taken for columns, or another width, would not do it."""
    height, width, stride = 24, 32, 2**layers
    network = Conv((height, width), 2, layers=layers, channels=3)
    x = torch.zeros(height, width)
    x[8:14, 10:17] = torch.randn(6, 7)
    here = network.convolutions(x.flatten().reshape(1, height, width))
    for by in ((stride, 0), (0, stride), (stride, 2 * stride)):
        moved = network.convolutions(x.roll(by, (0, 1)).flatten().reshape(1, height, width))
        expected = here.roll((by[0] // stride, by[1] // stride), (1, 2))
        inside = slice(3, -3)
        torch.testing.assert_close(moved[:, inside, inside], expected[:, inside, inside], rtol=1e-12, atol=1e-14)
        assert not torch.allclose(moved, here)


def test_a_feature_sees_the_pixels_around_it_and_no_others(float64: None) -> None:
    """4 pixels of each side with one layer; each further adds 3 strides: 10 with two."""
    height, width = 16, 20
    network = Conv((height, width), 1, layers=2, channels=2)
    x = torch.randn(height * width, requires_grad=True)
    weight = torch.zeros(network.shapes[-1])
    weight[:, 2, 3] = 1
    with torch.no_grad():
        (last,) = [step for step in network.dense if isinstance(step, nn.Linear)]
        last.weight.copy_(weight.reshape(1, -1))
    (gradient,) = torch.autograd.grad(network(x), x)
    seen = torch.zeros(height, width, dtype=torch.bool)
    seen[2 * 4 - 3 : 2 * 4 + 7, 3 * 4 - 3 : 3 * 4 + 7] = True
    assert torch.equal(gradient.reshape(height, width) != 0, seen)


@torch.no_grad()
def test_a_feature_reaches_the_pixels_around_it_and_no_others(float64: None) -> None:
    height, width = 16, 20
    network = ConvTransposed((height, width), 1, 2 * height * width, layers=2, channels=2)
    (first,) = [step for step in network.dense if isinstance(step, nn.Linear)]
    weight = torch.zeros(network.shapes[0])
    weight[:, 2, 3] = 1
    first.weight.copy_(weight.reshape(-1, 1))
    changed = (network(torch.ones(1)) - network(torch.zeros(1))).reshape(2, height, width).abs() > 1e-14
    reached = torch.zeros(height, width, dtype=torch.bool)
    reached[2 * 4 - 3 : 2 * 4 + 7, 3 * 4 - 3 : 3 * 4 + 7] = True
    assert torch.equal(changed, reached.expand(2, -1, -1))


@torch.no_grad()
def test_channels_are_the_kinds_of_numbers_that_a_likelihood_takes(float64: None) -> None:
    """The mean is channel 0 and s channel 1, pixel for pixel; of colours, all of one kind before the next."""
    likelihood, z = Gaussian(), torch.randn(4, 2)
    for shape in ((7, 6), (3, 5, 4)):
        decoder = ConvTransposed(shape, 2, 5, likelihood.outputs(pixels(shape)))
        last = decoder.convolutions[-1]
        assert isinstance(last, nn.ConvTranspose2d)
        p_x = VAE(StandardNormal(2), decoder, likelihood).decode(z)
        last.bias += torch.arange(1.0, 1 + last.out_channels)  # type: ignore[operator]
        moved = VAE(StandardNormal(2), decoder, likelihood).decode(z)
        colours = last.out_channels // 2
        by = torch.arange(1.0, 1 + colours).repeat_interleave(shape[-1] * shape[-2])
        torch.testing.assert_close(moved.mean - p_x.mean, by.expand(4, -1), rtol=1e-10, atol=0)
        excess = (moved.variance - 1e-4).log() - (p_x.variance - 1e-4).log()
        torch.testing.assert_close(excess, (by + colours).expand(4, -1), rtol=1e-8, atol=0)
        image = decoder.convolutions(decoder.dense(z).reshape(4, *decoder.first))
        assert torch.equal(moved.mean, image[:, :colours].flatten(1))


def test_a_decoder_of_grey_levels_has_a_channel_a_level() -> None:
    likelihood = Categorical(levels=5)
    decoder = ConvTransposed((6, 4), 2, likelihood.outputs(24))
    maps = decoder.convolutions(decoder.dense(z := torch.randn(3, 2)).reshape(3, *decoder.first))
    assert maps.shape == (3, 5, 6, 4)
    expected = maps.softmax(1).permute(0, 2, 3, 1).flatten(1, 2)
    torch.testing.assert_close(likelihood(decoder(z)).log_probabilities().exp(), expected)


def pair() -> tuple[VAE, AmortizedNormal]:
    return (
        VAE(StandardNormal(2), ConvTransposed((7, 6), 2, 4, 42, channels=2), Bernoulli()),
        AmortizedNormal(Conv((7, 6), 4, 4, channels=2)),
    )


def test_trained_twice_is_the_same_to_the_last_bit_and_comes_back_from_a_file(tmp_path: Path) -> None:
    x, runs = (torch.rand(60, 42) < 0.4).float(), []
    for _ in range(2):
        torch.manual_seed(0)
        model, guide = pair()
        start = [p.detach().clone() for p in (*model.parameters(), *guide.parameters())]
        history = fit(model, guide, x, estimator="L_B", epochs=3, batch_size=20, device="cpu")
        runs.append((history["train_elbo"], model.state_dict() | guide.state_dict()))
        assert not any(map(torch.equal, start, (*model.parameters(), *guide.parameters())))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in runs[0][1])
    torch.save((model.state_dict(), guide.state_dict()), tmp_path / "pair.pt")
    again = pair()
    for program, state in zip(again, torch.load(tmp_path / "pair.pt", weights_only=True), strict=True):
        program.load_state_dict(state)
    assert torch.equal(again[0].reconstruct(x, again[1]), model.reconstruct(x, guide))


def test_paper_initialisation_reaches_the_convolutions() -> None:
    for network in (
        Conv((8, 8), 200, 20, initialisation="paper"),
        ConvTransposed((8, 8), 20, 200, 64, initialisation="paper"),
    ):
        values = torch.cat([p.flatten() for p in network.convolutions.parameters()])
        n = len(values)
        assert abs(values.mean()) < 4.5 * 0.1 / n**0.5  # standard errors
        assert abs(values.var() - 0.01) < 4.5 * 0.01 * (2 / n) ** 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Conv((64,), 2),
            r"for images of \(height, width\) or .*; these are \(64,\)\.\n  Use --network MLP",
        ),
        (lambda: Conv((0, 8), 2), r"these are \(0, 8\)"),
        (lambda: ConvTransposed((1, 2, 3, 4), 2, 24), r"for images of .*; these are \(1, 2, 3, 4\)"),
        (
            lambda: Conv((8, 6), 2, layers=3),
            r"images of 1x8x6, .* allow 2 times; layers is 3\.\n  Use layers=2",
        ),
        (lambda: ConvTransposed((8, 6), 2, 48, layers=3), r"allow 2 times; layers is 3"),
        (lambda: Conv((1, 64), 2), r"images of 1x1x64, .* 0 times; layers is 2\.\n  Use --network MLP\."),
        (lambda: Conv((8, 8), 2, layers=0), r"layers is at least 1; it is 0"),
        (lambda: Conv((8, 8), 2, channels=0), r"channels is at least 1; it is 0"),
        (lambda: Conv((8, 8)), r"Conv takes positive sizes, at least one, the outputs; it got \(\)"),
        (lambda: ConvTransposed((8, 8), 64), r"at least two positive sizes, inputs and outputs; it got \(64,\)"),
        (lambda: ConvTransposed((8, 8), 2, 65), r"multiple of the 64 pixels of a 1x8x8 image; they are 65"),
        (lambda: Conv((8, 8), 2, activation="tan"), r"no activation 'tan'\. Did you mean tanh"),  # type: ignore[arg-type]
        (lambda: Conv((8, 8), 2)(torch.zeros(3, 63)), r"takes 1x8x8 images as rows of 64; x is \(3, 63\)"),
    ],
)
def test_what_cannot_be_is_said(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
