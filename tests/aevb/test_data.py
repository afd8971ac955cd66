"""Data sets: what a split holds, what a batch is, what is refused."""

import gzip
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits

from aevb.data import BINARISATIONS, DATA_SETS, DataSet, Split, load
from aevb.data.named.binarized_mnist import TEST_ORDER
from aevb.models import InputError


def stored(split: Split) -> torch.Tensor:
    return split.pixels if split.rows is None else split.pixels[split.rows]


def everything(data: DataSet) -> torch.Tensor:
    return torch.cat([stored(split) for split in data])


def test_digits_are_scikit_learns_as_uint8_each_once() -> None:
    data = load("digits", binarisation="none")
    assert data.train.pixels.dtype == torch.uint8
    assert (len(data.train), len(data.test), data.validation) == (1437, 360, None)
    expected = torch.from_numpy(load_digits().data).to(torch.uint8)
    assert sorted(everything(data).tolist()) == sorted(expected.tolist())
    assert data.how == "random order, seed 0: 1,437 train, 0 validation, 360 test"
    assert data.train.labels is not None
    image = stored(data.train)[0]
    row = (expected == image).all(1).nonzero()[0, 0]
    assert load_digits().target[row] == data.train.labels[0]


def test_batches_are_floats_between_zero_and_one() -> None:
    data = load("digits", binarisation="none")
    batch = data.train.batch(torch.tensor([3, 1]))
    assert batch.dtype == torch.float32
    assert torch.equal(batch, stored(data.train)[[3, 1]] / 16)
    assert everything(data).max() == data.train.maximum == 16


def test_dynamic_binarisation_draws_anew_with_the_grey_values_as_means() -> None:
    split = load("digits").train.take(torch.zeros(20_000, dtype=torch.long))
    generator = torch.Generator().manual_seed(0)
    draws = split.batch(torch.arange(20_000), generator)
    grey = stored(split)[0] / 16
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    error = (grey * (1 - grey) / 20_000).sqrt()
    assert ((draws.mean(0) - grey).abs() <= 4.5 * error).all()  # a bias of 0.016 in any pixel would be seen
    assert not torch.equal(draws, split.batch(torch.arange(20_000), generator))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_are_those_that_torch_draws(dtype: torch.dtype) -> None:
    ours, torchs = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    train, grey = (load("digits", binarisation=kind).train for kind in ("dynamic", "none"))
    indices = torch.arange(300)
    torch.set_default_dtype(dtype)
    try:
        drawn, chances = train.batch(indices, ours), grey.batch(indices)
    finally:
        torch.set_default_dtype(torch.float32)
    assert drawn.dtype == dtype
    assert torch.equal(drawn, torch.bernoulli(chances, generator=torchs))
    assert torch.equal(ours.get_state(), torchs.get_state())


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


def test_labels_come_with_their_images_which_are_binarised_as_without_them() -> None:
    digits = load("digits")
    for part in digits:
        labelled, indices = part.labelled(), torch.tensor([5, 0, 7])
        x, labels = labelled.batch(indices, torch.Generator().manual_seed(1))
        assert torch.equal(x, part.batch(indices, torch.Generator().manual_seed(1)))
        assert part.labels is not None
        assert labels.dtype == torch.int64
        assert torch.equal(labels, part.labels[indices])
        assert len(labelled) == len(part)
        moved = labelled.to(torch.device("cpu"))
        assert torch.equal(moved.batch(indices, torch.Generator().manual_seed(1))[1], labels)
    few = digits.test.take(torch.tensor([3, 1])).labelled()
    assert torch.equal(few.labels, digits.test.labelled().labels[[3, 1]])
    with pytest.raises(InputError, match=r"no labels. Give those of an array: load\(array, labels=\.\.\.\)"):
        load(np.zeros((20, 3))).train.labelled()


def test_few_labels_of_each_class_are_kept() -> None:
    train = load("digits").train
    known = train.labelled(per_class=3, seed=1).labels
    assert torch.equal(known[known >= 0].bincount(), torch.full((10,), 3))
    assert train.labels is not None
    assert torch.equal(known[known >= 0], train.labels[known >= 0].long())
    assert torch.equal(known, train.labelled(per_class=3, seed=1).labels)
    assert not torch.equal(known, train.labelled(per_class=3, seed=2).labels)
    with pytest.raises(InputError, match=r"There are \d+ data of class \d; per_class is 5000"):
        train.labelled(per_class=5000)


