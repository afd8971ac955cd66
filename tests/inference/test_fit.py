"""Training: what it reaches, what it repeats, what it leaves alone, and where it stops."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule
from sklearn.decomposition import PCA
from torch import Tensor, nn

from aevb.data import load
from aevb.guides import AmortizedNormal, ExactPosterior, Guide
from aevb.inference import (
    COLUMNS,
    ESTIMATORS,
    L_A,
    L_B,
    OPTIMIZERS,
    REINFORCE,
    SCHEDULES,
    DivergenceError,
    Estimate,
    Training,
    evaluate,
    fit,
    random_streams,
)
from aevb.models import MLP, VAE, Bernoulli, Gaussian, InputError, LinearGaussian, StandardNormal

Pair = tuple[VAE, Guide]


def small_pair(seed: int = 0) -> Pair:
    torch.manual_seed(seed)
    return VAE(StandardNormal(3), MLP(3, 8, 16), Bernoulli()), AmortizedNormal(MLP(16, 8, 6))


@pytest.fixture
def images() -> Tensor:
    return (torch.rand(250, 16) < torch.rand(250, 1)).float()


def parameters(*programs: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for program in programs for p in program.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


# --- what it reaches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latents", [2, 10])
@pytest.mark.parametrize("estimator", ["L_A", "L_B", "STL"])
def test_a_linear_vae_reaches_probabilistic_pca(estimator: str, latents: int) -> None:
    """REFERENCES: the exact log-likelihood within 0.1 nats of PCA's, and never above it by more than rounding."""
    x = load("digits", binarisation="none").train.batch(torch.arange(1437))
    torch.manual_seed(0)
    model = VAE(StandardNormal(latents), MLP(latents, 64), Gaussian(variance="shared"))
    guide = AmortizedNormal(MLP(64, 2 * latents))
    fit(model, guide, x, estimator=estimator, epochs=300, learning_rate=1e-2, schedule="cosine")
    decoder, scale = model.decoder[0], model.decode(torch.zeros(1, latents)).stddev[0, 0]
    oracle = LinearGaussian(decoder.weight.double(), decoder.bias.double(), scale.double())
    with torch.no_grad():
        log_likelihood = oracle.log_evidence(x.double()).mean().item()
    best = PCA(latents).fit(x.numpy()).score(x.numpy())
    assert -0.1 < log_likelihood - best < 0.001


def test_the_pair_of_the_design_trains_in_pyros_own_loop_to_the_same_losses() -> None:
    digits = load("digits")
    order_seed, pixel_seed, latent_seed = random_streams(0)

    def pair() -> Pair:
        torch.manual_seed(0)
        return VAE(StandardNormal(10), MLP(10, 500, 64), Bernoulli()), AmortizedNormal(MLP(64, 500, 2 * 10))

    model, guide = pair()
    history = fit(model, guide, digits.train, estimator="L_B", epochs=3)

    model_2, guide_2 = pair()
    svi = SVI(model_2, guide_2, pyro.optim.Adam({"lr": 1e-3, "fused": True}), loss=L_B())
    order, pixels = torch.Generator().manual_seed(order_seed), torch.Generator().manual_seed(pixel_seed)
    torch.manual_seed(latent_seed)
    losses = []
    for _ in range(3):
        total = 0.0
        for indices in torch.randperm(len(digits.train), generator=order).split(100):
            total += svi.step(digits.train.batch(indices, pixels)) * len(indices)
        losses.append(total / len(digits.train))

    assert history["train_bound"] == pytest.approx([-loss for loss in losses], rel=1e-6)  # sums of float32
    assert same(parameters(model, guide), parameters(model_2, guide_2))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_with_every_schedule_raises_the_bound(optimizer: str, schedule: str, images: Tensor) -> None:
    history = fit(*small_pair(), images, epochs=20, optimizer=optimizer, schedule=schedule)
    assert history["train_elbo"][-1] > history["train_elbo"][0] + 0.1  # an epoch's mean has a spread of 0.02


def test_schedules_go_from_one_to_where_they_say() -> None:
    for name, end in {"constant": 1.0, "linear": 0.0, "cosine": 0.0}.items():
        assert SCHEDULES[name](0.0) == 1.0
        assert SCHEDULES[name](1.0) == pytest.approx(end)
    assert SCHEDULES["cosine"](0.5) == pytest.approx(0.5)


