"""Layers of latents, against the chain of Normals of which everything is known."""

import copy
import math
from itertools import pairwise
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from aevb.guides import AmortizedBernoulli, AmortizedNormal, Hierarchical
from aevb.inference import (
    ESTIMATORS,
    IWAE,
    L_A,
    L_B,
    L_B_mixed,
    active_units,
    evaluate,
    fit,
    kl_per_latent,
    log_evidence,
)
from aevb.models import (
    MLP,
    VAE,
    Bernoulli,
    Gaussian,
    HierarchicalVAE,
    InputError,
    LearnedNormal,
    StandardNormal,
    VampPrior,
)
from aevb.parts import PRIORS

SLOPES, SHIFTS, VARIANCES = (0.8, -1.3), (0.4, -0.2), (0.5, 0.9)  # of p(z_s|z_{s+1}), from the top down
WEIGHT, BIAS, NOISE = torch.tensor([1.0, -0.3, 0.2]).double(), torch.tensor([0.1, -0.2, 0.3]).double(), 0.6
PIXEL_FLOOR, FLOOR, GUIDE_FLOOR = 1e-4, 1e-4, 1e-8


def linear(weight: Tensor, bias: Tensor) -> MLP:
    network = MLP(weight.shape[1], len(bias))
    network.load_state_dict({"0.weight": weight, "0.bias": bias})
    return network


def normal(slope: Any, shift: Any, variance: float, floor: float) -> MLP:
    """v to the mean slope . v + shift and the s of a variance that does not depend on v."""
    slope = torch.as_tensor(slope).reshape(1, -1)
    bias = torch.stack([torch.as_tensor(shift), torch.tensor(variance - floor).log()])
    return linear(torch.cat([slope, torch.zeros_like(slope)]), bias)


def chain(layers: int) -> tuple[HierarchicalVAE, Hierarchical, MultivariateNormal]:
    """One latent a layer, all linear: the model, its exact posterior, and p(x)."""
    given = list(zip(SLOPES, SHIFTS, VARIANCES, strict=True))[: layers - 1]
    marginals = [(0.0, 1.0)]  # mean and variance of each p(z_s), from the top down
    for slope, shift, variance in given:
        mean, spread = marginals[-1]
        marginals.append((slope * mean + shift, slope**2 * spread + variance))
    likelihood = Gaussian(variance="shared", floor=PIXEL_FLOOR)
    with torch.no_grad():
        likelihood.log_excess_variance.fill_(math.log(NOISE - PIXEL_FLOOR))
    conditionals = [normal(slope, shift, variance, FLOOR) for slope, shift, variance in given]
    model = HierarchicalVAE(StandardNormal(1), conditionals, linear(WEIGHT[:, None], BIAS), likelihood, floor=FLOOR)

    mean, spread = marginals[-1]
    posterior = 1 / (1 / spread + WEIGHT.square().sum().item() / NOISE)  # the variance of p(z_1|x)
    gain = posterior / NOISE * WEIGHT
    encoders = [normal(gain, posterior / spread * mean - gain @ BIAS, posterior, GUIDE_FLOOR)]
    for (above, spread_above), (mean, spread), (slope, _, _) in reversed(
        list(zip(marginals[:-1], marginals[1:], given, strict=True))
    ):
        back = slope * spread_above / spread
        encoders.append(normal(back, above - back * mean, spread_above - back**2 * spread, GUIDE_FLOOR))
    guide = Hierarchical([AmortizedNormal(encoder) for encoder in encoders])
    mean, spread = marginals[-1]
    covariance = spread * WEIGHT.outer(WEIGHT) + NOISE * torch.eye(3)
    return model, guide, MultivariateNormal(mean * WEIGHT + BIAS, covariance)


@pytest.fixture(params=[1, 2, 3])
def layers(request: pytest.FixtureRequest) -> int:
    return request.param


