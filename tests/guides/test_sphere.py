"""The pair that lives on the sphere."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from aevb.guides import AmortizedNormal, AmortizedPowerSpherical, Guide
from aevb.guides.amortized_power_spherical import PowerSpherical, _turn
from aevb.inference import evaluate, fit
from aevb.models import MLP, VAE, Bernoulli, HypersphericalUniform, InputError, Prior, StandardNormal, VampPrior


def towards(latents: int, concentration: float) -> PowerSpherical:
    loc = torch.nn.functional.normalize(torch.randn(latents), dim=-1)
    return PowerSpherical(loc, torch.tensor(concentration))


def around(latents: int, f: Callable[[Tensor], Tensor], loc: Tensor, points: int = 200_001) -> Tensor:
    """The integral over the sphere of radius r = sqrt(D) of a function of the height r t along ``loc``: of f(t) times
    the area of the sphere of radius r sqrt(1 - t^2) = r sin a, by the arc r a."""
    angle = torch.linspace(0, math.pi, points)
    below = latents - 1
    area = 2 * math.pi ** (below / 2) / math.gamma(below / 2) * latents ** (below / 2)
    return torch.trapezoid(f(angle.cos()) * area * angle.sin() ** (below - 1), angle)


def at_height(loc: Tensor, t: Tensor) -> Tensor:
    """Points of the sphere at r times these heights along ``loc``, all in one direction around it."""
    side = torch.randn_like(loc)
    side = torch.nn.functional.normalize(side - (side @ loc) * loc, dim=-1)
    return len(loc) ** 0.5 * (t[:, None] * loc + (1 - t**2).clamp(min=0).sqrt()[:, None] * side)


@pytest.mark.parametrize("latents", [2, 3, 10])
@pytest.mark.parametrize("concentration", [0.3, 5.0, 800.0])
def test_density_entropy_and_mean_are_integrals(latents: int, concentration: float, float64: None) -> None:
    q = towards(latents, concentration)
    density = lambda t: q.log_prob(at_height(q.loc, t)).exp()  # noqa: E731
    total = around(latents, density, q.loc)
    entropy = around(latents, lambda t: -density(t) * density(t).clamp(min=1e-300).log(), q.loc)
    height = latents**0.5 * around(latents, lambda t: density(t) * t, q.loc)
    torch.testing.assert_close(total, torch.tensor(1.0), rtol=1e-6, atol=0)
    torch.testing.assert_close(q.entropy(), entropy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q.mean @ q.loc, height, rtol=1e-6, atol=0)


@pytest.mark.parametrize("latents", [2, 3, 10])
def test_the_kl_to_uniform_is_its_integral_and_its_mean(latents: int, float64: None) -> None:
    q, p = towards(latents, 7.0), HypersphericalUniform(latents)()
    z = q.sample((200_000,))
    ratio = q.log_prob(z) - p.log_prob(z)
    error = ratio.std() / len(ratio) ** 0.5
    assert (kl_divergence(q, p) - ratio.mean()).abs() < 4.5 * error < 0.02
    uniform = PowerSpherical(q.loc, torch.tensor(1e-12))
    assert kl_divergence(uniform, p).abs() < 1e-9


@pytest.mark.parametrize("latents", [2, 3, 10])
def test_draws_are_of_the_density(latents: int, float64: None) -> None:
    """E_q f = E_u f q / u for the uniform u and f the coordinates and their products, to 4.5 standard errors."""
    q, u = towards(latents, 4.0), HypersphericalUniform(latents)()

    def moments(z: Tensor) -> Tensor:
        return torch.cat([torch.ones(len(z), 1), z, (z[:, :, None] * z[:, None, :]).flatten(1)], 1)

    own, other = moments(q.sample((200_000,))), u.sample((200_000,))
    weighted = moments(other) * (q.log_prob(other) - u.log_prob(other)).exp()[:, None]
    error = (own.var(0) / len(own) + weighted.var(0) / len(weighted)).sqrt()
    assert ((own.mean(0) - weighted.mean(0)).abs() <= 4.5 * error + 1e-12).all()
    assert error.max() < 0.03


def test_draws_are_on_the_sphere_in_float32() -> None:
    for latents in (2, 40):
        q = PowerSpherical(torch.nn.functional.normalize(torch.randn(100, latents), dim=-1), torch.logspace(-3, 4, 100))
        assert q.support.check(q.rsample((50,))).all()
        assert HypersphericalUniform(latents)().support.check(HypersphericalUniform(latents)().sample((50,))).all()


def test_the_gradient_of_a_draw_is_that_of_the_mean(float64: None) -> None:
    """E z = m sqrt(D) kappa / (D - 1 + kappa): its derivative by kappa and by m, to 4.5 standard errors."""
    loc = torch.nn.functional.normalize(torch.randn(3), dim=-1)
    given = loc.clone().requires_grad_(), torch.tensor(2.0, requires_grad=True)

    def towards_loc(direction: Tensor, concentration: Tensor, count: int) -> PowerSpherical:
        m = torch.nn.functional.normalize(direction, dim=-1)
        return PowerSpherical(m.expand(count, 3), concentration.expand(count))

    expected = torch.autograd.grad(towards_loc(*given, 1).mean[0, 0], given)
    found = [torch.autograd.grad(towards_loc(*given, 2000).rsample()[:, 0].mean(), given) for _ in range(200)]
    for position, truth in enumerate(expected):
        draws = torch.stack([gradients[position] for gradients in found])
        error = draws.std(0) / len(draws) ** 0.5
        assert ((draws.mean(0) - truth).abs() < 4.5 * error).all()
        assert error.max() < 0.01


def test_the_pair_trains_by_every_bound() -> None:
    """Fifty steps raise the bound of twenty data by more than three standard errors, with VampPrior too."""
    x = (torch.rand(20, 6) < torch.linspace(0.05, 0.95, 6)).float()
    for estimator, path in (("L_A", "monte-carlo"), ("L_B", "analytic"), ("IWAE", "none")):
        torch.manual_seed(0)
        guide = AmortizedPowerSpherical(MLP(6, 5, 4))
        model = VAE(HypersphericalUniform(3), MLP(3, 5, 6), Bernoulli())
        before = evaluate(model, guide, x, samples=100).elbo
        history = fit(model, guide, x, estimator=estimator, epochs=50, batch_size=20, learning_rate=0.01)
        gain = evaluate(model, guide, x, samples=100).elbo - before
        assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5, estimator
        assert history.kl_path == {"z": path}
    guide = AmortizedPowerSpherical(MLP(6, 5, 4))
    model = VAE(VampPrior(3, components=4).attach(guide, x[:4]), MLP(3, 5, 6), Bernoulli())
    assert fit(model, guide, x, estimator="L_B_mixed", epochs=2).kl_path == {"z": "monte-carlo"}


@pytest.mark.parametrize(
    ("prior", "guide"),
    [(HypersphericalUniform, AmortizedNormal), (StandardNormal, AmortizedPowerSpherical)],
)
def test_it_goes_with_nothing_else(prior: type[Prior], guide: type[Guide]) -> None:
    encoder = MLP(6, guide.outputs(3))
    pair: Any = VAE(prior(3), MLP(3, 6), Bernoulli()), guide(encoder)  # type: ignore[call-arg]
    with pytest.raises(InputError, match=r"does not go with the model's .*\n.* by the area of a surface, Sphere"):
        fit(*pair, torch.ones(20, 6), epochs=1)


def positive(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Exponential(1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_a_posterior_wider_than_its_prior_is_refused() -> None:
    """Whether or not it has drawn anything outside; one that has is refused whatever is known of its support."""

    def far_inside(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(100.0, 0.1))

    def positive_too(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.LogNormal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    def outside(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Uniform(pyro.param("low", torch.tensor(-5.0)), -1.0))

    x = torch.ones(10)
    with pytest.raises(InputError, match=r"the guide's Normal does not go with the model's Exponential.\n.*any real"):
        fit(positive, far_inside, x, epochs=1)
    with pytest.raises(InputError, match="has drawn a value outside"):
        fit(positive, outside, x, epochs=1)
    assert fit(positive, positive_too, x, estimator="L_A", epochs=2)["train_elbo"][-1] < 0


def test_surfaces_go_with_nothing_else() -> None:
    """A Dirichlet's density, by the area of the simplex, below a Normal's would make a bound above the evidence."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.ones(3) / 3, 0.05).to_event(1))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Dirichlet(pyro.param("a", 50 * torch.ones(3))))

    with pytest.raises(InputError, match="by the area of a surface, Simplex"):
        fit(model, guide, torch.ones(10), epochs=1)