def test_weight_decay_is_the_gradient_of_the_papers_prior_on_the_models_parameters(images: Tensor) -> None:
    """One SGD step: theta moves by -rate * lambda * theta / N more than without; the guide is left alone."""
    steps = {}
    for decay in (0.0, 50.0):
        model, guide = small_pair()
        start = parameters(model)
        fit(model, guide, images, epochs=1, batch_size=250, optimizer="SGD", learning_rate=0.1, weight_decay=decay)
        steps[decay] = parameters(model), parameters(guide)
    expected = [p - 0.1 * 50.0 * s / 250 for p, s in zip(steps[0.0][0], start, strict=True)]
    assert all(torch.allclose(p, e, atol=1e-7) for p, e in zip(steps[50.0][0], expected, strict=True))
    assert same(steps[0.0][1], steps[50.0][1])


def test_columns_are_measured_and_consistent(images: Tensor) -> None:
    history = fit(*small_pair(), images, epochs=2, beta=0.5, test=images[:50], estimator="L_B")
    row = history.rows[-1]
    assert tuple(row) == COLUMNS
    assert row["train_elbo"] == pytest.approx(row["reconstruction"] - row["kl"], rel=1e-5)
    assert row["train_bound"] == pytest.approx(row["reconstruction"] - 0.5 * row["kl"], rel=1e-5)
    assert (row["epoch"], row["step"], row["images"]) == (2, 6, 500)
    assert row["seconds"] > 0
    assert row["kl_global"] == 0
    assert math.isnan(row["validation_elbo"])
    assert row["test_elbo"] < 0
    assert history.kl_path == {"z": "analytic"}


# --- what it repeats, and what it leaves alone -----------------------------------------------------------------------


def test_a_repeated_run_is_bitwise_the_same(images: Tensor) -> None:
    runs = []
    for _ in range(2):
        pair = small_pair()
        torch.manual_seed(torch.randint(10**6, ()).item())  # type: ignore[arg-type]  # what stands outside does not matter
        history = fit(*pair, images, epochs=3, seed=5, test=images)
        runs.append((parameters(*pair), [{**row, "seconds": 0.0} for row in history]))
    assert same(runs[0][0], runs[1][0])
    assert repr(runs[0][1]) == repr(runs[1][1])


def test_another_seed_is_another_run(images: Tensor) -> None:
    runs = []
    for seed in (0, 1):
        pair = small_pair()
        fit(*pair, images, epochs=1, seed=seed)
        runs.append(parameters(*pair))
    assert not same(*runs)


def test_two_fits_in_one_process_share_nothing(images: Tensor) -> None:
    alone = small_pair(1)
    fit(*alone, images, epochs=2)
    first, second = small_pair(0), small_pair(1)
    fit(*first, images, epochs=2)
    kept = parameters(*first)
    fit(*second, images, epochs=2)
    assert same(parameters(*first), kept)
    assert same(parameters(*second), parameters(*alone))


def test_two_interleaved_trainings_share_nothing(images: Tensor) -> None:
    alone = small_pair(1)
    fit(*alone, images, epochs=2, device="cpu")
    pairs = small_pair(0), small_pair(1)
    trainings = [make_training(pair, images, epochs=2) for pair in pairs]
    for _ in range(2):
        for training in trainings:
            training.epoch()
    assert same(parameters(*pairs[1]), parameters(*alone))


def make_training(pair: Pair, data: Any, **settings: Any) -> Training:
    defaults: dict[str, Any] = {
        "estimator": "L_B",
        "epochs": 3,
        "batch_size": 100,
        "samples": None,
        "beta": None,
        "optimizer": "Adam",
        "learning_rate": None,
        "schedule": "constant",
        "weight_decay": 0.0,
        "validation": None,
        "patience": None,
        "test": None,
        "evaluation_samples": 1,
        "seed": 0,
        "device": "cpu",
    }
    return Training(*pair, data, **defaults | settings)


def test_users_modules_of_the_same_names_share_nothing(images: Tensor) -> None:
    def user_pair(seed: int) -> tuple[Any, Any]:
        torch.manual_seed(seed)
        decoder, encoder = nn.Linear(2, 16), nn.Linear(16, 2)

        def model(x: Tensor) -> None:
            pyro.module("decoder", decoder)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

        def guide(x: Tensor) -> None:
            pyro.module("encoder", encoder)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(encoder(x), 1.0).to_event(1))

        return (model, guide), (decoder, encoder)

    pair, networks = user_pair(0)
    fit(*pair, images, epochs=1)
    kept = parameters(*networks)
    for seed in (1, 0):
        other, other_networks = user_pair(seed)
        fit(*other, images, epochs=1)
        assert same(parameters(*other_networks), kept) == (seed == 0)
    assert same(parameters(*networks), kept)
    assert list(pyro.get_param_store().keys()) == []