def disturbed(guide: Hierarchical) -> Hierarchical:
    """A guide away from the posterior: its means moved, its variances larger."""
    with torch.no_grad():
        for bias in (parameter for name, parameter in guide.named_parameters() if name.endswith("bias")):
            bias.add_(0.2)
    return guide


def test_at_the_exact_posterior_every_draw_is_the_evidence(layers: int, float64: None) -> None:
    model, guide, truth = chain(layers)
    x = torch.randn(5, 3)
    for estimator in (L_A(samples=7), IWAE(samples=3), *(ESTIMATORS[n](samples=2) for n in ("STL", "DReG", "VIMCO"))):
        bound = estimator.estimate(model, guide, x).bound
        assert (bound - truth.log_prob(x)).abs().max() < 1e-10, type(estimator).__name__
    draws = L_A(samples=7).draw(model, guide, x)
    assert draws.log_weights().std(0).max() < 1e-10
    assert (log_evidence(model, guide, x, samples=1).values - truth.log_prob(x)).abs().max() < 1e-10


def test_there_the_guide_has_no_gradient_by_stl(layers: int, float64: None) -> None:
    model, guide, _ = chain(layers)
    surrogate = ESTIMATORS["STL"]().estimate(model, guide, torch.randn(5, 3)).surrogate
    assert max(g.abs().max() for g in torch.autograd.grad(surrogate, list(guide.parameters()))) < 1e-10


def test_away_from_it_importance_sampling_reaches_the_evidence(layers: int, float64: None) -> None:
    model, guide, truth = chain(layers)
    x = torch.randn(5, 3)
    found = log_evidence(model, disturbed(guide), x, samples=10_000)
    assert found.standard_errors.max() < 0.01  # a bias of 0.05 nats would be seen
    assert ((found.values - truth.log_prob(x)).abs() < 4.5 * found.standard_errors).all()
    bound = evaluate(model, guide, x, samples=2000).bound
    assert (bound < truth.log_prob(x) - 0.01).all()


def test_samples_have_the_marginal_mean_and_covariance(layers: int, float64: None) -> None:
    model, _, truth = chain(layers)
    n = 200_000
    draws, covariance = model.sample(n), truth.covariance_matrix
    assert ((draws.mean(0) - truth.mean).abs() / (covariance.diag() / n).sqrt()).max() < 4.5
    spread = (covariance**2 + covariance.diag().outer(covariance.diag())) / n  # Var of a sample covariance
    assert ((draws.T.cov() - covariance).abs() / spread.sqrt()).max() < 4.5


def test_one_layer_is_the_vae(float64: None) -> None:
    decoder, encoder, x = MLP(2, 5, 6), MLP(6, 5, 4), torch.rand(9, 6).round()
    one = HierarchicalVAE(StandardNormal(2), [], decoder, Bernoulli()), Hierarchical([AmortizedNormal(encoder)])
    vae = VAE(StandardNormal(2), decoder, Bernoulli()), AmortizedNormal(encoder)
    for name, make in ESTIMATORS.items():
        found = []
        for pair in (one, vae):
            torch.manual_seed(1)
            estimate = make(samples=3).estimate(*pair, x)
            found.append((estimate.bound, torch.autograd.grad(estimate.surrogate, [*encoder.parameters()])))
        assert torch.equal(found[0][0], found[1][0]), name
        assert all(map(torch.equal, found[0][1], found[1][1])), name
    for pair in (one, vae):
        torch.manual_seed(1)
        found.append(pair[0].sample(4))  # type: ignore[arg-type]
    assert torch.equal(*found[-2:])  # type: ignore[arg-type]
    assert torch.equal(one[0].reconstruct(x, one[1]), vae[0].reconstruct(x, vae[1]))
    assert L_B().estimate(*one, x).kl_path == {"z1": "analytic"}


