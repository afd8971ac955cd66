# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. A pair of programs and its two bounds
#
# *Auto-Encoding Variational Bayes* (Kingma and Welling, 2013, [arXiv 1312.6114](https://arxiv.org/abs/1312.6114)) is a
# pair of programs. The **model** tells how an image x comes about: draw a code z, then pixels given the code. The
# **guide** guesses the code from the image. What trains both is a lower bound on log p(x), and the paper gives two
# estimates of it: L^A (equation 6) samples everything, L^B (equation 7) takes one term in closed form.
#
# Here we write both by hand, see that Pyro computes the same, and measure in what they differ: not in their mean, but
# in their noise.

# %%
import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor

from aevb.data import load
from aevb.guides import AmortizedNormal
from aevb.inference import L_A, L_B, evaluate, fit
from aevb.models import MLP, VAE, Bernoulli, StandardNormal

torch.manual_seed(0)
digits = load("digits")
x = digits.test.batch(torch.arange(100))  # (100, 64), black and white
print(digits.how)

figure, axes = plt.subplots(1, 10, figsize=(9, 1.2))
for axis, image in zip(axes, x, strict=False):
    axis.imshow(image.reshape(8, 8), cmap="gray_r")
    axis.set_axis_off()

# %% [markdown]
# ## The pair
#
# z has ten dimensions and a standard normal prior. The decoder is one hidden layer; its output are the log-odds of the
# pixels. The guide's encoder returns a mean and a log variance for each dimension of z (equation 9).

# %%
decoder, encoder = MLP(10, 200, 64), MLP(64, 200, 2 * 10)


def model(x: Tensor) -> None:
    pyro.module("decoder", decoder)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(10), 1.0).to_event(1))  # p(z)
        pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)  # p(x|z)


def guide(x: Tensor) -> None:
    pyro.module("encoder", encoder)
    mu, log_variance = encoder(x).chunk(2, -1)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(mu, (log_variance / 2).exp()).to_event(1))  # q(z|x)


# %% [markdown]
# ## The two bounds, by hand
#
# Both draw z = mu + sigma * epsilon (equation 4) once for each image. L^A then weighs the draw under the model and
# under the guide. L^B weighs only the pixels: the rest, KL(q(z|x) || p(z)), is an integral that appendix B does.


# %%
def normal_log_density(z: Tensor, mu: Tensor, log_variance: Tensor) -> Tensor:
    return -0.5 * (torch.log(torch.tensor(2 * torch.pi)) + log_variance + (z - mu) ** 2 / log_variance.exp()).sum(-1)


