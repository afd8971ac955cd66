"""Models of x where c is known, against conditional Normals and against the VAE."""

import copy
import math
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from aevb.data import load
from aevb.guides import AmortizedMultivariateNormal, AmortizedNormal, Conditional, Refined
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
    ConditionalNormal,
    ConditionalVAE,
    Gaussian,
    HypersphericalUniform,
    InputError,
    StandardNormal,
)
from aevb.parts import AMORTIZED

FLOOR, GUIDE_FLOOR = 1e-4, 1e-8
WEIGHT = torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]]).double()  # W
OF_C = torch.tensor([[0.4, -0.7], [0.3, 0.1], [-0.6, 0.2]]).double()  # V
BIAS, NOISE = torch.tensor([0.1, -0.2, 0.3]).double(), 0.6  # b, s^2
PRIOR_OF_C = torch.tensor([[0.9, -0.4], [0.2, 0.5]]).double()  # A of p(z|c) = N(A c + a, t I)
PRIOR_BIAS, PRIOR_VARIANCE = torch.tensor([0.3, -0.1]).double(), 0.8  # a, t


def linear(weight: Tensor, bias: Tensor) -> MLP:
    network = MLP(weight.shape[1], len(bias))
    network.load_state_dict({"0.weight": weight, "0.bias": bias})
    return network


class Oracle:
    """p(z|c) = N(A c + a, t I), p(x|z, c) = N(W z + V c + b, s^2 I): the pair at its posterior, and p(x|c).

    p(x|c) = N(W (A c + a) + V c + b, t W W' + s^2 I); p(z|x, c) has the covariance C = (I / t + W'W / s^2)^-1 and the
    mean C ((A c + a) / t + W' (x - V c - b) / s^2).
    """

    def __init__(self, prior_of_c: bool) -> None:
        of_c, bias, variance = (
            (PRIOR_OF_C, PRIOR_BIAS, PRIOR_VARIANCE) if prior_of_c else (torch.zeros(2, 2), torch.zeros(2), 1.0)
        )
        self.of_c, self.bias, self.variance = of_c, bias, variance
        log_excess = torch.full((2,), math.log(variance - FLOOR))
        network = linear(torch.cat([of_c, torch.zeros(2, 2)]), torch.cat([bias, log_excess]))
        prior = ConditionalNormal(network, floor=FLOOR) if prior_of_c else StandardNormal(2)
        likelihood = Gaussian(variance="shared", floor=FLOOR)
        with torch.no_grad():
            likelihood.log_excess_variance.fill_(math.log(NOISE - FLOOR))
        self.model = ConditionalVAE(prior, linear(torch.cat([WEIGHT, OF_C], 1), BIAS), likelihood)

        covariance = torch.linalg.inv(torch.eye(2) / variance + WEIGHT.T @ WEIGHT / NOISE)
        factor = torch.linalg.cholesky(covariance)
        of_x = covariance @ WEIGHT.T / NOISE
        mean_of_c = covariance @ of_c / variance - of_x @ OF_C
        constant = covariance @ bias / variance - of_x @ BIAS
        below = 2 * factor[1, :1] / factor[1, 1]
        shape = torch.cat([(factor.diagonal() ** 2 - GUIDE_FLOOR).log(), below])
        weight = torch.cat([torch.cat([of_x, mean_of_c], 1), torch.zeros(3, 5)])
        self.guide = Conditional(AmortizedMultivariateNormal(linear(weight, torch.cat([constant, shape]))))

    def log_evidence(self, x: Tensor, c: Tensor) -> Tensor:
        mean = (c @ self.of_c.T + self.bias) @ WEIGHT.T + c @ OF_C.T + BIAS
        return MultivariateNormal(mean, self.variance * WEIGHT @ WEIGHT.T + NOISE * torch.eye(3)).log_prob(x)


@pytest.fixture(params=[False, True], ids=["p(z)", "p(z|c)"])
def oracle(request: pytest.FixtureRequest, float64: None) -> Oracle:
    return Oracle(request.param)


def test_at_the_exact_posterior_every_draw_is_the_evidence(oracle: Oracle) -> None:
    x, c = torch.randn(5, 3), torch.randn(5, 2)
    truth = oracle.log_evidence(x, c)
    for estimator in (L_A(samples=7), IWAE(samples=3), *(ESTIMATORS[n](samples=2) for n in ("STL", "DReG", "VIMCO"))):
        bound = estimator.estimate(oracle.model, oracle.guide, x, c).bound
        assert (bound - truth).abs().max() < 1e-10, type(estimator).__name__
    assert L_A(samples=7).draw(oracle.model, oracle.guide, x, c).log_weights().std(0).max() < 1e-10
    found = log_evidence(oracle.model, oracle.guide, (x, c), samples=1)
    assert (found.values - truth).abs().max() < 1e-10
    assert (oracle.log_evidence(x, c.roll(1, 0)) - truth).abs().min() > 0.001  # c matters