def mean_and_error(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.mean(), values.std() / math.sqrt(len(values))


def test_what_is_analytic_and_what_pyro_makes_of_the_order(float64: None) -> None:
    """Only the top layer's KL is. Pyro's closed form of the other leaves out Cov(z1, z2) / v, v the variance of
    p(z1|z2), times its slope: it is no evidence lower bound."""
    model, guide, truth = chain(2)
    x = torch.randn(1, 3)
    many = x.expand(100_000, 3)
    estimate = L_B_mixed().estimate(model, guide, many)
    assert estimate.kl_path == {"z1": "monte-carlo", "z2": "analytic"}
    mean, error = mean_and_error(estimate.bound.detach())
    assert error < 0.005
    assert (mean - truth.log_prob(x)).abs() < 4.5 * error
    with pytest.raises(InputError, match=r"Site 'z1': p\(z1\|\.\.\.\) depends on what the guide draws later"):
        L_B().estimate(model, guide, x)

    with pytest.warns(UserWarning, match="mean field restriction"):
        losses = [TraceMeanField_ELBO().loss(model, guide, many[:1000]) / 1000 for _ in range(100)]
    a, v = SLOPES[0], VARIANCES[0]
    back = a / (a**2 + v)
    missing = a * back * guide.encode(x).variance.item() / v
    assert missing > 0.2
    mean, error = mean_and_error(-torch.tensor(losses))
    assert error < 0.01
    assert (mean - truth.log_prob(x) + missing).abs() < 4.5 * error
    assert Trace_ELBO().loss(model, guide, many) / len(many) == pytest.approx(-truth.log_prob(x).item(), rel=1e-10)


def make(prior: str = "StandardNormal", layers: int = 2) -> tuple[HierarchicalVAE, Hierarchical]:
    """6 pixels, then layers of 4, 3, 2 latents; the last is the top."""
    sizes = [6, 4, 3, 2][: layers + 1]
    guides = [AmortizedNormal(MLP(below, 5, 2 * own)) for below, own in pairwise(sizes)]
    if prior == "FactorialBernoulli":
        guides[-1] = AmortizedBernoulli(MLP(sizes[-2], 5, sizes[-1]))  # type: ignore[call-overload]
    guide = Hierarchical(guides)
    part: Any = PRIORS[prior]
    top = part(sizes[-1])
    if isinstance(top, VampPrior):
        top = VampPrior(sizes[-1], components=4, bounded=False).attach(guides[-1], torch.randn(4, sizes[-2]))
    down = [MLP(above, 5, 2 * own) for above, own in zip(sizes[:1:-1], sizes[-2:0:-1], strict=True)]
    return HierarchicalVAE(top, down, MLP(4, 5, 6), Bernoulli()), guide


def data(count: int = 20) -> Tensor:
    return (torch.rand(count, 6) < torch.linspace(0.05, 0.95, 6)).to(torch.get_default_dtype())


@pytest.mark.parametrize("engine", ["svi", "fast"])
@pytest.mark.parametrize("estimator", [L_A(), L_A(samples=3), L_B_mixed(), IWAE(samples=3)])
def test_fifty_steps_raise_the_bound(estimator: Any, engine: str) -> None:
    """By more than three standard errors over twenty data."""
    x = data()
    torch.manual_seed(0)
    model, guide = make(layers=3)
    before = evaluate(model, guide, x, samples=100).elbo
    settings: dict[str, Any] = {"batch_size": 20, "learning_rate": 0.01, "engine": engine}
    history = fit(model, guide, x, estimator=estimator.fresh(), epochs=50, **settings)
    gain = evaluate(model, guide, x, samples=100).elbo - before
    assert gain.mean() > 3 * gain.std() / math.sqrt(len(gain))
    path = {"L_A": ("monte-carlo",) * 3, "L_B_mixed": ("monte-carlo", "monte-carlo", "analytic")}
    assert tuple(history.kl_path.values()) == path.get(type(estimator).__name__, ("none",) * 3)
    assert list(history.kl_path) == ["z1", "z2", "z3"]
    with pytest.raises(InputError, match=r"L_B needs a closed-form KL.*\n  Site 'z1'"):
        fit(model, guide, x, estimator="L_B", epochs=1)


@pytest.mark.parametrize("loss", [Trace_ELBO(), Trace_ELBO(num_particles=3, vectorize_particles=True), IWAE()])
def test_pyros_svi_trains_it(loss: Any) -> None:
    x, (model, guide) = data(), make()
    before = evaluate(model, guide, x, samples=100).elbo
    svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.01}), loss=loss)
    for _ in range(50):
        svi.step(x)
    gain = evaluate(model, guide, x, samples=100).elbo - before
    assert gain.mean() > 3 * gain.std() / math.sqrt(len(gain))