def test_fixed_binarisation_draws_training_data_once() -> None:
    train = load("digits", binarisation="fixed").train
    assert torch.equal(train.batch(torch.arange(5)), train.batch(torch.arange(5)))
    assert set(train.pixels.unique().tolist()) == {0, 1}


def test_relaxed_keeps_grey_values() -> None:
    data = load("digits", binarisation="relaxed")
    assert torch.equal(data.test.batch(torch.arange(5)), stored(data.test)[:5] / 16)


@pytest.mark.parametrize(
    ("array", "maximum", "binarisation"),
    [
        (np.arange(60, dtype=np.uint8).reshape(20, 3), 59.0, "dynamic"),
        (np.arange(60).reshape(20, 3), 59.0, "dynamic"),
        (np.linspace(0, 1, 60).reshape(20, 3), 1.0, "dynamic"),
        (np.linspace(-1, 1, 60).reshape(20, 3), None, "none"),
        (np.eye(20, dtype=bool), 1.0, "dynamic"),
        (np.arange(60, dtype=np.uint16).reshape(20, 3) * 1000, 59000.0, "dynamic"),
        (np.linspace(-1, 1, 60).reshape(20, 3).astype(">f8"), None, "none"),
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
        ("digit", {}, r"There is no data set \(or file\) 'digit'. Did you mean digits\?"),
        ("nowhere.npy", {}, "There is no file nowhere.npy"),
        (__file__, {}, "is not a kind of file that holds images: .npy, .npz, .mat, or a folder of pictures."),
        ("digits", {"binarisation": "dynamik"}, "There is no binarisation 'dynamik'"),
        ("digits", {"validation": 1.0}, "validation is a share of the training data"),
        (nan_at(7, 3), {}, "pixels are finite, but row 7, pixel 3 is nan"),
        (nan_at(7, 3, np.inf).reshape(20, 2, 3), {}, "pixels are finite, but row 7, pixel 3 is inf"),
        (nan_at(7, 3, 1.5), {"binarisation": "dynamic"}, r"needs pixels in \[0, 1\], but row 7, pixel 3 is 1.5"),
        (np.full((20, 3), -1), {}, "count from 0, but row 0, pixel 0 is -1"),
        (np.array([["a"]]), {}, "holds <U1, not numbers"),
        (np.zeros((20, 3), complex), {}, "holds complex128, not numbers"),
        (np.zeros(20), {}, r"has shape \(20,\); data are rows of pixels"),
        (np.zeros((0, 3)), {}, r"has shape \(0, 3\): too few to split"),
        (np.zeros((10, 3)), {"validation": 0.99}, "train split is empty"),
        (np.zeros((20, 0)), {}, r"has shape \(20, 0\)"),
        (np.zeros((20, 3)), {"seed": -1}, "seed is a whole number"),
        (np.zeros((20, 3)), {"labels": torch.zeros(3)}, "has 20 rows and 3 labels"),
    ],
)
def test_what_cannot_be_used_is_named(data: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(data, **settings)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
@pytest.mark.parametrize("damage", ["empty", "cut", "altered", "other"])
def test_a_damaged_file_is_named(suffix: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / f"images{suffix}"
    array = np.random.default_rng(0).integers(0, 255, (20, 8, 8), np.uint8)
    write = {
        ".npy": np.save,
        ".npz": np.savez_compressed,
        ".mat": lambda p, a: savemat(p, {"a": a}, do_compression=True),
    }
    write[suffix](path, array)
    whole = path.read_bytes()
    middle = len(whole) // 2
    altered = (
        whole[:10] + bytes(20) + whole[30:] if suffix == ".npy" else whole[:middle] + bytes(40) + whole[middle + 40 :]
    )
    path.write_bytes({"empty": b"", "cut": whole[:-200], "altered": altered, "other": b"no array at all"}[damage])
    with pytest.raises(InputError, match=rf"images{suffix} (cannot be read as an array|is not an .npz archive)"):
        load(path)


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "objects.npy"
    np.save(path, np.array([object()]), allow_pickle=True)
    with pytest.raises(InputError, match=r"cannot be read as an array.*Python objects"):
        load(path)


def test_all_binarisations_are_described() -> None:
    assert set(BINARISATIONS) == {"dynamic", "fixed", "relaxed", "none"}


# --- files of one's own ----------------------------------------------------------------------------------------------


def test_a_npy_file_is_mapped_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.arange(4000, dtype=np.uint8).reshape(1000, 4))
    data = load(tmp_path / "mine.npy", binarisation="none")
    mapped = np.load(tmp_path / "mine.npy", mmap_mode="r+")
    row = int(data.train.rows[0])  # type: ignore[index]
    mapped[row] = 255
    mapped.flush()
    assert data.train.batch(torch.tensor([0])).eq(1).all()


def test_the_only_array_of_images_in_an_archive_is_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", images=np.zeros((10, 2, 3), np.uint8), labels=np.arange(10))
    savemat(tmp_path / "one.mat", {"images": np.zeros((10, 6)), "label": "face"})
    assert load(tmp_path / "one.npz").shape == (2, 3)
    assert load(tmp_path / "one.mat").shape == (6,)


def test_of_several_arrays_one_is_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    np.savez(path, a=np.zeros((10, 2)), b=np.zeros((20, 3)))
    with pytest.raises(InputError) as error:
        load(path)
    assert f"{path} holds several arrays: a (10, 2) float64, b (20, 3) float64. Choose one: {path}:array=a." in str(
        error
    )
    assert load(f"{path}:array=b").shape == (3,)
    with pytest.raises(InputError, match=r"There is no array in .*two\.npz 'c'"):
        load(f"{path}:array=c")


def test_an_archive_without_images_says_what_it_holds(tmp_path: Path) -> None:
    savemat(tmp_path / "none.mat", {"name": "face", "scalar": 3.0})
    with pytest.raises(
        InputError, match=r"none.mat has no array of images \(rows of numbers\); it holds name \(1,\) <U4"
    ):
        load(tmp_path / "none.mat")


def pictures(folder: Path, size: tuple[int, int] = (4, 3)) -> Path:
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", size, (number, number, number)).save(folder / label / f"{number}.png")
    return folder


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    data = load(pictures(tmp_path / "pets"), binarisation="none")
    assert (data.shape, len(data.train), len(data.test), data.train.maximum) == ((3, 4), 8, 2, 255.0)
    assert sorted(everything(data)[:, 0].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert data.train.labels is not None
    assert set(data.train.labels.tolist()) == {0, 1}


def test_pictures_of_different_sizes_are_named(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pets")
    Image.new("L", (5, 5)).save(folder / "dog" / "9.png")
    with pytest.raises(InputError, match=r"but .*dog.9\.png is 5x5 and .*cat.0\.png is 4x3"):
        load(folder)


def test_a_broken_picture_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty has no pictures"):
        load(tmp_path / "empty")
    folder = pictures(tmp_path / "pets")
    (folder / "dog" / "9.png").write_bytes((folder / "dog" / "1.png").read_bytes()[:40])
    with pytest.raises(InputError, match=r"9\.png is not a picture, or it is cut short"):
        load(folder)


# --- named data sets -------------------------------------------------------------------------------------------------

SETS = {
    "mnist": ((60_000, None, 10_000), (28, 28), "dynamic"),
    "fashion_mnist": ((60_000, None, 10_000), (28, 28), "dynamic"),
    "binarized_mnist": ((50_000, 10_000, 10_000), (28, 28), "fixed"),
    "frey_faces": ((1572, None, 393), (28, 20), "dynamic"),
    "digits": ((1437, None, 360), (8, 8), "dynamic"),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_named_set_loads_without_a_network(name: str, shared_data: Path) -> None:
    data = load(name)
    sizes = len(data.train), data.validation and len(data.validation), len(data.test)
    assert (sizes, data.shape, data.binarisation) == SETS[name]
    assert stored(data.train).dtype == torch.uint8
    assert data.train.batch(torch.arange(3)).shape == (3, data.pixels)


def test_mnist_is_the_mnist_that_everybody_knows(shared_data: Path) -> None:
    data = load("mnist", binarisation="none")
    assert data.train.labels is not None
    assert data.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.train.batch(torch.arange(60_000)).mean().item() == pytest.approx(0.1307, abs=1e-4)
    part = load("mnist", validation=0.1)
    assert part.validation is not None
    assert (len(part.train), len(part.validation)) == (54_000, 6_000)
    assert not set(part.train.rows.tolist()) & set(range(60_000, 70_000))  # type: ignore[union-attr]


def test_binarized_mnist_is_black_and_white_and_stays_so(shared_data: Path) -> None:
    data = load("binarized_mnist")
    assert set(everything(data).unique().tolist()) == {0, 1}
    with pytest.raises(InputError, match="binarised once and for all; it is used with --binarisation fixed"):
        load("binarized_mnist", binarisation="dynamic")


def test_the_first_test_digits_of_binarized_mnist_are_of_all_classes(shared_data: Path) -> None:
    labels = load("mnist").test.labels
    assert labels is not None
    order = labels.argsort(stable=True)[TEST_ORDER]
    grey, drawn = (load(name, binarisation=way).test for name, way in (("mnist", "none"), ("binarized_mnist", "fixed")))
    chance, x = grey.batch(order), drawn.batch(torch.arange(10_000))
    assert ((x - chance).abs() < 1).all()  # each is the digit that the order says: no pixel that it could not have
    assert (labels[order[:1000]].bincount() - labels.bincount() / 10).abs().max() < 4


def test_frey_faces_are_split_in_time_unless_told_otherwise(shared_data: Path) -> None:
    data = load("frey_faces", binarisation="none")
    assert data.train.rows is not None
    assert data.test.rows is not None
    assert data.train.rows.max() < data.test.rows.min()
    assert load("frey_faces:split=random").how.startswith("random order, seed 0")
    with pytest.raises(InputError, match=r"There is no frey_faces:split 'rnd'\. Did you mean random"):
        load("frey_faces:split=rnd")


def packed_copy(shared_data: Path, folder: Path, unpack: bool) -> Path:
    (folder / "MNIST" / "raw").mkdir(parents=True)
    for source in (shared_data / "MNIST" / "raw").glob("*.gz"):
        target = folder / "MNIST" / "raw" / source.name
        if unpack:
            target.with_suffix("").write_bytes(gzip.decompress(source.read_bytes()))
        else:
            shutil.copyfile(source, target)
    return folder / "MNIST" / "raw"


@pytest.mark.parametrize("unpack", [False, True])
def test_packed_or_unpacked_in_a_folder_that_is_only_read(
    unpack: bool, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = packed_copy(shared_data, tmp_path, unpack)
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    raw.chmod(0o555)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert len(load("mnist").train) == 60_000
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    raw.chmod(0o755)


def test_a_cut_or_altered_file_is_named(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = packed_copy(shared_data, tmp_path, unpack=False)
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    images = raw / "t10k-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    images.write_bytes(whole[:-1000])
    with pytest.raises(
        InputError, match=r"t10k-images-idx3-ubyte.gz is cut short or damaged .*fetch it again from http"
    ):
        load("mnist")
    content = bytearray(gzip.decompress(whole))
    content[5000] ^= 1
    images.write_bytes(gzip.compress(bytes(content), 1))
    with pytest.raises(
        InputError, match=r"t10k-images-idx3-ubyte.gz is not the file that it should be.* 0fa7898d509279e4"
    ):
        load("mnist")
    fashion = shared_data / "FashionMNIST" / "raw" / images.name
    images.write_bytes(fashion.read_bytes())
    with pytest.raises(InputError, match="is not the file that it should be"):
        load("mnist")
    assert hashlib.sha256(gzip.decompress(whole)).hexdigest().startswith("0fa7898d509279e4")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "binarized_mnist", "frey_faces"])
def test_without_data_and_network_the_error_says_what_goes_where(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    with pytest.raises(InputError) as error:
        load(name)
    text = str(error.value)
    assert text.startswith(f"{name} is not in {tmp_path}, and could not be fetched")
    assert {"mnist": "MNIST/raw/train-images-idx3-ubyte", "frey_faces": "frey_rawface.mat"}.get(name, "") in text
    assert "They come from http" in text


def test_what_is_missing_is_fetched_through_torchvision(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Served:
        """MNIST's server, from a folder."""

        mirrors = ("http://example.org/",)

        def __init__(self, root: Path, download: bool) -> None:
            assert download
            packed_copy(shared_data, Path(root), unpack=False)

    monkeypatch.setattr("torchvision.datasets.MNIST", Served)
    monkeypatch.setenv("AEVB_DATA", str(tmp_path / "new"))
    assert len(load("mnist").train) == 60_000
    assert os.listdir(tmp_path / "new") == ["MNIST"]
