"""Discrete latents whose values are summed over: against Pyro, against the models without them, and by hand."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

from aevb.guides import AmortizedNormal, Responsibilities, SemiSupervised
from aevb.inference import IWAE, L_A, L_B, Estimator, L_B_mixed, active_units, evaluate, fit, log_evidence
from aevb.models import (
    MLP,
    VAE,
    Bernoulli,
    GaussianMixtureVAE,
    InputError,
    NormalMixture,
    SemiSupervisedVAE,
    StandardNormal,
)


@pytest.fixture
def x(float64: None) -> Tensor:
    return (torch.rand(30, 6) < torch.linspace(0.05, 0.95, 6)).double()


@pytest.fixture
def y() -> Tensor:
    """Ten data with a label, twenty without."""
    return torch.where(torch.arange(30) < 10, torch.arange(30) % 3, -1)


MARKED = {"enumerate": "parallel"}
Grouped = tuple[GaussianMixtureVAE, Responsibilities, VAE, AmortizedNormal]
SemiSupervisedPair = tuple[SemiSupervisedVAE, SemiSupervised]


@pytest.fixture
def grouped(float64: None) -> Grouped:
    """A model of groups and its guide; and the same without the groups, by its prior's density."""
    model = GaussianMixtureVAE(NormalMixture(2, components=4), MLP(2, 6), Bernoulli())
    guide = AmortizedNormal(MLP(6, 4))
    return model, Responsibilities(guide, model), VAE(model.prior, model.decoder, model.likelihood), guide


@pytest.fixture
def m2(float64: None) -> SemiSupervisedPair:
    model = SemiSupervisedVAE(StandardNormal(2), MLP(2 + 3, 6), Bernoulli(), classes=3)
    return model, SemiSupervised(MLP(6, 3), AmortizedNormal(MLP(6 + 3, 4)), classes=3)