@pytest.mark.parametrize("prior", sorted(PRIORS.keys() - {"HypersphericalUniform"}))  # which is no place for Normals
def test_every_prior_can_be_on_top(prior: str) -> None:
    model, guide = make(prior)
    history = fit(model, guide, data(), estimator="VIMCO", samples=2, epochs=2, learning_rate=0.01)
    assert math.isfinite(history["train_bound"][-1])
    if prior != "VampPrior":
        assert set(model.sample(4).unique().tolist()) <= {0.0, 1.0}
    top = L_B_mixed().estimate(model, guide, data()).kl_path["z2"]
    assert (top == "analytic") == (prior in {"StandardNormal", "LearnedNormal", "Laplace", "FactorialBernoulli"})


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS.keys() - {"L_B"}))
def test_a_gradient_reaches_every_parameter(estimator: str, layers: int) -> None:
    model, guide = make(layers=layers)
    surrogate = ESTIMATORS[estimator](samples=2).estimate(model, guide, data()).surrogate
    both = nn.ModuleList([model, guide])
    for name, parameter in both.named_parameters():
        (gradient,) = torch.autograd.grad(surrogate, parameter, retain_graph=True)
        assert gradient.abs().sum() > 0, name


@pytest.mark.parametrize("estimator", ["L_A", "L_B_mixed", "STL", "DReG", "IWAE"])
def test_both_engines_make_the_same_run(estimator: str, float64: None) -> None:
    x = data(110)

    def run(engine: str) -> Any:
        torch.manual_seed(0)
        history = fit(*make(layers=3), x, estimator=estimator, epochs=10, batch_size=25, device="cpu", engine=engine)
        assert history.engine == engine
        return history

    svi, fast = run("svi"), run("fast")
    for column in ("train_bound", "train_elbo", "reconstruction", "kl"):
        assert fast[column] == pytest.approx(svi[column], rel=1e-10), column


def test_shapes_and_what_each_verb_returns(layers: int) -> None:
    model, guide = make(layers=layers)
    x = model.sample(7)
    assert x.shape == (7, 6)
    assert model.layers == layers
    assert [tuple(z.shape) for z in guide.sample(x, 3)] == [(3, 7, d) for d in (4, 3, 2)[:layers]]
    assert [tuple(z.shape) for z in guide(x)] == [(7, d) for d in (4, 3, 2)[:layers]]
    assert [tuple(z.shape) for z in model(x)] == [(7, d) for d in (4, 3, 2)[:layers]]
    assert model.decode(torch.zeros(3, 7, 4)).batch_shape == (3, 7)
    assert torch.equal(model.reconstruct(x, guide), model.decode(guide.encode(x).mean).mean)


def test_a_pair_is_saved_and_read_back() -> None:
    (model, guide), (other, other_guide), x = make(), make(), data()
    other.load_state_dict(model.state_dict())
    other_guide.load_state_dict(guide.state_dict())
    assert torch.equal(evaluate(model, guide, x).bound, evaluate(other, other_guide, x).bound)