def test_away_from_it_importance_sampling_reaches_the_evidence(oracle: Oracle) -> None:
    x, c = torch.randn(5, 3), torch.randn(5, 2)
    with torch.no_grad():
        next(p for name, p in oracle.guide.named_parameters() if name.endswith("bias")).add_(0.2)
    found = log_evidence(oracle.model, oracle.guide, (x, c), samples=10_000)
    assert found.standard_errors.max() < 0.01  # a bias of 0.05 nats would be seen
    assert ((found.values - oracle.log_evidence(x, c)).abs() < 4.5 * found.standard_errors).all()
    assert (evaluate(oracle.model, oracle.guide, (x, c), samples=2000).bound < oracle.log_evidence(x, c) - 0.01).all()


def test_the_mean_bound_of_l_b_is_the_evidence_there_too(oracle: Oracle) -> None:
    x, c = torch.randn(1, 3), torch.randn(1, 2)
    estimate = L_B().estimate(oracle.model, oracle.guide, x.expand(100_000, 3), c.expand(100_000, 2))
    assert estimate.kl_path == {"z": "analytic"}
    error = estimate.bound.std() / math.sqrt(100_000)
    assert error < 0.01
    assert (estimate.bound.mean() - oracle.log_evidence(x, c)).abs() < 4.5 * error


def test_samples_have_the_conditional_mean_and_covariance(oracle: Oracle) -> None:
    n, c = 200_000, torch.tensor([0.7, -1.2])
    draws = oracle.model.sample(n, c)
    mean = (oracle.of_c @ c + oracle.bias) @ WEIGHT.T + OF_C @ c + BIAS
    covariance = oracle.variance * WEIGHT @ WEIGHT.T + NOISE * torch.eye(3)
    assert ((draws.mean(0) - mean).abs() / (covariance.diag() / n).sqrt()).max() < 4.5
    spread = (covariance**2 + covariance.diag().outer(covariance.diag())) / n  # Var of a sample covariance
    assert ((draws.T.cov() - covariance).abs() / spread.sqrt()).max() < 4.5


def absorbed(network: MLP, c: Tensor) -> MLP:
    """A network of v, for one of v and c, its first bias holding what c adds."""
    state = network.state_dict()
    weight, of_c = state["0.weight"].split((state["0.weight"].shape[1] - len(c), len(c)), 1)
    smaller = MLP(weight.shape[1], len(weight), len(state["2.bias"]))
    smaller.load_state_dict(state | {"0.weight": weight, "0.bias": state["0.bias"] + of_c @ c})
    return smaller


def test_with_a_constant_c_it_is_the_vae_whose_biases_absorb_it(float64: None) -> None:
    decoder, encoder, x, c = (
        MLP(2 + 3, 5, 6),
        MLP(6 + 3, 5, 4),
        torch.rand(9, 6).round(),
        torch.tensor([0.2, -1.0, 0.5]),
    )
    model, guide = ConditionalVAE(StandardNormal(2), decoder, Bernoulli()), Conditional(AmortizedNormal(encoder))
    small_decoder, small_encoder = absorbed(decoder, c), absorbed(encoder, c)
    vae, plain = VAE(StandardNormal(2), small_decoder, Bernoulli()), AmortizedNormal(small_encoder)
    for name, make in ESTIMATORS.items():
        torch.manual_seed(1)
        own = make(samples=3).estimate(model, guide, x, c.expand(9, 3))
        torch.manual_seed(1)
        other = make(samples=3).estimate(vae, plain, x)
        assert (own.bound - other.bound).abs().max() < 1e-12, name
        for mine, small in ((decoder, small_decoder), (encoder, small_encoder)):
            names = ["0.bias", "2.weight", "2.bias"]
            both = [
                torch.autograd.grad(
                    estimate.surrogate, [dict(net.named_parameters())[n] for n in names], retain_graph=True
                )
                for estimate, net in ((own, mine), (other, small))
            ]
            assert max((a - b).abs().max() for a, b in zip(*both, strict=True)) < 1e-12, name
    torch.manual_seed(1)
    draws = model.sample(4, c)
    torch.manual_seed(1)
    assert torch.equal(draws, vae.sample(4))
    assert (model.reconstruct(x, c, guide) - vae.reconstruct(x, plain)).abs().max() < 1e-12