def test_a_support_with_limits_for_each_latent_is_named() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Uniform(torch.zeros(2), torch.ones(2)).to_event(1))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("a", torch.zeros(2)), 1.0).to_event(1))

    with pytest.raises(InputError, match="the prior has a density on its support, Interval"):
        fit(model, guide, torch.ones(10), epochs=1)


@pytest.mark.parametrize("latents", [2, 10, 64])
def test_its_spread_is_two_d_over_kappa(latents: int, float64: None) -> None:
    """In each of the D - 1 directions, to 4.5 standard errors and the next term, of 1 / kappa."""
    q = PowerSpherical(torch.eye(latents)[0], torch.tensor(5000.0))
    z = q.sample((100_000,))[:, 1:]
    assert (z.var(0) * 5000 / (2 * latents) - 1).abs().max() < 5.5 * (2 / 100_000) ** 0.5 + latents / 5000


@pytest.mark.parametrize("tilt", [0.0, 1e-6, 1e-4, 1e-2, 1.0])
def test_turning_loses_no_digits_near_the_first_axis(tilt: float) -> None:
    """The reflection takes the first axis to loc, in float32, however near the two are; gradients are finite."""
    loc = torch.tensor([1.0, tilt, -tilt])
    loc = (loc / loc.norm()).requires_grad_()
    z = _turn(torch.eye(3)[0], loc)
    torch.testing.assert_close(z, loc, rtol=0, atol=1e-6)
    assert abs((z[1] - loc[1]).item()) <= 1e-3 * tilt
    (gradient,) = torch.autograd.grad(z.sum(), loc)
    assert gradient.isfinite().all()


