"""NumPyro, as its VAE example does it: one jitted loop of svi.update over the batches of an epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import lax, random
from numpyro.infer import SVI, RenyiELBO, TraceMeanField_ELBO

from ..cases import Case, Layers


def _network(name: str, start: Layers, x: jax.Array) -> jax.Array:
    for number, (weight, bias) in enumerate(start):
        w = numpyro.param(f"{name}{number}w", jnp.asarray(weight.T))
        x = (jnp.tanh(x) if number else x) @ w + numpyro.param(f"{name}{number}b", jnp.asarray(bias))
    return x


class _NumPyro:
    def __init__(self, case: Case, images: np.ndarray) -> None:
        self.case, self.images = case, jnp.asarray(images)
        self.encoder, self.decoder = case.start()
        loss = TraceMeanField_ELBO() if case.estimator == "L_B" else RenyiELBO(alpha=0.0, num_particles=case.samples)
        self.svi = SVI(self._model, self._guide, numpyro.optim.Adam(1e-3), loss)
        self.state = self.svi.init(random.PRNGKey(0), self.images[: case.batch])
        self.key = random.PRNGKey(1)
        self.run = jax.jit(self._epoch)

    def _model(self, x: jax.Array) -> None:
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([self.case.latents]).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=_network("d", self.decoder, z)).to_event(1), obs=x)

    def _guide(self, x: jax.Array) -> None:
        with numpyro.plate("data", len(x)):
            loc, log_variance = jnp.split(_network("e", self.encoder, x), 2, -1)
            numpyro.sample("z", dist.Normal(loc, jnp.exp(0.5 * log_variance)).to_event(1))

    def _epoch(self, state, key, images):
        order = random.permutation(key, len(images)).reshape(-1, self.case.batch)

        def step(state, indices):
            state, loss = self.svi.update(state, images[indices])
            return state, loss

        return lax.scan(step, state, order)

    def load(self, images: np.ndarray) -> None:
        self.images = jnp.asarray(images)

    def epoch(self) -> None:
        self.key, key = random.split(self.key)
        self.state, losses = self.run(self.state, key, self.images)
        losses.block_until_ready()

    def layers(self) -> tuple[Layers, Layers]:
        parameters = self.svi.get_params(self.state)
        return tuple(
            [
                (np.asarray(parameters[f"{name}{i}w"]).T.copy(), np.asarray(parameters[f"{name}{i}b"]))
                for i in range(len(start))
            ]
            for name, start in (("e", self.encoder), ("d", self.decoder))
        )


scan = _NumPyro
