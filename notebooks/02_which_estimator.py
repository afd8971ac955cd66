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
# # 2. Which estimator, and what does it cost?
#
# Training climbs a bound on log p(x) by the gradient of an *estimate* of it. Two choices hide in that sentence: the
# **bound**, and the **estimator of its gradient**. Estimators of one bound agree in mean and differ in noise; different
# bounds are different aims. Here we measure both, on the digits and on a model of which everything is known.
#
# Each estimator of `aevb` says what it is after:

# %%
import math
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import torch

from aevb.contract import BrokenContract, check_estimator
from aevb.data import load
from aevb.guides import AmortizedBernoulli, AmortizedNormal
from aevb.inference import (
    ESTIMATORS,
    IWAE,
    L_A,
    L_B,
    REINFORCE,
    STL,
    VIMCO,
    DReG,
    Estimate,
    Estimator,
    Target,
    fit,
    gradient_noise,
)
from aevb.models import MLP, VAE, Bernoulli, BernoulliVAE, FactorialBernoulli, LinearGaussian, StandardNormal

for name, estimator in ESTIMATORS.items():
    target = estimator().target
    print(f"{name:10} value: {target.bound:20} {target.side} log p(x); the guide climbs {target.guide}")

# %% [markdown]
# ## One bound, four gradients
#
# `L_A` samples everything (equation 6 of the paper), `L_B` takes the KL in closed form (equation 7), `STL` leaves out
# the score of q, whose mean is 0, and `REINFORCE` uses nothing but the score. All four are unbiased for the gradient
# of the same number. We draw each 100 times on the same 100 images, before training and after it.

# %%
torch.manual_seed(0)
digits = load("digits")
x = digits.train.batch(torch.arange(100))
model, guide = VAE(StandardNormal(10), MLP(10, 200, 64), Bernoulli()), AmortizedNormal(MLP(64, 200, 2 * 10))
four = {"L_A": L_A(), "L_B": L_B(), "STL": STL(), "REINFORCE": REINFORCE()}


def of_the_guide(rows: list[Any]) -> dict[str, Any]:
    return {row.estimator: row for row in rows if row.part == "guide"}


before = of_the_guide(gradient_noise(model, guide, x, four, draws=100))
history = fit(model, guide, digits.train, estimator="L_B", epochs=60)
after = of_the_guide(gradient_noise(model, guide, x, four, draws=100))

print("noise of the guide's gradient, sqrt(tr Cov g) (signal-to-noise ratio)")
for name in four:
    row, later = before[name], after[name]
    figures = row.variance**0.5, row.snr, later.variance**0.5, later.snr
    print("{:10} before {:6.2f} ({:5.2f})   after {:6.2f} ({:5.2f})".format(name, *figures))
    assert not row.is_biased
    assert not later.is_biased

# %% [markdown]
# Before training `L_B` is the quietest: the code says nothing of the image yet, the KL is most of what changes, and it
# is exact. `STL` is next, the other two far behind. After training the order is another. `STL`'s noise vanishes where
# q(z|x) = p(z|x), and training has brought the guide near it; `L_B` saves half of `L_A`'s variance here, and keeps the
# noise of the reconstruction. And `REINFORCE`, the noisiest before training, is so no longer: its baseline knows these
# images, the instrument having let it learn them first each time. Does L^B have less variance? It depends on where one
# stands, and against what: measure.
#
# ## More samples: signal and noise
#
# IWAE's bound rises with k. But the signal in its gradient *for the guide* falls as 1/k while the noise falls as
# k^-1/2: the ratio falls as **k^-1/2** (Rainforth et al. 2018). DReG integrates the score by parts, and its ratio rises
# as **k^1/2** (Tucker et al. 2018). These laws are asymptotic. Here they are tried on a linear-Gaussian model, whose
# posterior is exact: with a guide 1.2 times as wide, and with one 0.8 times as wide, in ten dimensions.

# %%
KS = (8, 32, 128)


def off_posterior(latents: int, scale: float, shift: float) -> tuple[LinearGaussian, AmortizedNormal, torch.Tensor]:
    """A model, one datum, and a guide at its posterior but for its width and a shift, in standard deviations."""
    model = LinearGaussian(torch.eye(latents), torch.zeros(latents), 0.8)
    datum = torch.linspace(-1, 1, latents)[None]
    posterior = model.posterior(datum)
    sd = posterior.variance[0].sqrt()
    encoder = MLP(latents, 2 * latents)
    bias = torch.cat([posterior.loc[0] + shift * sd, 2 * (scale * sd).log()]).detach()
    encoder.load_state_dict({"0.weight": torch.zeros(2 * latents, latents), "0.bias": bias})
    return model, AmortizedNormal(encoder), datum


def ratios(latents: int, scale: float, shift: float) -> dict[str, list[float]]:
    """Signal-to-noise of the guide's gradient at each k; IWAE's mean is taken from DReG's draws."""
    found: dict[str, list[float]] = {"IWAE": [], "DReG": []}
    for k in KS:
        estimators = {"IWAE": IWAE(samples=k), "DReG": DReG(samples=k)}
        rows = of_the_guide(gradient_noise(*off_posterior(latents, scale, shift), estimators, draws=600, effort=1))
        for name in found:
            found[name].append(rows[name].snr)
    return found


