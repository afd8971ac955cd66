"""Data sets: what a split holds, what a batch is, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from aevb.data import BINARISATIONS, DataSet, load
from aevb.models import InputError


def everything(data: DataSet) -> torch.Tensor:
    return torch.cat([split.pixels for split in data])


def test_digits_are_scikit_learns_as_uint8_each_once() -> None:
    data = load("digits", binarisation="none")
    assert data.train.pixels.dtype == torch.uint8
    assert (len(data.train), len(data.test), data.validation) == (1437, 360, None)
    expected = torch.from_numpy(load_digits().data).to(torch.uint8)
    assert sorted(everything(data).tolist()) == sorted(expected.tolist())
    assert data.how == "random order, seed 0: 1,437 train, 0 validation, 360 test"
    assert data.train.labels is not None
    image = data.train.pixels[0]
    row = (expected == image).all(1).nonzero()[0, 0]
    assert load_digits().target[row] == data.train.labels[0]


def test_batches_are_floats_between_zero_and_one() -> None:
    data = load("digits", binarisation="none")
    batch = data.train.batch(torch.tensor([3, 1]))
    assert batch.dtype == torch.float32
    assert torch.equal(batch, data.train.pixels[[3, 1]] / 16)
    assert everything(data).max() == data.train.maximum == 16


def test_dynamic_binarisation_draws_anew_with_the_grey_values_as_means() -> None:
    split = load("digits").train.take(torch.zeros(20_000, dtype=torch.long))
    generator = torch.Generator().manual_seed(0)
    draws = split.batch(torch.arange(20_000), generator)
    grey = split.pixels[0] / 16
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    error = (grey * (1 - grey) / 20_000).sqrt()
    assert ((draws.mean(0) - grey).abs() <= 4.5 * error).all()  # a bias of 0.016 in any pixel would be seen
    assert not torch.equal(draws, split.batch(torch.arange(20_000), generator))


def test_held_out_data_are_binarised_once_by_the_recorded_seed() -> None:
    data, again, other = load("digits", validation=0.1), load("digits", validation=0.1), load("digits", seed=1)
    assert data.validation is not None
    assert len(data.validation) == 144
    for split in (data.validation, data.test):
        assert torch.equal(split.batch(torch.arange(5)), split.batch(torch.arange(5)))
        assert set(split.pixels.unique().tolist()) == {0, 1}
    assert torch.equal(data.test.pixels, again.test.pixels)
    assert not torch.equal(data.test.pixels, other.test.pixels)
    assert data.binarisation_seed == 0


def test_fixed_binarisation_draws_training_data_once() -> None:
    train = load("digits", binarisation="fixed").train
    assert torch.equal(train.batch(torch.arange(5)), train.batch(torch.arange(5)))
    assert set(train.pixels.unique().tolist()) == {0, 1}


def test_relaxed_keeps_grey_values() -> None:
    data = load("digits", binarisation="relaxed")
    assert torch.equal(data.test.batch(torch.arange(5)), data.test.pixels[:5] / 16)


@pytest.mark.parametrize(
    ("array", "maximum", "binarisation"),
    [
        (np.arange(60, dtype=np.uint8).reshape(20, 3), 59.0, "dynamic"),
        (np.arange(60).reshape(20, 3), 59.0, "dynamic"),
        (np.linspace(0, 1, 60).reshape(20, 3), 1.0, "dynamic"),
        (np.linspace(-1, 1, 60).reshape(20, 3), None, "none"),
        (np.eye(20, dtype=bool), 1.0, "dynamic"),
        (torch.zeros(20, 2, 3), 1.0, "dynamic"),
    ],
)
def test_arrays_of_ones_own(array: Any, maximum: float | None, binarisation: str) -> None:
    data = load(array)
    assert (data.train.maximum, data.binarisation) == (maximum, binarisation)
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.shape == tuple(array.shape[1:])
    assert data.pixels == array[0].size if isinstance(array, np.ndarray) else array[0].numel()


def test_a_npy_file(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.full((10, 4, 5), 7, np.uint8))
    data = load(tmp_path / "mine.npy")
    assert (data.shape, data.pixels, data.train.maximum) == ((4, 5), 20, 7.0)


def nan_at(row: int, pixel: int, value: float = np.nan) -> np.ndarray[Any, Any]:
    array = np.full((20, 6), 0.5)
    array[row, pixel] = value
    return array


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ("digit", {}, r"There is no data set \(or .npy file\) 'digit'. Did you mean digits\?"),
        ("nowhere.npy", {}, "There is no file nowhere.npy"),
        (__file__, {}, "is not a .npy file. Data are one of digits, or the path of a .npy file."),
        ("digits", {"binarisation": "dynamik"}, "There is no binarisation 'dynamik'"),
        ("digits", {"validation": 1.0}, "validation is a share of the training data"),
        (nan_at(7, 3), {}, "pixels are finite, but row 7, pixel 3 is nan"),
        (nan_at(7, 3, np.inf).reshape(20, 2, 3), {}, "pixels are finite, but row 7, pixel 3 is inf"),
        (nan_at(7, 3, 1.5), {"binarisation": "dynamic"}, r"needs pixels in \[0, 1\], but row 7, pixel 3 is 1.5"),
        (np.full((20, 3), -1), {}, "count from 0, but row 0, pixel 0 is -1"),
        (np.array([["a"]]), {}, "holds <U1, not numbers"),
        (np.zeros((20, 3), complex), {}, "holds complex128, not numbers"),
        (np.zeros(20), {}, r"has shape \(20,\); data are rows of pixels"),
        (np.zeros((0, 3)), {}, "has 0 rows, too few to split"),
        (np.zeros((2, 3)), {"validation": 0.9}, "train split is empty"),
    ],
)
def test_what_cannot_be_used_is_named(data: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(data, **settings)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array at all"])
def test_a_broken_npy_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken.npy cannot be read as an array"):
        load(path)


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "objects.npy"
    np.save(path, np.array([object()]), allow_pickle=True)
    with pytest.raises(InputError, match=r"cannot be read as an array: .*Python objects"):
        load(path)


def test_all_binarisations_are_described() -> None:
    assert set(BINARISATIONS) == {"dynamic", "fixed", "relaxed", "none"}