def test_the_global_random_stream_is_left_where_it_was(images: Tensor) -> None:
    pair = small_pair()
    before = torch.get_rng_state()
    fit(*pair, images, epochs=1, test=images)
    evaluate(*pair, images)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("settings", [{}, {"estimator": "REINFORCE"}, {"warm_up": 3}, {"estimator": "RWS"}])
def test_a_state_put_back_gives_the_same_future(settings: dict[str, Any], images: Tensor) -> None:
    pair = small_pair()
    training = make_training(pair, images, **{"epochs": 4, "schedule": "cosine"} | settings)
    training.epoch()
    state = training.state()
    rows = [training.epoch() for _ in range(3)]
    after = parameters(*pair)
    training.restore(state)
    again = [training.epoch() for _ in range(3)]
    assert same(parameters(*pair), after)
    assert [r["train_bound"] for r in rows] == [r["train_bound"] for r in again]


def test_a_warm_up_weighs_the_kl_by_a_line_from_zero(images: Tensor) -> None:
    """Two epochs of warm-up, two steps each: beta is 0, 1/4, 1/2, 3/4 and then 1, of 0.8."""
    seen = []

    class Spy(L_B):
        def estimate(self, *args: Any) -> Any:
            seen.append(self.beta)
            return super().estimate(*args)

    spy = Spy(beta=0.8)
    history = fit(*small_pair(), images, estimator=spy, epochs=3, batch_size=-(-len(images) // 2), warm_up=2)
    assert seen[1:] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 0.8])  # the first look is at the pair
    assert spy.beta == 0.8
    first, last = history["train_bound"][0], history.rows[-1]
    assert first > history["train_elbo"][0]  # most of the KL is not counted yet
    assert last["train_bound"] == pytest.approx(last["reconstruction"] - 0.8 * last["kl"], rel=1e-5)


def test_wake_sleep_has_nothing_to_warm_up(images: Tensor) -> None:
    with pytest.raises(InputError, match="RWS has no KL to weigh: leave out warm_up"):
        fit(*small_pair(), images, estimator="RWS", warm_up=2)
    with pytest.raises(InputError, match=r"WakeSleep has no KL to weigh: beta is 1; it is 0\.5"):
        fit(*small_pair(), images, estimator="WakeSleep", beta=0.5)


def test_an_estimator_that_is_used_twice_keeps_its_settings_and_forgets_its_baseline(images: Tensor) -> None:
    estimator = REINFORCE(hidden=5)
    rows = [fit(*small_pair(), images, estimator=estimator, epochs=2).rows for _ in range(2)]
    assert estimator.parameters() == {}
    assert [r["train_bound"] for r in rows[0]] == [r["train_bound"] for r in rows[1]]


def test_nothing_waits_for_the_device_within_an_epoch(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    for name in ("item", "tolist", "cpu", "__bool__", "__float__"):
        original = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda *a, _f=original, _n=name, **k: waits.append(_n) or _f(*a, **k))
    make = [
        make_training(small_pair(), images, estimator=e, batch_size=50, samples=s) for e in ESTIMATORS for s in (2, 3)
    ]
    for training in make:
        training.epoch()  # finds how deep the plates are
        waits.clear()
        with training._own_world():
            training._pass()
        assert waits == ["cpu"], "one epoch, one look"


def test_pyros_checks_run_before_the_first_step_only(images: Tensor) -> None:
    seen = []

    class Spy(L_B):
        def estimate(self, *args: Any) -> Any:
            seen.append(pyro.infer.util.is_validation_enabled())
            return super().estimate(*args)

    fit(*small_pair(), images, epochs=2, estimator=Spy())
    assert seen == [True] + [False] * 6


# --- where it stops --------------------------------------------------------------------------------------------------


