"""The instrument, on gradients whose noise and bias are known."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from aevb.guides import AmortizedBernoulli, AmortizedNormal
from aevb.inference import (
    ESTIMATORS,
    IWAE,
    L_A,
    L_B,
    STL,
    DReG,
    Estimate,
    Estimator,
    GradientNoise,
    Target,
    WakeWake,
    gradient_noise,
    refusals,
)
from aevb.inference.gradients import _squared_mean
from aevb.models import MLP, BernoulliVAE, FactorialBernoulli, Gaussian, InputError, LinearGaussian

K = 4.5


def by_part(rows: list[GradientNoise]) -> dict[tuple[str, str], GradientNoise]:
    return {(row.estimator, row.part): row for row in rows}


def test_variance_and_signal_are_those_of_the_formula(
    oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    """For the model's bias b the gradient is mean (x - W z - b) / sigma^2, z ~ N(mu, S): its moments by hand."""
    rows = by_part(gradient_noise(oracle, guide, x, {"L_B": L_B()}, draws=2000, effort=4, by_parameter=True))
    row = rows["L_B", "bias"] if ("L_B", "bias") in rows else rows["L_B", "model.bias"]
    with torch.no_grad():
        q, (w, b, sigma) = guide.encode(x), (oracle.weight, oracle.bias, oracle.scale)
        covariance = torch.einsum("pd,bd,qd->pq", w, q.variance, w) / sigma**4 / len(x) ** 2
        mean = (x - b - q.mean @ w.T).mean(0) / sigma**2
    assert row.variance == pytest.approx(covariance.trace().item(), abs=K * row.variance_se)
    assert row.signal == pytest.approx(mean.square().sum().item(), abs=K * row.signal_se)
    assert K * row.variance_se < 0.2 * row.variance
    assert row.snr == pytest.approx((row.signal / row.variance) ** 0.5)


def test_no_unbiased_estimator_is_called_biased(oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor) -> None:
    """Of all estimators, the wake phases alone are biased for what they climb; the truth is the closed form.

    That of RWS is half as large, beside the noise of dreams: it may or may not be seen.
    """
    rows = gradient_noise(
        oracle, guide, x, {name: make() for name, make in ESTIMATORS.items()}, draws=200, exact=exact(oracle, guide)
    )
    biased = {(row.estimator, row.part) for row in rows if row.is_biased}
    assert ("WakeWake", "guide") in biased
    assert biased <= {("WakeWake", "guide"), ("RWS", "guide")}
    assert {row.part for row in rows} == {"model", "guide"}


class Mine(Estimator):
    """A user's: the value of L_A, half as much gradient again, and no word of where the truth could be had."""

    @property
    def target(self) -> Target:
        return Target("ELBO", "below", "ELBO", "ELBO")

    def estimate(self, *args: Any) -> Estimate:
        draws = self.draw(*args)
        bound = draws.log_weights()
        return Estimate.of(draws, bound.mean(0), 1.5 * bound.mean())