def bounds(x: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
    """L^A and L^B of each image, in nats, from the same noise."""
    mu, log_variance = encoder(x).chunk(2, -1)
    z = mu + (log_variance / 2).exp() * epsilon

    logits = decoder(z)
    log_p_x = -torch.nn.functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(
        -1
    )
    log_p_z = normal_log_density(z, torch.tensor(0.0), torch.tensor(0.0))
    log_q_z = normal_log_density(z, mu, log_variance)
    l_a = log_p_x + log_p_z - log_q_z  # equation 6

    kl = -0.5 * (1 + log_variance - mu**2 - log_variance.exp()).sum(-1)  # appendix B
    l_b = log_p_x - kl  # equation 7
    return l_a, l_b


# %% [markdown]
# ## The same from Pyro
#
# `Trace_ELBO` is L^A and `TraceMeanField_ELBO` is L^B. Pyro reports a *loss*, minus the sum over all images; `aevb`
# reports the bound, per image, going up. With the same noise, all agree.

# %%
torch.manual_seed(1)
l_a, l_b = bounds(x, torch.randn(100, 10))

for name, by_hand, pyros, ours in (("L^A", l_a, Trace_ELBO(), L_A()), ("L^B", l_b, TraceMeanField_ELBO(), L_B())):
    torch.manual_seed(1)
    from_pyro = -pyros.loss(model, guide, x) / len(x)
    torch.manual_seed(1)
    from_aevb = ours.estimate(model, guide, x).bound
    print(f"{name}: by hand {by_hand.mean():.4f}, Pyro {from_pyro:.4f}, aevb {from_aevb.mean():.4f} nats per image")
    assert abs(by_hand.mean() - from_pyro) < 1e-3
    assert torch.allclose(by_hand, from_aevb, atol=1e-3)

# %% [markdown]
# ## Equal in mean, different in noise
#
# Draw both many times. Their difference has mean zero: both estimate the same bound. Their spread is what differs, and
# not always to the advantage of L^B: the closed form takes away the noise of log p(z) - log q(z), but that noise is
# correlated with the noise of log p(x|z). We look before training and after.


# %%
def measure(draws: int = 2000) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        l_a, l_b = bounds(x[:20], torch.randn(draws, 20, 10))
    return l_a, l_b  # each (draws, 20)


def report(when: str) -> tuple[float, float]:
    l_a, l_b = measure()
    difference = (l_b - l_a).mean(1)
    error = difference.std() / len(difference) ** 0.5
    noise = l_a.std(0).mean().item(), l_b.std(0).mean().item()
    print(f"{when}: L^B - L^A = {difference.mean():+.4f} +- {error:.4f} nats; noise of one draw: ", end="")
    print(f"L^A {noise[0]:.2f}, L^B {noise[1]:.2f} nats")
    assert abs(difference.mean()) < 4.5 * error
    return noise


before = report("before training")
history = fit(model, guide, digits.train, estimator="L_B", epochs=60)
after = report("after training ")

# %% [markdown]
# The order has turned round. Near the exact posterior log p(x, z) - log q(z|x) is nearly log p(x), whatever z is: the
# *value* of L^A loses its noise there, and that of L^B does not.
#
# The noise that training feels is the gradient's, and that is another matter. We draw the gradient of the mean bound
# of 100 images many times, and add up the variances of all its entries.


# %%
def gradient_noise(estimator: L_A | L_B, draws: int = 300) -> tuple[float, float]:
    """The trace of the covariance of the gradient, for the encoder's and for the decoder's weights."""
    weights = [*encoder.parameters(), *decoder.parameters()]
    sums, squares = [0.0 * w for w in weights], [0.0 * w for w in weights]
    for _ in range(draws):
        for i, g in enumerate(torch.autograd.grad(estimator.estimate(model, guide, x).surrogate, weights)):
            sums[i], squares[i] = sums[i] + g, squares[i] + g**2
    traces = [((q - s**2 / draws).sum() / (draws - 1)).item() for s, q in zip(sums, squares, strict=True)]
    return sum(traces[:4]), sum(traces[4:])


noise = {name: gradient_noise(estimator) for name, estimator in (("L^A", L_A()), ("L^B", L_B()))}
for name, (of_encoder, of_decoder) in noise.items():
    print(f"{name}: gradient noise of the encoder {of_encoder:.4f}, of the decoder {of_decoder:.4f}")

# %% [markdown]
# The decoder's gradient noise is the same in both: the terms in which they differ do not contain the decoder. In the
# encoder's, here, L^B is the quieter one, although its value is not.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
l_a, l_b = measure()
for values, name, style in ((l_a[:, 0], "L^A", "-"), (l_b[:, 0], "L^B", "--")):
    left.hist(values, bins=60, histtype="step", density=True, label=name, linestyle=style)
left.set_xlabel("bound of one image, one draw (nats)")
left.legend(frameon=False)
right.plot(history["images"], history["train_elbo"])
right.set_xlabel("training images seen")
_ = right.set_ylabel("bound (nats per image)")

# %% [markdown]
# ## In one line each
#
# The suite says the same with its own parts: prior, decoder and likelihood make a model, an encoder makes a guide,
# and the estimator is a word.

# %%
pair = VAE(StandardNormal(10), MLP(10, 200, 64), Bernoulli()), AmortizedNormal(MLP(64, 200, 2 * 10))
fit(*pair, digits.train, estimator="L_A", epochs=20)
print(f"test bound {evaluate(*pair, digits.test, samples=100).elbo.mean():.2f} nats per image")

# %% [markdown]
# ## What we know now
#
# Both bounds are the same number in expectation (asserted above, by hand and from Pyro). They differ in noise, and
# which is the quieter depends on where one looks: the value or the gradient, before training or after.

# %%
assert abs(noise["L^A"][1] / noise["L^B"][1] - 1) < 0.1
assert before[0] > before[1]  # the value of L^B has less noise before training,
assert after[0] < after[1]  # that of L^A after it;
assert noise["L^A"][0] > noise["L^B"][0]  # the encoder's gradient has less under L^B all the same
assert history["train_elbo"][-1] > history["train_elbo"][0] + 10
