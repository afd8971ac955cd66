"""A run's random streams."""

import torch

from aevb.inference import random_streams
from aevb.inference.randomness import forked_rng


def test_the_streams_of_a_run_are_distinct_and_reproducible() -> None:
    seeds = [seed for run in range(100) for seed in random_streams(run)]
    assert len(set(seeds)) == 300
    assert random_streams(7) == random_streams(7)


def test_forked_rng_leaves_the_global_stream_where_it_was() -> None:
    before = torch.get_rng_state()
    with forked_rng(1):
        first = torch.rand(3)
    with forked_rng(1):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)