@pytest.mark.parametrize("names", [("Mine", "L_A", "L_B"), ("L_B", "L_A", "Mine"), ("Mine",)])
def test_no_estimator_is_judged_by_itself_where_another_is_known(
    names: tuple[str, ...], oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    known = {"Mine": Mine(), "L_A": L_A(), "L_B": L_B()}
    rows = gradient_noise(oracle, guide, x, {name: known[name] for name in names}, draws=400)
    assert {row.estimator for row in rows if row.is_biased} == {"Mine"}
    assert {row.reference.partition(",")[0] for row in rows} == {"L_B_mixed"}


class Other(Mine):
    """One whose target nobody else has."""

    @property
    def target(self) -> Target:
        return Target("mine", "either", "mine", "mine")


def test_one_with_a_target_of_its_own_is_its_own_reference_and_says_so(
    oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    rows = gradient_noise(oracle, guide, x, {"Other": Other()}, draws=40)
    assert {row.reference for row in rows} == {"Other, 160 x 1 draws"}


class Shrunk(L_A):
    """Nine tenths of the gradient."""

    def estimate(self, *args: Any) -> Estimate:
        estimate = super().estimate(*args)
        object.__setattr__(estimate, "surrogate", 0.9 * estimate.surrogate)
        return estimate


def exact(model: Any, guide: Any) -> Any:
    return lambda x: model.elbo(x, guide)


@pytest.mark.parametrize("known", [True, False])
def test_a_biased_gradient_is_called_so_and_by_how_much(
    known: bool, oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    rows = by_part(
        gradient_noise(
            oracle, guide, x, {"Shrunk": Shrunk()}, draws=2000, exact=exact(oracle, guide) if known else None
        )
    )
    truth = torch.autograd.grad(oracle.elbo(x, guide).mean(), [*oracle.parameters()])
    row = rows["Shrunk", "model"]
    assert row.is_biased
    assert row.bias == pytest.approx(0.01 * sum(g.square().sum().item() for g in truth), abs=4 * row.bias_se)
    assert row.squared_error == row.variance + row.bias


def test_a_user_pair_of_bare_functions_with_several_sites(float64: None) -> None:
    """Its gradients are by pyro.param; parameters are named as Pyro has them; nothing is left behind."""

    def model(x: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.5))
        with pyro.plate("data", 100, subsample=x):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(slope * a, 1.0))
            pyro.sample("x", dist.Normal(a + b, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        gain = pyro.param("gain", torch.tensor(0.3))
        with pyro.plate("data", 100, subsample=x):
            a = pyro.sample("a", dist.Normal(gain * x, 0.8))
            pyro.sample("b", dist.Normal(gain * x - 0.2 * a, 0.8))

    x, rng = torch.randn(7), torch.get_rng_state()
    rows = gradient_noise(model, guide, x, {"STL": STL(), "IWAE": IWAE()}, draws=100, by_parameter=True)
    assert [(row.estimator, row.part) for row in rows[:4]] == [
        ("STL", "model"),
        ("STL", "slope"),
        ("STL", "guide"),
        ("STL", "gain"),
    ]
    assert all(math.isfinite(row.snr) and row.seconds > 0 for row in rows)
    assert list(pyro.get_param_store().keys()) == []
    assert torch.equal(torch.get_rng_state(), rng)


def test_binary_latents_are_measured_against_enumeration(float64: None) -> None:
    model = BernoulliVAE(FactorialBernoulli(3), MLP(3, 4), Gaussian(variance="shared"))
    guide = AmortizedBernoulli(MLP(4, 3))
    x = torch.randn(5, 4)
    refused = refusals(model, guide, x, {name: make() for name, make in ESTIMATORS.items()})
    assert set(refused) == {"L_B", "STL", "DReG"}
    usable = {name: make() for name, make in ESTIMATORS.items() if name not in refused}
    rows = by_part(gradient_noise(model, guide, x, usable, draws=150, exact=exact(model, guide)))
    assert not any(row.is_biased for (name, _), row in rows.items() if name not in ("WakeWake", "RWS"))
    assert rows["REINFORCE", "guide"].variance < rows["L_A", "guide"].variance  # its baseline has been learned
    assert rows["VIMCO", "guide"].variance < rows["IWAE", "guide"].variance
    with pytest.raises(InputError, match="DReG needs reparametrised latents"):
        gradient_noise(model, guide, x, {"DReG": DReG()})


def test_a_target_with_no_limit_in_k_is_drawn_with_many_samples(
    oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    """The wake phase of the guide is biased at k = 2, and less at k = 32."""
    rows = by_part(gradient_noise(oracle, guide, x, {"2": WakeWake(samples=2), "32": WakeWake(samples=32)}, draws=200))
    assert rows["2", "guide"].is_biased
    assert rows["32", "guide"].bias < 0.3 * rows["2", "guide"].bias


def test_at_the_posterior_sticking_the_landing_has_no_noise(float64: None) -> None:
    model, guide = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0), AmortizedNormal(MLP(2, 4), floor=1e-30)
    with torch.no_grad():
        guide.encoder[0].weight.copy_(torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.0, 0.0], [0.0, 0.0]]))  # type: ignore[index, operator]
        guide.encoder[0].bias.copy_(torch.tensor([0.0, 0.0, 0.5, 0.5]).log().nan_to_num(neginf=0.0))  # type: ignore[index, operator]
    rows = by_part(gradient_noise(model, guide, torch.randn(5, 2), {"L_A": L_A(), "STL": STL()}, draws=50))
    assert rows["STL", "guide"].variance < 1e-20
    assert rows["L_A", "guide"].variance > 1e-2


@pytest.mark.parametrize("length", [0.0, 2.0])
def test_the_squared_mean_is_unbiased_and_its_error_covers(length: float, float64: None) -> None:
    """2,000 times ten draws of N(m, I) in five dimensions, |m|^2 = length: mean and coverage."""
    m = torch.full((5,), (length / 5) ** 0.5)
    found = torch.tensor([_squared_mean(d @ d.T) for d in m + torch.randn(2000, 10, 5)])
    values, errors = found.unbind(1)
    assert values.mean().item() == pytest.approx(length, abs=K * values.std().item() / 2000**0.5)
    assert (values > length + 3 * errors).double().mean() < 0.01
    assert ((values - length).abs() < 3 * errors).double().mean() > 0.9


@pytest.mark.parametrize(
    ("settings", "message"), [({"draws": 19}, "draws is at least 20"), ({"effort": 0}, "effort is")]
)
def test_bad_settings_are_named(
    settings: dict[str, Any], message: str, oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    with pytest.raises(InputError, match=message):
        gradient_noise(oracle, guide, x, {"L_A": L_A()}, **settings)


@pytest.mark.parametrize(
    "estimators", [["L_A", "STL"], {"L_A": "L_A", "STL": STL()}, [L_A(), "STL"]], ids=["list", "mapping", "both"]
)
def test_estimators_to_compare_are_names_or_instances(
    estimators: Any, oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    def figures(estimators: Any) -> list[tuple[str, str, float]]:
        return [(r.estimator, r.part, r.variance) for r in gradient_noise(oracle, guide, x, estimators, draws=20)]

    assert figures(estimators) == figures({"L_A": L_A(), "STL": STL()})
    assert refusals(oracle, guide, x, estimators) == {}


@pytest.mark.parametrize(
    ("estimators", "message"),
    [
        (["L_C"], "There is no estimator 'L_C'. Did you mean"),
        ({"mine": L_A}, r"L_A is the class: make an instance, L_A\(\)"),
        ([L_A(), L_A(samples=5)], r"Two of the estimators are L_A: name them, as in \{'L_A 1'"),
    ],
)
def test_estimators_to_compare_that_are_none_are_refused(
    estimators: Any, message: str, oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    for call in (gradient_noise, refusals):
        with pytest.raises(InputError, match=message):
            call(oracle, guide, x, estimators)  # type: ignore[operator]
