"""Pairs of a user's own: what is right for them, and what is refused because it would be wrong in silence."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from aevb.guides import AmortizedNormal, Conditional
from aevb.inference import L_A, L_B, active_units, evaluate, fit, kl_per_latent, log_evidence
from aevb.models import MLP, VAE, Bernoulli, ConditionalVAE, InputError, LinearGaussian, StandardNormal

Programs = tuple[Callable[..., Any], Callable[..., Any]]


def normal_pair(model_plate: Any = None, guide_plate: Any = None, wrap: Any = None, wrap_guide: Any = None) -> Programs:
    """z ~ N(0, 1), x ~ N(z, 1), q(z|x) = N(a x, 0.7), a learned."""

    def plate(make: Any, x: Tensor) -> Any:
        return make(x) if make else pyro.plate("data", len(x))

    def model(x: Tensor) -> None:
        with plate(model_plate, x):
            with wrap() if wrap else poutine.scale(scale=1.0):
                z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        a = pyro.param("a", torch.tensor(0.3))
        with plate(guide_plate, x), wrap_guide() if wrap_guide else poutine.scale(scale=1.0):
            pyro.sample("z", dist.Normal(a * x, 0.7))

    return model, guide


@pytest.mark.parametrize(
    "guide_plate",
    [lambda x: pyro.plate("data", len(x)), lambda x: pyro.plate("batch", len(x))],
    ids=["of another size", "of another name"],
)
def test_plates_that_differ_between_the_programs_are_refused(guide_plate: Any) -> None:
    pair = normal_pair(lambda x: pyro.plate("data", 1000, subsample=x), guide_plate)
    with pytest.raises(InputError, match="Site 'z' stands in other plates in the guide"):
        fit(*pair, torch.randn(1000), estimator="L_A", epochs=1)


def test_a_guide_without_the_plate_is_refused() -> None:
    def guide(x: Tensor) -> None:
        pyro.sample("z", dist.Normal(0.5 * x, 0.7).to_event(1))

    with pytest.raises(InputError, match="stands in other plates"):
        evaluate(normal_pair()[0], guide, torch.randn(5))


def test_a_scale_in_both_programs_weighs_the_kl_under_both_estimators() -> None:
    x, scaled = torch.randn(500), lambda: poutine.scale(scale=0.3)
    pair = normal_pair(wrap=scaled, wrap_guide=scaled)
    for make, theirs in ((L_A, Trace_ELBO), (L_B, TraceMeanField_ELBO)):
        torch.manual_seed(0)
        ours = make().loss(*pair, x)
        torch.manual_seed(0)
        assert ours == pytest.approx(float(theirs().loss(*pair, x)) / 500, rel=1e-5)


@pytest.mark.parametrize("wrap", [lambda: poutine.scale(scale=0.3), lambda: poutine.mask(mask=torch.tensor(False))])
def test_l_b_refuses_a_scale_or_mask_of_one_program_alone(wrap: Any) -> None:
    with pytest.raises(
        InputError, match=r"Scale and mask of a closed-form KL are the guide's.*\n  Site 'z': the (scale|mask) is"
    ):
        fit(*normal_pair(wrap=wrap), torch.randn(20), estimator="L_B", epochs=1)
    fit(*normal_pair(wrap=wrap), torch.randn(20), estimator="L_A", epochs=1)


def test_l_b_refuses_an_infinite_kl() -> None:
    def guide(x: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor(0.5))  # every draw is finite; the variance is not
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.StudentT(1.5, loc, 1.0))

    with pytest.raises(InputError, match=r"Site 'z': KL\(StudentT \|\| Normal\) is infinite"):
        fit(normal_pair()[0], guide, torch.randn(20), estimator="L_B", epochs=1)


def test_a_closure_that_is_not_declared_is_refused_even_if_the_other_program_is() -> None:
    decoder = nn.Linear(1, 1)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(decoder(z.unsqueeze(-1)).squeeze(-1), 1.0), obs=x)

    with pytest.raises(InputError, match=r"A parameter of shape \(1, 1\)|A parameter of shape \(1,\)"):
        fit(model, normal_pair()[1], torch.randn(20), estimator="L_A", epochs=1)


def test_parameters_made_anew_at_each_call_are_refused() -> None:
    def guide(x: Tensor) -> None:
        a = pyro.param("a", nn.Parameter(torch.tensor(0.0)))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(a * x, 0.7))

    with pytest.raises(InputError, match="makes its parameter 'a' anew at each call"):
        fit(normal_pair()[0], guide, torch.randn(20), estimator="L_A", epochs=1)


def test_the_same_pair_is_trained_further_and_evaluating_first_changes_nothing() -> None:
    x = torch.randn(400) * math.sqrt(2)
    pair = normal_pair()
    evaluate(*pair, x)
    assert list(pyro.get_param_store().keys()) == []
    for _ in range(2):
        fit(*pair, x, estimator="L_A", epochs=20, learning_rate=0.01)
    assert pyro.param("a").item() == pytest.approx(0.5, abs=0.03)
    with pytest.raises(InputError, match=r"already holds \['a'\], which another pair has trained"):
        fit(*normal_pair(), x)


def test_gradients_left_by_others_do_not_enter() -> None:
    def run(stale: bool) -> float:
        torch.manual_seed(0)
        model, guide = VAE(StandardNormal(2), MLP(2, 16), Bernoulli()), AmortizedNormal(MLP(16, 4))
        x = torch.ones(50, 16)
        if stale:
            L_B().loss_and_grads(model, guide, x)
        return fit(model, guide, x, epochs=2)["train_bound"][-1]

    assert run(stale=True) == run(stale=False)


class Normalised(nn.Module):
    """An encoder with running statistics and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_evaluation_moves_no_running_statistics_and_drops_nothing_out() -> None:
    def run(test: Tensor | None) -> list[Tensor]:
        torch.manual_seed(0)
        model, guide = VAE(StandardNormal(2), MLP(2, 16), Bernoulli()), AmortizedNormal(Normalised())
        x = (torch.rand(60, 16) < 0.5).float()
        fit(model, guide, x, epochs=2, batch_size=20, test=test)
        before = [v.clone() for v in guide.state_dict().values()]
        first, second = (evaluate(model, guide, x, seed=1).elbo for _ in range(2))
        log_evidence(model, guide, x, samples=10)
        assert torch.equal(first, second)
        assert guide.training
        assert all(torch.equal(a, b) for a, b in zip(before, guide.state_dict().values(), strict=True))
        return before

    with_test, without = run(torch.ones(30, 16)), run(None)
    assert all(torch.equal(a, b) for a, b in zip(with_test, without, strict=True))