def test_a_latent_has_variance_one_under_the_prior_and_a_new_guide_looks_halfway(float64: None) -> None:
    """Whatever D: a decoder's weights meet what they meet under N(0, I)."""
    for latents in (2, 40):
        z = HypersphericalUniform(latents)().sample((100_000,))
        assert (z.var(0) - 1).abs().max() < 6 * (2 / 100_000) ** 0.5
        assert torch.allclose(z.norm(dim=-1), torch.tensor(latents**0.5))
        q = AmortizedPowerSpherical(MLP(1, latents + 1), floor=0.0).family(torch.eye(latents + 1)[:1])
        assert torch.allclose(q.mean.norm(), torch.tensor(latents**0.5 / 2))


def test_the_unit_sphere_is_another_one() -> None:
    def on_unit_sphere(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.ProjectedNormal(pyro.param("v", torch.ones(3))))

    with pytest.raises(InputError, match="by the area of a surface, Sphere"):
        fit(VAE(HypersphericalUniform(3), MLP(3, 6), Bernoulli()), on_unit_sphere, torch.ones(20, 6), epochs=1)


def test_an_encoder_that_says_nothing_has_finite_gradients() -> None:
    numbers = torch.tensor([[0.3, -0.2, 0.1, -100.0], [0.3, -0.2, 0.1, 100.0]], requires_grad=True)
    q = AmortizedPowerSpherical(MLP(6, 4)).family(numbers)
    (gradient,) = torch.autograd.grad((q.log_prob(q.rsample()) - q.entropy()).sum(), numbers)
    assert gradient.isfinite().all()