def test_patience_stops_and_goes_back_to_the_best(images: Tensor) -> None:
    pair = small_pair()
    history = fit(
        *pair, images[:40], epochs=400, learning_rate=0.02, validation=images[200:], patience=5, evaluation_samples=20
    )
    best = max(history["validation_elbo"])
    assert len(history) < 400
    assert history.stopped == "validation_elbo has not risen for 5 epochs"
    assert history.best_epoch == len(history) - 5 == history["validation_elbo"].index(best) + 1
    assert evaluate(*pair, images[200:], samples=20).elbo.mean().item() == pytest.approx(best, rel=1e-6)


def test_patience_without_validation_data_is_refused(images: Tensor) -> None:
    with pytest.raises(InputError, match="patience needs validation data"):
        fit(*small_pair(), images, patience=3)


def test_an_interrupted_epoch_is_undone(images: Tensor) -> None:
    pair = small_pair()
    training = make_training(pair, images)
    training.epoch()
    kept, calls = parameters(*pair), []

    def interrupt(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    hook = pair[0].decoder.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        training.epoch()
    hook.remove()
    assert same(parameters(*pair), kept)
    assert len(training.history) == 1


def test_a_nan_names_step_site_and_parameter_and_the_last_good_epoch_is_kept(images: Tensor) -> None:
    """Row 7's decoder breaks in the second epoch, in whichever batch it stands."""
    pair = small_pair()
    training = make_training(pair, images)
    training.epoch()
    kept = parameters(*pair)

    class Break(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.where(torch.rand(len(z), 1) < 0.01, torch.nan, 1.0) * z

    pair[0].decoder.append(Break())
    with pytest.raises(DivergenceError) as error:
        training.epoch()
    assert str(error.value).startswith("Step ")
    assert "log p at the observed sites" in str(error.value)
    assert "the gradient of parameter 'model.decoder.0.weight'" in str(error.value)
    assert "back at those of epoch 1" in str(error.value)
    assert same(parameters(*pair), kept)


def test_a_learning_rate_far_too_large_is_a_divergence_or_survives_finite(images: Tensor) -> None:
    pair = small_pair()
    with pytest.raises(DivergenceError, match="Try a learning rate below 1e\\+30"):
        fit(*pair, images, epochs=3, optimizer="SGD", learning_rate=1e30)
    assert all(p.isfinite().all() for p in parameters(*pair))


# --- any Pyro pair ---------------------------------------------------------------------------------------------------


class Regression(PyroModule):
    """y = x w + noise, a global w, N data in all."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", self.size, subsample=y):
            pyro.sample("y", dist.Normal((x * w).sum(-1), 0.5), obs=y)


def test_a_users_regression_with_global_weights_and_autonormal(float64: None) -> None:
    """An orthogonal design: the mean-field posterior is exact, with precision X'X / 0.25 + 1."""
    n = 200
    x = torch.linalg.qr(torch.randn(n, 2)).Q * math.sqrt(n)
    y = x @ torch.tensor([0.7, -0.4]) + 0.5 * torch.randn(n)
    model = Regression(n)
    guide = AutoNormal(model, init_scale=0.1)
    history = fit(
        model,
        guide,
        (x, y),
        estimator="L_A",
        epochs=300,
        batch_size=50,
        samples=8,
        learning_rate=0.05,
        schedule="cosine",
    )
    precision = n / 0.25 + 1
    expected = x.T @ y / 0.25 / precision
    median = guide.median()["w"].detach()
    # An iterate of a noisy optimizer: a tenth of a posterior standard deviation away at the most.
    assert torch.allclose(median, expected, atol=0.1 / math.sqrt(precision))
    assert history.kl_path == {"w_unconstrained": "monte-carlo", "w": "monte-carlo"}
    assert history["kl"][-1] == 0
    design = torch.eye(n) * 0.25 + x @ x.T
    evidence = dist.MultivariateNormal(torch.zeros(n), design).log_prob(y).item() / n
    bound = evaluate(model, guide, (x, y), samples=2000).elbo.mean().item()
    assert evidence - 0.001 < bound < evidence + 0.0005  # nats per datum; the exact gap is 0 here
    with pytest.raises(InputError, match=r"L_B needs a closed-form KL at every latent site.\n  Site 'w_unconstrained'"):
        fit(model, guide, (x, y), estimator="L_B", epochs=1)


def test_global_latents_need_the_size_of_the_data(float64: None) -> None:
    x, y = torch.randn(200, 2), torch.randn(200)
    model = Regression(50)
    with pytest.raises(InputError, match=r'plate\("data", 200, subsample=x\), or train with batch_size=200'):
        fit(model, AutoNormal(model), (x, y), estimator="L_A", batch_size=50)


def functional_pair() -> tuple[Callable[..., None], Callable[..., None]]:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.1))
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x, scale).to_event(1))

    return model, guide


