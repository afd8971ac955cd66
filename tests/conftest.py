"""What every test starts from, and must leave as it was."""

import os
import shutil

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: on a busy machine, threads that wait for each other crawl

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pyro
import pytest
import torch
from torch.distributions import Distribution

from aevb.guides import AmortizedNormal
from aevb.models import MLP, LinearGaussian


def global_state() -> dict[str, object]:
    return {
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "validation of distributions": Distribution._validate_args,
        "Pyro's settings": pyro.settings.get(),
        "matplotlib": dict(mpl.rcParams),
    }


@pytest.fixture(autouse=True)
def no_global_state() -> Iterator[None]:
    """Fail a test that leaves torch's, Pyro's or matplotlib's settings changed; start each with an empty store."""
    torch.manual_seed(0)
    before = global_state()
    with pyro.get_param_store().scope():  # programs run by hand leave their parameters there
        yield
    after = global_state()
    for name, value in before.items():
        assert after[name] == value, f"the test changed global state: {name}"


@pytest.fixture
def float64() -> Iterator[None]:
    """Exact tests run in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def oracle(float64: None) -> LinearGaussian:
    """A linear-Gaussian model with D = 2 latents and P = 3 pixels."""
    weight = torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]])
    return LinearGaussian(weight, torch.tensor([0.1, -0.2, 0.3]), 0.7)


@pytest.fixture
def x(oracle: LinearGaussian) -> torch.Tensor:
    """Five data of the oracle's shape."""
    return torch.randn(5, 3)


@pytest.fixture
def guide(oracle: LinearGaussian) -> AmortizedNormal:
    """A guide for it, away from the exact posterior: one linear layer."""
    return AmortizedNormal(MLP(3, 4))


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets; a test that needs it is skipped without."""
    folder = os.environ.get("AEVB_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("AEVB_DATA names no folder of data sets")
    return Path(folder)


@pytest.fixture
def compiler() -> None:
    """Skip what compiles where nothing can."""
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("there is no C++ compiler")