def test_two_of_them_share_nothing_in_pyros_store() -> None:
    pairs = [make(), make()]
    pairs.append(copy.deepcopy(pairs[0]))
    for program in [program for pair in pairs for program in pair]:
        with pyro.poutine.trace(param_only=True) as captured:
            program(data())
        assert {id(site["value"]) for site in captured.trace.nodes.values()} == {id(p) for p in program.parameters()}


def test_the_kl_of_the_top_layer_is_the_mean_over_draws_of_those_below(float64: None) -> None:
    """E KL(q(z2|z1) || N(0, 1)) = -log s^2 / 2 + (s^2 + E mu(z1)^2 - 1) / 2; z1's own is no closed form."""
    model, guide, _ = chain(2)
    x = torch.randn(200, 3)
    kl = kl_per_latent(model, guide, x)
    assert kl.keys() == {"z2"}
    q, weight = guide.encode(x), guide.layers[1].encoder[0].weight[0, 0]  # type: ignore[index,union-attr]
    above = guide.layers[1].encode(q.mean)  # type: ignore[operator]
    square = above.mean**2 + weight**2 * q.variance
    truth = 0.5 * (above.variance + square - 1 - above.variance.log()).mean()
    error = (square.std() / math.sqrt(200 * 100)).item()  # of 100 draws of z1 for each datum, at most
    assert abs(kl["z2"].item() - truth.item()) < 4.5 * error
    assert error < 0.01


def test_noise_of_the_layer_below_makes_no_unit_active(float64: None) -> None:
    """Where q(z1|x) is N(0, 1) for every x, z2 = z1 moves with the draw, and not with the data."""
    model, _, _ = chain(2)
    nothing, first = [0.0, 0.0, 0.0], normal([0.15, 0.0, 0.0], 0.0, 1.0, GUIDE_FLOOR)
    second = AmortizedNormal(normal(1.0, 0.0, 1.0, GUIDE_FLOOR))
    asleep = Hierarchical([AmortizedNormal(normal(nothing, 0.0, 1.0, GUIDE_FLOOR)), second])
    awake = Hierarchical([AmortizedNormal(first), second])  # Var_x E[z2|x] = 0.15^2
    x = torch.randn(300, 3)
    assert active_units(model, asleep, x) == {"z1": 0, "z2": 0}
    assert active_units(model, asleep, x, threshold=0.004) == {"z1": 0, "z2": 0}  # the noise itself is of 1 / 100
    assert active_units(model, awake, x) == {"z1": 1, "z2": 1}


def test_layers_that_do_not_fit_are_named() -> None:
    model, _ = make(layers=3)
    _, guide = make(layers=2)
    with pytest.raises(InputError, match=r"does not sample the model's latent sites \['z3'\]"):
        fit(model, guide, data())
    with pytest.raises(InputError, match="at least one guide"):
        Hierarchical([])
    with pytest.raises(InputError, match="floor of ConditionalNormal is a positive variance; it is 0"):
        HierarchicalVAE(StandardNormal(2), [MLP(2, 4)], MLP(2, 6), Bernoulli(), floor=0.0)


def test_a_conditional_keeps_its_floor() -> None:
    network = MLP(1, 2)
    model = HierarchicalVAE(StandardNormal(1), [network], MLP(1, 6), Bernoulli(), floor=0.25)
    with torch.no_grad():
        network.get_parameter("0.bias")[1] = -1e4
    stddev = model.conditionals[0](torch.zeros(1, 1)).stddev
    assert torch.equal(stddev, torch.full((1, 1), 0.5))


def test_a_latent_of_one_layer_can_be_learned_on_top(float64: None) -> None:
    """A LearnedNormal at N(0, 1) is the StandardNormal."""
    model, guide, truth = chain(2)
    learned = HierarchicalVAE(LearnedNormal(1), [], model.decoder, model.likelihood)
    learned.conditionals = model.conditionals
    x = torch.randn(5, 3)
    assert (L_A().estimate(learned, guide, x).bound - truth.log_prob(x)).abs().max() < 1e-10