def test_bare_pyro_params_are_trained_where_pyro_keeps_them() -> None:
    x = torch.randn(500, 1) * math.sqrt(2)
    pair = functional_pair()
    fit(*pair, x, epochs=60, learning_rate=0.02, schedule="cosine")
    assert pyro.param("slope").item() == pytest.approx(0.5, abs=0.02)  # p(z|x) = N(x / 2, 1 / 2)
    assert pyro.param("scale").item() == pytest.approx(math.sqrt(0.5), abs=0.02)
    exact = dist.Normal(0.0, math.sqrt(2)).log_prob(x).mean().item()
    assert evaluate(*pair, x).elbo.mean().item() == pytest.approx(exact, abs=0.005)
    with pytest.raises(InputError, match=r"already holds \['scale', 'slope'\].*\n.*pyro.clear_param_store\(\)"):
        fit(*functional_pair(), x)


def nothing_declared() -> tuple[Any, Any]:
    decoder = nn.Linear(2, 16)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    return model, guide


def test_a_pair_in_which_nothing_would_be_trained_is_refused(images: Tensor) -> None:
    with pytest.raises(InputError, match=r"Nothing would be trained.*\n.*pyro.module"):
        fit(*nothing_declared(), images)


def test_a_module_whose_parameters_are_not_declared_is_refused(images: Tensor) -> None:
    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = nn.Linear(3, 16)

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    with pytest.raises(InputError, match=r"model would not be trained: \['decoder.weight', 'decoder.bias'\]"):
        fit(Silent(), small_pair()[1], images)


def test_parameters_that_both_programs_use_are_trained_once(float64: None) -> None:
    oracle = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0)
    fit(oracle, ExactPosterior(oracle), torch.randn(50, 2), estimator="L_A", epochs=1)
    training = make_training((oracle, ExactPosterior(oracle)), torch.randn(50, 2), estimator="L_A")  # type: ignore[arg-type]
    assert [name.partition(".")[2] for name in training.pair.model_parameters] == ["weight", "bias", "log_scale"]
    assert training.pair.guide_parameters == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, g: (poutine.block(m, hide=["z"]), g), "guide samples sites"),
        (lambda m, g: (m, lambda x: None), r"does not sample the model's latent sites \['z'\]"),
        (lambda m, g: (lambda x: m.forward_without_data(x), g), "observes nothing"),
    ],
)
def test_pairs_that_do_not_fit_together_are_refused(change: Any, message: str, images: Tensor) -> None:
    class Model(VAE):
        def forward_without_data(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", self.prior())

    model, guide = small_pair()
    model.__class__ = Model
    with pytest.raises(InputError, match=message):
        fit(*change(model, guide), images)


def test_latents_in_another_order_are_refused_by_closed_forms_alone(images: Tensor) -> None:
    def program(first: str, second: str, observe: bool) -> Callable[[Tensor], None]:
        def run(x: Tensor) -> None:
            loc = pyro.param(f"loc-{observe}", torch.zeros(()))
            with pyro.plate("data", len(x)):
                a = pyro.sample(first, dist.Normal(loc, 1.0))
                pyro.sample(second, dist.Normal(a, 1.0))
                if observe:
                    pyro.sample("x", dist.Bernoulli(logits=a.unsqueeze(-1)).to_event(1), obs=x[:, :1])

        return run

    pair = program("a", "b", True), program("b", "a", False)
    with pytest.raises(InputError, match=r"Site 'b': p\(b\|...\) depends on what the guide draws later"):
        fit(*pair, images)
    assert fit(*pair, images, estimator="L_B_mixed", epochs=1).kl_path == {"b": "monte-carlo", "a": "analytic"}


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (torch.zeros(0, 16), {}, "The data set is empty"),
        (torch.zeros(10, 15), {}, r"guide cannot be run on a batch of \(10, 15\) float32.*\n.*RuntimeError"),
        (torch.zeros(10, 16, dtype=torch.uint8), {}, r"guide cannot be run on a batch of \(10, 16\) uint8"),
        ((torch.zeros(10, 16), torch.zeros(9)), {}, r"have one length; these have \[9, 10\]"),
        ([[0.0] * 16], {}, "Data are a tensor, a tuple of tensors"),
        (None, {"estimator": "L_C"}, r"There is no estimator 'L_C'. Did you mean L_[AB]\? Known: DReG"),
        (None, {"optimizer": "adam"}, "There is no optimizer 'adam'. Did you mean Adam"),
        (None, {"estimator": L_A}, r"L_A is the class: make an instance, L_A\(\), or give its name"),
        (None, {"estimator": torch.ones(5)}, "An estimator is a name or an Estimator; this is a Tensor.$"),
        (
            None,
            {"optimizer": torch.optim.Adam([torch.zeros(3)])},
            r"by name, .* this is an instance of Adam.\n  Known: SGD",
        ),
        (None, {"optimizer": torch.optim.Adam}, r"by name, .* this is Adam.\n  Known: SGD"),
        (None, {"schedule": "cosin"}, "There is no schedule 'cosin'. Did you mean cosine"),
        (None, {"epochs": 0}, "epochs is at least 1; it is 0"),
        (None, {"batch_size": 0}, "batch_size is at least 1; it is 0"),
        (None, {"samples": 0}, "samples is at least 1; it is 0"),
        (None, {"beta": -1.0}, "beta is at least 0.0; it is -1.0"),
        (None, {"learning_rate": -0.1}, "learning_rate is at least 0.0; it is -0.1"),
        (None, {"learning_rate": math.nan}, "learning_rate is at least 0.0; it is nan"),
        (None, {"estimator": L_A(), "samples": 3}, "samples and beta are the estimator's own"),
        (None, {"device": "cuda"}, "There is no CUDA device here. Use --device cpu, or auto."),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(
    data: Any, settings: dict[str, Any], message: str, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    pair = small_pair()
    before = copy.deepcopy(parameters(*pair))
    with pytest.raises(InputError, match=message):
        fit(*pair, images if data is None else data, **settings)
    assert same(parameters(*pair), before)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.25, r"Site 'x' observes values in \{0, 1\}.\n  row 123, pixel 7: 0.25.\n  Binarise the pixels"),
        (math.nan, r"row 123, pixel 7: nan"),
        (math.inf, r"row 123, pixel 7: inf"),
    ],
)
def test_a_bad_pixel_in_any_batch_is_named_by_row_and_pixel(value: float, message: str, images: Tensor) -> None:
    images[123, 7] = value
    with pytest.raises(InputError, match=message):
        fit(*small_pair(), images, batch_size=50)