def test_an_interrupt_while_measuring_leaves_no_torn_state() -> None:
    class Nervous:
        """Test data that are interrupted the third time they are looked at."""

        calls = 0

        def __len__(self) -> int:
            return 5

        def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return torch.ones(len(indices), 16)

    model, guide = VAE(StandardNormal(2), MLP(2, 16), Bernoulli()), AmortizedNormal(MLP(16, 4))
    rows: list[Any] = []
    kept: list[list[Tensor]] = []

    def on_epoch(row: Any) -> None:
        rows.append(row)
        kept.append([p.detach().clone() for p in model.parameters()])

    with pytest.raises(KeyboardInterrupt):
        fit(model, guide, torch.ones(40, 16), epochs=9, test=Nervous(), on_epoch=on_epoch)
    assert len(rows) == 2
    assert all(torch.equal(p, q) for p, q in zip(kept[-1], model.parameters(), strict=True))


def test_latents_in_other_plates_are_latents_too(float64: None) -> None:
    """z in plates time (4) and data (300), two components: eight latents for each datum."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            with pyro.plate("time", 4, dim=-2):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum((0, -1)), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1), pyro.plate("time", 4, dim=-2):
            loc = torch.stack([x * 0.5, torch.zeros_like(x)], -1).expand(4, -1, -1)
            pyro.sample("z", dist.Normal(loc, 0.8).to_event(1))

    x = torch.randn(300)
    per_latent = kl_per_latent(model, guide, x)["z"]
    assert per_latent.shape == (8,)
    assert per_latent.sum().item() == pytest.approx(evaluate(model, guide, x, estimator="L_B").kl.mean().item())
    assert active_units(model, guide, x) == {"z": 4}


def test_scalar_latents_factorise() -> None:
    x = torch.randn(50)
    kl = kl_per_latent(*normal_pair(), x)["z"]
    assert kl.shape == (1,)
    assert kl.item() == pytest.approx(evaluate(*normal_pair(), x, estimator="L_B").kl.mean().item(), rel=1e-5)


def global_pair(size: int | None) -> Programs:
    def model(x: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(()), 1.0))
        with pyro.plate("data", size or len(x), subsample=x if size else None):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        pyro.sample("w", dist.Normal(pyro.param("m", torch.tensor(1.0)), 0.5))

    return model, guide


@pytest.mark.parametrize("call", [kl_per_latent, active_units])
def test_what_is_asked_of_each_datums_latents_is_refused_where_all_are_global(call: Callable[..., object]) -> None:
    with pytest.raises(InputError, match=rf"{call.__name__} is of latents per datum.* \['w'\] are shared by all data"):
        call(*global_pair(None), torch.randn(5))


def test_a_global_latent_beside_local_ones_is_left_out() -> None:
    def model(x: Tensor) -> None:
        pyro.sample("w", dist.Normal(torch.zeros(()), 1.0))
        normal_pair()[0](x)

    def guide(x: Tensor) -> None:
        pyro.sample("w", dist.Normal(torch.ones(()), 1.0))
        normal_pair()[1](x)

    x = torch.randn(5)
    assert kl_per_latent(model, guide, x)["z"].equal(kl_per_latent(*normal_pair(), x)["z"])
    assert active_units(model, guide, x).keys() == kl_per_latent(model, guide, x).keys() == {"z"}


def test_a_global_kl_is_divided_by_all_data_however_they_are_cut() -> None:
    n = 20_000
    kl = dist.kl.kl_divergence(dist.Normal(1.0, 0.5), dist.Normal(0.0, 1.0)).item()
    x = torch.randn(n)
    assert evaluate(*global_pair(n), x, estimator="L_B").kl_global.item() == pytest.approx(kl / n, rel=1e-5)
    with pytest.raises(InputError, match=r'plate\("data", 20000, subsample=x\)'):
        evaluate(*global_pair(None), x, estimator="L_B")
    with pytest.raises(InputError, match=r"subsample=x\), or with the number") as held_out:
        evaluate(*global_pair(None), x[:100], samples=1000)
    assert "train with" not in str(held_out.value)
    with pytest.raises(InputError, match="or train with batch_size=100"):
        fit(*global_pair(None), x[:100], estimator="L_A", batch_size=10)


def test_an_estimator_can_go_from_pair_to_pair() -> None:
    estimator, x = L_A(samples=3), torch.randn(30)
    fit(*normal_pair(), x, estimator=estimator, epochs=1)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1), pyro.plate("time", 2, dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.expand(2, -1))

    def guide(x: Tensor) -> None:
        m = pyro.param("m", torch.tensor(0.0))
        with pyro.plate("data", len(x), dim=-1), pyro.plate("time", 2, dim=-2):
            pyro.sample("z", dist.Normal(m, 1.0).expand([2, len(x)]))

    assert estimator.estimate(model, guide, x).bound.shape == (30,)


def test_a_decoder_of_the_wrong_width_is_refused() -> None:
    model, guide = VAE(StandardNormal(2), MLP(2, 1), Bernoulli()), AmortizedNormal(MLP(4, 4))
    with pytest.raises(InputError, match=r"Site 'x' observes values of shape \(10, 4\).* event shape \(1,\)"):
        fit(model, guide, torch.ones(10, 4))


def without_event(self: StandardNormal) -> Any:
    return dist.Normal(torch.zeros(self.latents), 1.0)


def of_a_negative_scale(self: StandardNormal) -> Any:
    return dist.Normal(torch.zeros(self.latents), -torch.ones(self.latents)).to_event(1)


def of_the_data(self: StandardNormal, x: Tensor) -> Any:
    return dist.Normal(torch.zeros(self.latents), 1.0).to_event(1)


def of_numbers(self: StandardNormal) -> Any:
    return torch.zeros(self.latents)


@pytest.mark.parametrize(
    ("forward", "cause", "remedy"),
    [
        (without_event, r"Shape mismatch inside plate\('data'\) at site z dim -1, 10 vs 2\.\n", r"\.to_event\(1\)\.$"),
        (of_a_negative_scale, r"GreaterThan\(.*found invalid values: tensor\(\[-1\., -1\.\]\)\.\n", "exp or softplus"),
        (of_the_data, r"missing 1 required positional argument: 'x'\.\n", "a prior .* takes no argument"),
        (of_numbers, r"Site 'z' of the model is given a Tensor, not a distribution\.\n", r"\.to_event\(1\)\.$"),
    ],
)
def test_a_prior_that_is_none_is_refused_for_its_own_reason(
    forward: Callable[..., Any], cause: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandardNormal, "forward", forward)
    model, guide = VAE(StandardNormal(2), MLP(2, 16), Bernoulli()), AmortizedNormal(MLP(16, 4))
    with pytest.raises(InputError, match=f"{cause}  .*{remedy}") as refused:
        fit(model, guide, torch.ones(10, 16))
    assert "Check the shapes" not in str(refused.value)


@pytest.mark.parametrize(
    ("decoded", "prior", "outputs", "message"),
    [
        (
            10,
            10,
            10,
            r"\(5,\) in the guide.*\(10,\) in the model, Normal\.\n.* AmortizedNormal\.outputs\(10\) outputs, or a pr",
        ),
        (5, 10, 10, r"\(5,\) in the guide.*\(10,\) in the model"),
        (10, 10, 2, r"\(1,\) in the guide.*\(10,\) in the model"),
        (10, 5, 20, r"\(10,\) in the guide.*\(5,\) in the model"),
    ],
)
def test_a_latent_of_another_size_is_not_blamed_on_the_decoder(
    decoded: int, prior: int, outputs: int, message: str
) -> None:
    model, guide = VAE(StandardNormal(prior), MLP(decoded, 16), Bernoulli()), AmortizedNormal(MLP(16, outputs))
    with pytest.raises(InputError, match=f"Site 'z' is of event shape {message}"):
        fit(model, guide, torch.ones(20, 16))


def test_as_many_data_as_latents_do_not_hide_a_missing_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandardNormal, "forward", without_event)
    model, guide = VAE(StandardNormal(2), MLP(2, 16), Bernoulli()), AmortizedNormal(MLP(16, 4))
    with pytest.raises(
        InputError, match=r"\(2,\) in the guide.*event shape \(\) in the model, Normal.\n.*to_event\(1\)"
    ):
        fit(model, guide, torch.ones(2, 16))


def test_data_of_another_number_of_tensors_than_the_pair_takes_are_refused_by_that() -> None:
    x, labels = torch.ones(10, 16), torch.zeros(10).long()
    pair = VAE(StandardNormal(2), MLP(2, 16), Bernoulli()), AmortizedNormal(MLP(16, 4))
    with pytest.raises(InputError, match=r"It takes \(x\); these data are 2 tensors\.\n  Data of several tensors"):
        fit(*pair, (x, labels))
    model = ConditionalVAE(StandardNormal(2), MLP(2 + 3, 16), Bernoulli(), classes=3)
    guide = Conditional(AmortizedNormal(MLP(16 + 3, 4)), classes=3)
    with pytest.raises(
        InputError, match=r"It takes \(x, c\); these data are 1 tensor\.\n.* a tuple of them, or split.la"
    ):
        fit(model, guide, x)


def test_parameters_are_trained_whatever_their_layout_was() -> None:
    model = LinearGaussian(torch.randn(2, 3).T, torch.zeros(3), 1.0)
    start = model.weight.detach().clone()
    fit(model, AmortizedNormal(MLP(3, 4)), torch.randn(50, 3), epochs=1)
    assert not torch.equal(model.weight, start)
    model.weight = nn.Parameter(torch.randn(2, 3).T)
    with pytest.raises(InputError, match=r"'weight' of LinearGaussian.* is not contiguous"):
        fit(model, AmortizedNormal(MLP(3, 4)), torch.randn(50, 3), epochs=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: L_A(samples=0), "samples is at least 1; it is 0"),
        (lambda: L_A(samples=2.5), "samples is at least 1; it is 2.5"),  # type: ignore[arg-type]
        (lambda: L_B(beta=-1.0), "beta is at least 0.0; it is -1.0"),
        (lambda: MLP(2, 3, initialisation="papper"), "There is no initialisation 'papper'. Did you mean paper"),  # type: ignore[arg-type]
        (lambda: MLP(2, 3, activation="tan"), "There is no activation 'tan'. Did you mean tanh"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_are_named_where_they_are_given(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(
    ("distribution", "bad", "shown"),
    [
        (lambda w: dist.Categorical(logits=w.expand(3)), 7.0, "7"),
        (lambda w: dist.Poisson(w.exp()), -0.5, "-0.5"),
        (lambda w: dist.Exponential(w.exp()), -1.0, "-1"),
    ],
)
def test_a_value_outside_any_support_is_named_in_whatever_batch(distribution: Any, bad: float, shown: str) -> None:
    def model(x: Tensor) -> None:
        w = pyro.param("w", torch.zeros(1)).squeeze()
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", distribution(w), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))

    x = torch.ones(300)
    x[250] = bad
    with pytest.raises(InputError, match=f"row 250: {shown}"):
        fit(model, guide, x, estimator="L_A", epochs=1)


@pytest.mark.parametrize(("data", "message"), [(torch.tensor(1.0), "single number"), (torch.ones(5), None)])
def test_data_have_rows(data: Tensor, message: str | None) -> None:
    if message:
        with pytest.raises(InputError, match=message):
            fit(*normal_pair(), data, estimator="L_A")
    else:
        assert len(fit(*normal_pair(), data, estimator="L_A", epochs=1)) == 1


def test_a_device_that_is_none_is_named() -> None:
    with pytest.raises(InputError, match="There is no device 'gpu'; devices are auto, cpu, cuda"):
        fit(*normal_pair(), torch.ones(5), estimator="L_A", device="gpu")