def make(
    family: str = "AmortizedNormal", classes: int | None = 3, prior: Any = None
) -> tuple[ConditionalVAE, Conditional]:
    """6 pixels, 2 latents, and one of three labels."""
    part: Any = AMORTIZED[family]
    if prior is None:
        prior = HypersphericalUniform(2) if family == "AmortizedPowerSpherical" else StandardNormal(2)
    guide = part(MLP(6 + 3, 5, part.outputs(2)), *([2] if family == "AmortizedFlow" else []))
    return ConditionalVAE(prior, MLP(2 + 3, 5, 6), Bernoulli(), classes=classes), Conditional(guide, classes=classes)


def data(count: int = 20) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % 3
    probability = torch.linspace(0.05, 0.95, 6).roll(1)[None] * (labels[:, None] + 1) / 3
    return (torch.rand(count, 6) < probability).to(torch.get_default_dtype()), labels


@pytest.mark.parametrize("engine", ["svi", "fast"])
@pytest.mark.parametrize("estimator", [L_A(), IWAE(samples=3), L_B(), L_B_mixed(samples=2)])
def test_fifty_steps_raise_the_bound(estimator: Any, engine: str) -> None:
    """By more than three standard errors over twenty data."""
    pair, both = make(prior=ConditionalNormal(MLP(3, 4))), data()
    before = evaluate(*pair, both, samples=100).elbo
    settings: dict[str, Any] = {"batch_size": 20, "learning_rate": 0.01, "engine": engine}
    history = fit(*pair, both, estimator=estimator.fresh(), epochs=50, **settings)
    gain = evaluate(*pair, both, samples=100).elbo - before
    assert gain.mean() > 3 * gain.std() / math.sqrt(len(gain))
    path = {"L_A": "monte-carlo", "IWAE": "none"}.get(type(estimator).__name__, "analytic")
    assert history.kl_path == {"z": path}


@pytest.mark.parametrize(
    "loss", [Trace_ELBO(), TraceMeanField_ELBO(), Trace_ELBO(num_particles=3, vectorize_particles=True)]
)
def test_pyros_svi_trains_it(loss: Any) -> None:
    pair, both = make(), data()
    before = evaluate(*pair, both, samples=100).elbo
    svi = SVI(*pair, PyroOptim(torch.optim.Adam, {"lr": 0.01}), loss=loss)
    for _ in range(50):
        svi.step(*both)
    gain = evaluate(*pair, both, samples=100).elbo - before
    assert gain.mean() > 3 * gain.std() / math.sqrt(len(gain))


@pytest.mark.parametrize("family", sorted(AMORTIZED.keys() - {"AmortizedBernoulli"}))
def test_every_family_can_be_conditioned(family: str) -> None:
    pair = make(family)
    history = fit(*pair, data(), estimator="L_B_mixed", epochs=5, learning_rate=0.01)
    assert history.kl_path == {"z": "monte-carlo" if family == "AmortizedFlow" else "analytic"}
    assert pair[1].sample(*data(), 4).shape == (4, 20, 2)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_gradient_reaches_every_parameter(estimator: str) -> None:
    model, guide = make(prior=ConditionalNormal(MLP(3, 4)))
    surrogate = ESTIMATORS[estimator](samples=2).estimate(model, guide, *data()).surrogate
    for name, parameter in nn.ModuleList([model, guide]).named_parameters():
        (gradient,) = torch.autograd.grad(surrogate, parameter, retain_graph=True)
        assert gradient.abs().sum() > 0, name


@pytest.mark.parametrize("estimator", ["L_A", "L_B", "DReG", "IWAE", "RWS"])
def test_both_engines_make_the_same_run(estimator: str, float64: None) -> None:
    def run(engine: str) -> Any:
        torch.manual_seed(0)
        both = data(110)
        history = fit(*make(), both, estimator=estimator, epochs=10, batch_size=25, device="cpu", engine=engine)
        assert history.engine == engine
        return history

    svi, fast = run("svi"), run("fast")
    for column in ("train_bound", "train_elbo", "reconstruction", "kl"):
        assert fast[column] == pytest.approx(svi[column], rel=1e-10), column