def estimate(estimator: Estimator, model: nn.Module, guide: nn.Module, *batch: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Bound and gradients, on one noise."""
    torch.manual_seed(1)
    found = estimator.estimate(model, guide, *batch)
    parameters = [*model.parameters(), *guide.parameters()]
    gradients = torch.autograd.grad(found.surrogate, parameters, allow_unused=True)
    return found.bound, [torch.zeros(()) if g is None else g for g in gradients]


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("make", [L_A, L_B_mixed])
def test_groups_that_are_summed_over_are_the_mixture(
    make: type[Estimator], samples: int, beta: float, grouped: Grouped, x: Tensor
) -> None:
    """E log p(y) p(z|y) / p(y|z) over p(y|z) is log p(z), for every z, with its gradient."""
    model, guide, without, inner = grouped
    ours, theirs = (estimate(make(samples=samples, beta=beta), *pair, x) for pair in ((model, guide), (without, inner)))
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-12, atol=0)
    for ours_gradient, theirs_gradient in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(ours_gradient, theirs_gradient, rtol=1e-10, atol=1e-12)


def test_the_kl_path_says_what_was_summed(grouped: Grouped, m2: SemiSupervisedPair, x: Tensor, y: Tensor) -> None:
    model, guide, _, _ = grouped
    assert L_A().estimate(model, guide, x).kl_path == {"z": "monte-carlo", "y": "enumerated"}
    assert L_B_mixed().estimate(model, guide, x).kl_path == {"z": "monte-carlo", "y": "analytic"}
    assert L_A().estimate(*m2, x, y).kl_path == {"y": "enumerated", "z": "monte-carlo"}
    assert L_B().estimate(*m2, x, y).kl_path == {"y": "analytic", "z": "analytic"}
    assert IWAE(samples=2).estimate(*m2, x, y).kl_path == {"y": "none", "z": "none"}
    with pytest.raises(InputError, match="depends on what the guide draws later"):
        L_B().estimate(model, guide, x)


def test_it_is_what_pyro_sums(grouped: Grouped, m2: SemiSupervisedPair, x: Tensor, y: Tensor) -> None:
    """Loss and gradients of TraceEnum_ELBO on the same noise."""
    m2[0].attach(m2[1], label_weight=5.0)
    for model, guide, batch in ((grouped[0], grouped[1], (x,)), (*m2, (x, y))):
        bound, gradients = estimate(L_A(), model, guide, *batch)
        torch.manual_seed(1)
        loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, *batch)
        assert (-loss / 30).item() == pytest.approx(bound.mean().item(), rel=1e-12)
        parameters: list[Any] = [*model.parameters(), *guide.parameters()]
        for ours, theirs in zip(gradients, torch.autograd.grad(-loss / 30, parameters), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_semi_supervised_bound_by_hand(m2: SemiSupervisedPair, x: Tensor, y: Tensor) -> None:
    """Equations 6 and 7 of Kingma et al. (2014), on the noise that was drawn."""
    model, guide = m2
    torch.manual_seed(1)
    draws = L_A().draw(model, guide, x, y, enumerate=True)
    bound = draws.log_weights()[0]
    z = next(latent for latent in draws.latents if latent.name == "z").guide_site["value"]
    assert z.reshape(3, 30, 2).shape == (3, 30, 2)

    def l(c: int) -> Tensor:  # noqa: E743
        """-L(x, y = c)."""
        at, of = z.reshape(3, 30, 2)[c], torch.full((30,), c)
        density = model.decode(at, of).log_prob(x) + model.prior().log_prob(at)
        return density - math.log(3) - guide.encode(x, of).log_prob(at)

    known = torch.stack([l(int(label))[i] for i, label in enumerate(y[:10])])
    q = guide.classify(x).probs
    unknown = sum((q[:, c] * (l(c) - q[:, c].log()) for c in range(3)), torch.zeros(30))
    torch.testing.assert_close(bound[:10], known)
    torch.testing.assert_close(bound[10:], unknown[10:])
    model.attach(guide, label_weight=5.0)
    torch.manual_seed(1)
    taught = L_A().estimate(model, guide, x, y).bound
    expected = 5.0 * q.log().gather(1, y.clamp(min=0)[:, None])[:, 0] * (y >= 0)
    torch.testing.assert_close(taught - bound, expected)


@pytest.mark.parametrize("samples", [1, 2])
def test_without_other_latents_there_is_no_noise(samples: int, x: Tensor) -> None:
    """A mixture of Bernoullis: the bound of any q(y|x) is a finite sum; of p(y|x), it is log p(x)."""
    log_odds, classifier = torch.randn(3, 6, requires_grad=True), MLP(6, 3)

    def model(x: Tensor) -> None:
        odds = pyro.param("odds", log_odds)
        with pyro.plate("data", 300, subsample=x):
            y = pyro.sample("y", dist.Categorical(logits=torch.zeros(3)))
            pyro.sample("x", dist.Bernoulli(logits=nn.functional.embedding(y, odds)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("classifier", classifier)
        with pyro.plate("data", 300, subsample=x):
            pyro.sample("y", dist.Categorical(logits=classifier(x)), infer={"enumerate": "parallel"})

    log_joint = dist.Bernoulli(logits=log_odds).to_event(1).log_prob(x[:, None]) - math.log(3)
    log_q = classifier(x).log_softmax(-1)
    expected = (log_q.exp() * (log_joint - log_q)).sum(-1)
    for estimator in (L_A(samples=samples), L_B(samples=samples)):
        found = estimator.estimate(model, guide, x)
        torch.testing.assert_close(found.bound, expected, rtol=1e-12, atol=0)
        gradients = torch.autograd.grad(found.surrogate, [*classifier.parameters()])
        for ours, truth in zip(
            gradients, torch.autograd.grad(expected.mean(), [*classifier.parameters()], retain_graph=True), strict=True
        ):
            torch.testing.assert_close(ours, truth, rtol=1e-10, atol=1e-14)
    classifier = nn.Sequential(_Exact(log_odds))  # type: ignore[assignment]
    torch.testing.assert_close(L_A().estimate(model, guide, x).bound, log_joint.logsumexp(-1), rtol=1e-12, atol=0)


class _Exact(nn.Module):
    def __init__(self, log_odds: Tensor) -> None:
        super().__init__()
        self.log_odds = nn.Parameter(log_odds.detach())

    def forward(self, x: Tensor) -> Tensor:
        return dist.Bernoulli(logits=self.log_odds).to_event(1).log_prob(x[:, None])


def test_evidence_is_that_of_the_mixture(grouped: Grouped, x: Tensor) -> None:
    """By drawing groups, since a log of a mean is no mean over them; both estimates to 4.5 standard errors."""
    model, guide, without, inner = grouped
    with torch.no_grad():
        for far in (model.prior.loc, *model.decoder.parameters()):
            far.mul_(0.3)  # within reach of an untrained guide
    ours, theirs = (log_evidence(*pair, x, samples=20_000) for pair in ((model, guide), (without, inner)))
    error = (ours.standard_errors.square() + theirs.standard_errors.square()).sqrt()
    assert ((ours.values - theirs.values).abs() < 4.5 * error).all()
    assert error.median() < 0.05
    assert active_units(model, guide, x).keys() == {"z"}


def test_both_engines_train_alike(grouped: Grouped, m2: SemiSupervisedPair, x: Tensor, y: Tensor) -> None:
    m2[0].attach(m2[1], label_weight=2.0)
    for model, guide, data in ((grouped[0], grouped[1], x), (*m2, (x, y))):
        start = {role: {n: v.clone() for n, v in p.state_dict().items()} for role, p in (("m", model), ("g", guide))}
        curves = []
        for engine in ("svi", "fast"):
            model.load_state_dict(start["m"])
            guide.load_state_dict(start["g"])
            history = fit(model, guide, data, estimator="L_A", epochs=30, batch_size=10, engine=engine)  # type: ignore[arg-type]
            assert history.engine == engine
            curves.append(torch.tensor(history["train_elbo"]))
        torch.testing.assert_close(*curves, rtol=1e-10, atol=0)
        assert curves[0][-1] > curves[0][0] + 0.1


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("estimator", [L_A, L_B])
def test_a_global_latent_beside_it_keeps_its_kl(estimator: type[Estimator], samples: int, float64: None) -> None:
    """In a plate of its own, left of the data: KL = K (log 1/s + (s^2 + m^2 - 1) / 2) / N."""
    x = torch.randn(5)

    def model(x: Tensor) -> None:
        with pyro.plate("K", 3, dim=-2):
            pyro.sample("mu", dist.Normal(torch.zeros(()), 1.0))
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.ones(3) / 3))
            pyro.sample("x", dist.Normal(y.to(x.dtype), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("K", 3, dim=-2):
            pyro.sample("mu", dist.Normal(pyro.param("m", torch.tensor(0.5)), 0.1))
        with pyro.plate("data", len(x), dim=-1):
            logits = torch.stack([x, -x, 0 * x], -1)
            pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})

    truth = 3 * (math.log(10) + (0.01 + 0.25 - 1) / 2) / 5
    found = torch.stack([estimator(samples=samples).estimate(model, guide, x).kl_global for _ in range(400)])
    error = found.std() / 20
    assert (found.mean() - truth).abs() <= 4.5 * error + 1e-12
    assert error < 0.02


def test_what_is_not_all_of_a_site_s_values_is_refused(x: Tensor) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = 0.0
            for t in pyro.markov(range(3)):
                z = pyro.sample(f"z{t}", dist.Bernoulli(0.2 + 0.5 * torch.as_tensor(z)))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    def guide(x: Tensor, steps: Any = None, infer: Any = None) -> None:
        with pyro.plate("data", len(x)):
            for t in steps or pyro.markov(range(3)):
                pyro.sample(f"z{t}", dist.Bernoulli(pyro.param("p", torch.tensor(0.4))), infer=infer or MARKED)

    with pytest.raises(InputError, match=r"\['z0', 'z1', 'z2'\] are enumerated in dimensions that they share"):
        L_A().estimate(model, guide, x)
    assert L_A().estimate(model, lambda x: guide(x, range(3)), x).bound.shape == (30,)
    few = MARKED | {"num_samples": 2}
    with pytest.raises(InputError, match=r"'z0' is marked to be enumerated, all of its values"):
        L_A().estimate(model, lambda x: guide(x, range(3), few), x)

    def continuous(x: Tensor, infer: Any = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("p", torch.tensor(0.4)), 1.0), infer=infer)

    def normal(x: Tensor) -> None:
        continuous(x)
        pyro.sample("x", dist.Normal(torch.zeros(6), 1.0).expand([len(x), 6]).to_event(2), obs=x)

    with pytest.raises(InputError, match=r"finitely many; it is Normal.\n.*Leave out"):
        L_A().estimate(normal, lambda x: continuous(x, MARKED), x)


def test_what_is_measured_is_a_bound(m2: SemiSupervisedPair, x: Tensor, y: Tensor) -> None:
    """The classifier's own term is trained on, and is no part of what evaluate and log_evidence report."""
    before = evaluate(*m2, (x, y)).elbo, log_evidence(*m2, (x, y), samples=50).values
    m2[0].attach(m2[1], label_weight=50.0)
    after = evaluate(*m2, (x, y)).elbo, log_evidence(*m2, (x, y), samples=50).values
    for own, other in zip(before, after, strict=True):
        torch.testing.assert_close(own, other)
    m2[0].attach(m2[1], label_weight=0.0)
    fit(*m2, (x, y), epochs=1)


def test_labels_are_learned_from_few(float64: None) -> None:
    """Two kinds of pictures, one label of each among two hundred: all others are told."""
    kind = torch.arange(200) % 2
    x = (torch.rand(200, 8) < torch.where(kind[:, None] == (torch.arange(8) < 4), 0.95, 0.05)).double()
    y = torch.where(torch.arange(200) < 2, kind, -1)
    model = SemiSupervisedVAE(StandardNormal(1), MLP(1 + 2, 8), Bernoulli(), classes=2)
    guide = SemiSupervised(MLP(8, 2), AmortizedNormal(MLP(8 + 2, 2)), classes=2)
    fit(model.attach(guide, 10.0), guide, (x, y), estimator="L_B", epochs=100, learning_rate=0.01)
    assert (guide.classify(x).probs.argmax(-1) == kind).double().mean() > 0.98
    assert model.sample(torch.tensor([0, 1])).shape == (2, 8)
    assert model.reconstruct(x, guide).shape == x.shape
    assert guide.sample(x, 3).shape == (3, 200, 1)
    assert evaluate(model, guide, (x, y)).elbo.shape == (200,)


def test_what_cannot_be_enumerated_is_refused(x: Tensor) -> None:
    def pair(guide_only: Any = None, outside: bool = False, pixels: bool = False) -> Any:
        def program(x: Tensor, obs: Tensor | None, infer: dict[str, str]) -> None:
            if outside:
                y = pyro.sample("y", dist.Bernoulli(pyro.param("p", torch.tensor(0.4))), infer=infer)
            with pyro.plate("pixels", 6, dim=-2) if pixels else pyro.plate("data", len(x), dim=-1):
                if pixels:
                    with pyro.plate("data", len(x), dim=-1):
                        y = pyro.sample("y", dist.Bernoulli(pyro.param("p", torch.tensor(0.4))), infer=infer)
                        value = None if obs is None else pyro.sample("x", dist.Normal(y, 1.0), obs=obs.T)
                    return
                if not outside:
                    y = pyro.sample("y", dist.Bernoulli(pyro.param("p", torch.tensor(0.4))), infer=infer)
                if guide_only is not None:
                    pyro.sample("other", dist.Bernoulli(0.5))
                value = None if obs is None else pyro.sample("x", dist.Normal(y, 1.0), obs=obs[:, 0])
            del value

        return lambda x: program(x, x, {}), lambda x: program(x, None, {"enumerate": "parallel"})

    with pytest.raises(InputError, match=r"Site 'y' is enumerated.*\n  It stands in pixels, data"):
        L_A().estimate(*pair(pixels=True), x)
    with pytest.raises(InputError, match=r"Site 'y' is enumerated.*\n  It stands in none"):
        L_A().estimate(*pair(outside=True), x)
    with pytest.raises(InputError, match="Site 'other' is drawn without a path, beside sites that are enumerated"):
        L_A().estimate(*pair(guide_only=True), x)