class Wrong(L_A):
    """L_A, but for what ``change`` makes of it."""

    change: Callable[[Estimate], Any]

    def estimate(self, *pair: Any, **kwargs: Any) -> Estimate:
        return type(self).change(super().estimate(*pair, **kwargs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda e: e.bound,
            r"Wrong\.estimate is to return an Estimate; it returned a Tensor\.\n.*Estimate\.of\(.*\(B,\)",
        ),
        (lambda e: replace(e, bound=e.bound.mean()), r"bound is of shape \(B,\), \(100,\) .* shape \(\)"),
        (
            lambda e: replace(e, bound=e.bound.expand(3, -1)),
            r"bound is of shape \(B,\), .* shape \(3, 100\)\.\n.*\.mean\(0\)",
        ),
        (lambda e: replace(e, kl=e.kl[:5]), r"kl is of shape \(B,\), \(100,\) for this batch; it is of shape \(5,\)"),
        (lambda e: replace(e, surrogate=e.bound), r"surrogate is of shape \(\), .* shape \(100,\)"),
    ],
)
def test_an_estimator_that_returns_something_else_is_told_what_to_return(
    change: Any, message: str, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wrong, "change", staticmethod(change), raising=False)
    with pytest.raises(InputError, match=message):
        fit(*small_pair(), images, estimator=Wrong())
    with pytest.raises(InputError, match=message.replace("100", "250")):
        evaluate(*small_pair(), images, estimator=Wrong())


def test_real_valued_pixels_must_be_finite(images: Tensor) -> None:
    images[123, 7] = math.inf
    model = VAE(StandardNormal(3), MLP(3, 16), Gaussian(variance="shared"))
    with pytest.raises(
        InputError, match=r"Site 'x' observes values in the finite real numbers.\n  row 123, pixel 7: inf"
    ):
        fit(model, small_pair()[1], images, batch_size=50)