def test_a_label_is_its_one_hot_vector() -> None:
    (model, guide), (plain, plain_guide), (x, labels) = make(), make(classes=None), data()
    plain.load_state_dict(model.state_dict())
    plain_guide.load_state_dict(guide.state_dict())
    one_hot = nn.functional.one_hot(labels, 3).float()
    bound = evaluate(model, guide, (x, labels)).bound
    assert torch.equal(bound, evaluate(plain, plain_guide, (x, one_hot)).bound)
    assert torch.equal(bound, evaluate(model, guide, (x, one_hot)).bound)  # real numbers are taken as they are
    assert torch.equal(bound, evaluate(model, guide, (x, labels.to(torch.uint8))).bound)
    assert not torch.equal(bound, evaluate(model, guide, (x, (labels + 1) % 3)).bound)


def test_shapes_and_what_each_verb_returns() -> None:
    (model, guide), (x, labels) = make(prior=ConditionalNormal(MLP(3, 4))), data()
    assert guide.encode(x, labels).batch_shape == (20,)
    assert guide.sample(x, labels, 4).shape == (4, 20, 2)
    assert model.decode(torch.zeros(4, 20, 2), labels).batch_shape == (4, 20)
    assert model.decode(torch.zeros(20, 2), torch.tensor(1)).batch_shape == (20,)
    assert model.reconstruct(x, labels, guide).shape == (20, 6)
    assert model.sample(5, torch.tensor(2)).shape == (5, 6)
    assert model.sample(5, torch.tensor([2, 1])).shape == (5, 2, 6)
    assert model.sample(5, torch.eye(3)).shape == (5, 3, 6)
    assert make()[0].sample(5, torch.tensor([2, 1])).shape == (5, 2, 6)
    assert kl_per_latent(model, guide, (x, labels))["z"].shape == (2,)
    assert active_units(model, guide, (x, labels)).keys() == {"z"}


def test_a_pair_is_saved_and_read_back() -> None:
    (model, guide), (other, other_guide), both = make(), make(), data()
    other.load_state_dict(model.state_dict())
    other_guide.load_state_dict(guide.state_dict())
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    assert torch.equal(evaluate(model, guide, both).bound, evaluate(other, other_guide, both).bound)


def test_two_of_them_share_nothing_in_pyros_store() -> None:
    pairs = [make(), make()]
    pairs.append(copy.deepcopy(pairs[0]))
    for program in [program for pair in pairs for program in pair]:
        with pyro.poutine.trace(param_only=True) as captured:
            program(*data())
        assert {id(site["value"]) for site in captured.trace.nodes.values()} == {id(p) for p in program.parameters()}


def test_a_split_with_labels_trains_it() -> None:
    digits = load("digits")
    model = ConditionalVAE(StandardNormal(2), MLP(2 + 10, 64), Bernoulli(), classes=10)
    guide = Conditional(AmortizedNormal(MLP(64 + 10, 4)), classes=10)
    history = fit(model, guide, digits.train.labelled(), epochs=2, test=digits.test.labelled())
    assert history["test_elbo"][0] < history["test_elbo"][1]


@pytest.mark.parametrize(
    ("classes", "c", "message"),
    [
        (
            None,
            torch.arange(20) % 3,
            r"c is real numbers, \(B, C\); these are int64.\n  If they are labels.*classes=10",
        ),
        (3, torch.arange(20) % 4, "Labels of 3 classes count from 0 to 2; these reach from 0 to 3"),
        (3, torch.arange(20) % 3 - 1, "Labels of 3 classes count from 0 to 2; these reach from -1 to 1"),
        (3, torch.zeros(20, 4), "cannot be run on a batch"),
    ],
)
def test_what_cannot_be_a_condition_is_named(classes: int | None, c: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(*make(classes=classes), (data()[0], c), epochs=1)


@pytest.mark.parametrize("engine", ["svi", "auto", "fast"])
def test_a_label_that_is_none_stops_training_wherever_it_stands(engine: str) -> None:
    x, labels = data(200)
    labels[170] = 3  # in the last batch
    with pytest.raises(InputError, match=r"Labels of 3 classes count from 0 to 2|index out of range"):
        fit(*make(), (x, labels), epochs=400, batch_size=50, device="cpu", engine=engine)


def test_classes_are_at_least_one() -> None:
    with pytest.raises(InputError, match="classes is at least 1; it is 0"):
        make(classes=0)


def test_a_guide_without_an_encoder_of_its_own_cannot_be_conditioned() -> None:
    model = VAE(StandardNormal(2), MLP(2, 6), Bernoulli())
    with pytest.raises(InputError, match="Conditional gives c to an encoder; Refined has none"):
        Conditional(Refined(AmortizedNormal(MLP(9, 4))).attach(model), classes=3)  # type: ignore[arg-type]