def slope(values: list[float]) -> float:
    return math.log(values[-1] / values[0]) / math.log(KS[-1] / KS[0])


wide, narrow = ratios(2, 1.2, 0.3), ratios(10, 0.8, 0.0)
for title, snr in (("1.2 times as wide, D = 2", wide), ("0.8 times as wide, D = 10", narrow)):
    print(f"{title}: slope of IWAE {slope(snr['IWAE']):+.2f}, of DReG {slope(snr['DReG']):+.2f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for axis, (title, snr) in zip(axes, (("too wide, D = 2", wide), ("too narrow, D = 10", narrow)), strict=True):
    for (name, values), style in zip(snr.items(), ("--", "-"), strict=True):
        axis.plot(KS, values, style, marker="o", label=name)
    axis.set(xscale="log", yscale="log", xlabel="samples k", ylabel="signal-to-noise, guide", title=title)
    axis.legend(frameon=False)

# %% [markdown]
# Where weights have a finite variance and k is large the laws hold. With a narrow guide in ten dimensions a few draws
# have nearly all the weight, k = 128 is not large, and neither law is seen: not even DReG's signal comes out.
#
# ## Latents without a path
#
# A binary z cannot be moved a little, so there is no path to differentiate. `REINFORCE` is unbiased and noisy, `VIMCO`
# uses the other k - 1 draws as a baseline. With eight latents the exact bound is a sum over 256 values, to compare.

# %%
binary = BernoulliVAE(FactorialBernoulli(8), MLP(8, 50, 64), Bernoulli())
guess = AmortizedBernoulli(MLP(64, 50, 8))
discrete = {
    "REINFORCE, no baseline": REINFORCE(baseline="none"),
    "REINFORCE": REINFORCE(),
    "REINFORCE, 5 draws": REINFORCE(samples=5, baseline="others"),
    "VIMCO, 5 draws": VIMCO(samples=5),
}
rows = of_the_guide(gradient_noise(binary, guess, x, discrete, draws=100, exact=lambda x: binary.elbo(x, guess)))
for name, row in rows.items():
    bias = "biased" if row.is_biased else "no bias seen"
    print(f"{name:24} target {row.target:10} noise {row.variance**0.5:6.2f}, {bias}")

# %% [markdown]
# ## Your own
#
# An estimator is a class with a target and one method. `draws.log_weights()` is log p(x, z) - log q(z|x) for each of k
# draws and each datum. Here is the bound of jackknife variational inference (Nowozin 2018), which removes the leading
# 1/k of IWAE's gap and is no longer below log p(x) for sure. `check_estimator` puts it through the contract that ours
# keep: value and gradients against numerical integrals, any batch, subsampling, float32 at its limits.


# %%
def jackknife(log_w: torch.Tensor) -> torch.Tensor:
    """k L_k - (k - 1) times the mean of L_(k-1) over the draw that is left out: from ``(k, ...)`` to ``(...)``."""
    k = len(log_w)
    without = [torch.cat([log_w[:i], log_w[i + 1 :]]).logsumexp(0) - math.log(k - 1) for i in range(k)]
    return k * (log_w.logsumexp(0) - math.log(k)) - (k - 1) * torch.stack(without).mean(0)


class Jackknife(Estimator):
    """Jackknife variational inference, Nowozin (2018), of first order."""

    has_beta = False

    @property
    def target(self) -> Target:
        name = f"JVI k={self.samples}"
        return Target(name, "either", model=name, guide=name)

    def estimate(self, *batch: Any) -> Estimate:
        draws = self.draw(*batch)
        bound = jackknife(draws.log_weights())
        return Estimate.of(draws, bound, surrogate=bound.mean())


class HalfAJackknife(Jackknife):
    """Forgets a factor."""

    def estimate(self, *batch: Any) -> Estimate:
        right = super().estimate(*batch)
        return replace(right, surrogate=0.5 * right.surrogate)


check_estimator(Jackknife, bound=jackknife)
try:
    check_estimator(HalfAJackknife, bound=jackknife)
except BrokenContract as broken:
    complaint = str(broken)
    print(complaint)

# %% [markdown]
# It trains, and the instrument takes it like any other.

# %%
fit(model, guide, digits.train, estimator=Jackknife(samples=3), epochs=2)
both = {"Jackknife": Jackknife(samples=3), "IWAE": IWAE(samples=3)}
for name, row in of_the_guide(gradient_noise(model, guide, x, both, draws=50)).items():
    print(f"{name:10} target {row.target:10} noise {row.variance**0.5:.2f}, signal-to-noise {row.snr:.2f}")

# %% [markdown]
# ## What we know now
#
# Estimators of one bound are ranked by noise and cost, and the order changes as training goes on. Bounds are ranked by
# what they are for. On real data, with every estimator: [results/estimators.md](../results/estimators.md).

# %%
assert before["L_B"].variance < before["STL"].variance < before["L_A"].variance < before["REINFORCE"].variance
assert after["STL"].variance < after["L_B"].variance < after["L_A"].variance
assert slope(wide["IWAE"]) < -0.3
assert slope(wide["DReG"]) > 0.3
assert slope(narrow["DReG"]) < 0.4
assert rows["REINFORCE"].variance < rows["REINFORCE, no baseline"].variance
assert "the gradient of" in complaint
