"""Parts by name, and what is made of them."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from aevb.build import load_data, make_pair
from aevb.config import Config
from aevb.guides import Refined
from aevb.models import Conv, ConvTransposed, Gaussian, InputError, StandardNormal
from aevb.parts import AMORTIZED, ESTIMATORS, GUIDES, LIKELIHOODS, PRIORS, catalogue, parse


def test_every_part_has_a_line_and_its_paper() -> None:
    for kind, entries in catalogue().items():
        for entry in entries:
            assert entry.line.endswith((".", ")")), (kind, entry)
            assert entry.paper or kind == "data" or entry.name == "ExactPosterior"
    models = {entry.name for entry in catalogue()["models (in Python)"]}
    assert models == {
        *("VAE", "LinearGaussian", "BernoulliVAE", "GaussianMixtureVAE", "SemiSupervisedVAE"),
        *("HierarchicalVAE", "ConditionalVAE"),
    }
    assert set(AMORTIZED) == set(GUIDES) - {
        *("ExactPosterior", "Refined", "Hierarchical", "Conditional", "Responsibilities", "SemiSupervised"),
    }
    assert {"L_A", "L_B", "IWAE"} <= set(ESTIMATORS)
    assert next(e.paper for e in catalogue()["guides"] if e.name == "AmortizedFlow") == "Kingma et al. (2016)"
    assert "ImportanceWeighted" not in ESTIMATORS


def test_what_is_listed_without_a_word_can_be_named() -> None:
    """And what cannot be is listed in brackets, so that every part is somewhere."""
    listed = {kind: [entry.name for entry in entries] for kind, entries in catalogue().items()}
    for name in listed["guides"]:
        make_pair(Config(latents=2, hidden=(4,), guide=name), 6)
    for name in listed["networks"]:
        make_pair(Config(latents=2, hidden=(4,), network=name), (8, 8))
    apart = [name for kind, names in listed.items() if kind.startswith("guides (") for name in names]
    assert sorted(listed["guides"] + apart) == sorted(GUIDES)
    assert listed["networks (in Python)"] == ["ConvTransposed"]
    for name in apart:
        with pytest.raises(InputError, match="is not the guide of a VAE by itself"):
            make_pair(Config(guide=name), 6)


def test_options_are_read_by_their_types() -> None:
    part, options = parse("likelihood", "Gaussian:variance=shared,floor=1e-3,mean=sigmoid", LIKELIHOODS)
    assert part is Gaussian
    assert options == {"variance": "shared", "floor": 1e-3, "mean": "sigmoid"}
    assert parse("likelihood", "Bernoulli:relaxed=true", LIKELIHOODS)[1] == {"relaxed": True}
    assert parse("prior", "StandardNormal", PRIORS) == (StandardNormal, {})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("Gausian", "There is no likelihood 'Gausian'. Did you mean Gaussian"),
        ("os.system", "There is no likelihood 'os.system'"),
        ("Gaussian:varianc=shared", "There is no option of Gaussian 'varianc'. Did you mean variance"),
        ("Gaussian:variance=shard", "There is no Gaussian:variance 'shard'. Did you mean shared"),
        ("Gaussian:floor=small", "Gaussian:floor takes float; it is 'small'"),
        ("Gaussian:floor", "an option is written floor=value"),
        ("Bernoulli:relaxed=perhaps", "Bernoulli:relaxed takes true or false; it is 'perhaps'"),
    ],
)
def test_unknown_parts_and_options_are_named_with_the_nearest(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse("likelihood", spec, LIKELIHOODS)


def test_runs_that_differ_in_one_part_share_the_weights_of_the_others() -> None:
    a, b = (make_pair(Config(likelihood=name, seed=3), 64) for name in ("Bernoulli", "ContinuousBernoulli"))
    c = make_pair(Config(seed=4), 64)
    for first, second in zip(a, b, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(a[0].parameters()), next(c[0].parameters()))


def test_networks_are_as_configured() -> None:
    model, guide = make_pair(Config(latents=7, hidden=(50, 20), activation="relu", initialisation="paper"), 64)
    assert [tuple(p.shape) for p in model.decoder.parameters() if p.ndim == 2] == [(50, 7), (20, 50), (64, 20)]
    assert [tuple(p.shape) for p in guide.parameters() if p.ndim == 2] == [(20, 64), (50, 20), (14, 50)]
    assert isinstance(model.decoder[1], torch.nn.ReLU)  # type: ignore[index]
    linear, _ = make_pair(Config(hidden=()), 64)
    assert len(list(linear.parameters())) == 2


def test_convolutions_are_as_configured_and_depend_on_the_seed_alone() -> None:
    settings: dict[str, Any] = {"latents": 3, "hidden": (50, 20), "likelihood": "Gaussian", "activation": "relu"}
    config = Config(network="Conv:channels=4,activation=gelu", **settings, initialisation="paper")
    model, guide = make_pair(config, (7, 6))
    encoder = Conv((7, 6), 20, 50, 6, channels=4, activation="gelu")
    decoder = ConvTransposed((7, 6), 3, 50, 20, 84, channels=4, activation="gelu")
    assert (str(guide.encoder), str(model.decoder)) == (str(encoder), str(decoder))
    assert 0.08 < next(guide.parameters()).std() < 0.12  # 64 weights of N(0, 0.01): 2.2 standard errors
    for one, two in zip((model, guide), make_pair(config, (7, 6)), strict=True):
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    other, _ = make_pair(replace(config, seed=1), (7, 6))
    assert not torch.equal(next(other.parameters()), next(model.parameters()))


def test_the_shape_of_the_data_is_nothing_to_an_mlp() -> None:
    for one, two in zip(make_pair(Config(), 64), make_pair(Config(), (8, 8)), strict=True):
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))


def test_data_are_treated_as_the_likelihood_needs() -> None:
    assert load_data(Config()).binarisation == "dynamic"
    assert load_data(Config(likelihood="Gaussian")).binarisation == "none"
    assert load_data(Config(binarisation="fixed")).binarisation == "fixed"
    assert load_data(Config(patience=3)).validation is not None
    model, _ = make_pair(Config(binarisation="relaxed"), 64)
    assert model.likelihood.relaxed


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"binarisation": "none"},
            "Bernoulli is for pixels with --binarisation dynamic or fixed or relaxed; it is none.\n"
            "  Choose one of these, or --likelihood Categorical or ContinuousBernoulli or DiscretizedLogistic "
            "or Gaussian.",
        ),
        (
            {"binarisation": "dynamic", "likelihood": "Gaussian"},
            "Gaussian is for pixels with --binarisation none; it is dynamic.\n"
            "  Choose one of these, or --likelihood Bernoulli.",
        ),
    ],
)
def test_a_likelihood_of_other_pixels_is_refused_with_the_remedy(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        load_data(Config(**config))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"latents": 0}, "latents is at least 1; it is 0"),
        ({"hidden": (0,)}, "hidden is at least 1; it is 0"),
        ({"seed": -1}, "seed is a whole number from 0 to 2.31 - 1; it is -1"),
        ({"activation": "tan"}, "There is no activation 'tan'. Did you mean tanh"),
        ({"initialisation": "papers"}, "There is no initialisation 'papers'. Did you mean paper"),
        ({"network": "Conv"}, r"these are \(64,\)"),
        ({"guide": "ExactPosterior"}, "ExactPosterior is not the guide of a VAE by itself"),
    ],
)
def test_bad_settings_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_pair(Config(**config), 64)


def test_a_guide_is_refined_by_a_plus() -> None:
    model, guide = make_pair(Config(guide="AmortizedLowRank:rank=3+Refined:steps=2", hidden=(4,), latents=3), 6)
    assert isinstance(guide, Refined)
    assert (guide.steps, guide.guide.rank) == (2, 3)
    assert guide.encode(torch.ones(5, 6)).batch_shape == (5,)
    assert guide._model == (model,)
    refined: Any = make_pair(Config(guide="AmortizedNormal:floor=1e-3+Refined:learning_rate=1e+0", beta=2.0), 6)[1]
    assert (refined.guide.floor, refined.learning_rate, refined.beta) == (1e-3, 1.0, 2.0)
    with pytest.raises(InputError, match=r"no option of Refined 'step'. Did you mean steps"):
        make_pair(Config(guide="AmortizedNormal+Refined:step=2"), 6)
    for name in sorted(GUIDES.keys() - AMORTIZED):
        with pytest.raises(InputError, match=f"{name} is not the guide of a VAE by itself"):
            make_pair(Config(guide=name), 6)
    with pytest.raises(InputError, match=r"There is no guide after [+] 'Refine'. Did you mean Refined"):
        make_pair(Config(guide="AmortizedNormal+Refine"), 6)


def test_a_flow_is_told_its_latents() -> None:
    guide = make_pair(Config(guide="AmortizedFlow:transform=planar,layers=3", hidden=(4,), latents=3), 6)[1]
    assert guide.sample(torch.ones(5, 6)).shape == (1, 5, 3)
