"""The paper's algorithm 1: minibatches, gradients of a bound, an optimizer, until done."""

from collections.abc import Callable

import torch

from .batches import Data
from .estimators import Estimator
from .history import History, Row
from .sites import Program
from .training import Training


def fit(
    model: Program,
    guide: Program,
    data: Data,
    *,
    estimator: str | Estimator = "L_B",
    epochs: int = 20,
    batch_size: int = 100,
    samples: int | None = None,
    beta: float | None = None,
    warm_up: int = 0,
    optimizer: str = "Adam",
    learning_rate: float | None = None,
    schedule: str = "constant",
    weight_decay: float = 0.0,
    validation: Data | None = None,
    patience: int | None = None,
    test: Data | None = None,
    evaluation_samples: int = 1,
    seed: int = 0,
    device: str | torch.device = "auto",
    engine: str = "auto",
    on_epoch: Callable[[Row], None] | None = None,
) -> History:
    """Train a pair: Kingma and Welling (2013), algorithm 1, for any Pyro model and guide.

    Parameters are trained in place. The global random streams, Pyro's settings and the parameters of every other pair
    are left as they were. On one machine the same seed gives the same result, bit for bit on a CPU.

    Args:
        model, guide: a Pyro pair; its plate ``data`` counts the data.
        data: a tensor, a tuple of tensors of equal length (given to the pair as positional arguments), or anything
            with a length and ``batch(indices, generator)``, such as a split of ``aevb.data``.
        estimator: by name, or an :class:`Estimator`.
        epochs: passes over the data, each in a new random order.
        batch_size: M of the paper; the last batch of an epoch holds what is left.
        samples: L or k, draws of z per datum; the estimator's usual number unless one is given.
        beta: weight of the KL; 1 unless an estimator is given.
        warm_up: epochs over which the weight of the KL rises to beta, step by step from 0 (Bowman et al. 2016,
            Generating Sentences from a Continuous Space, section 3.1).
        optimizer: ``Adam``, ``Adagrad`` (the paper's), ``RMSprop`` or ``SGD``.
        learning_rate: by default Adam and RMSprop 0.001, Adagrad 0.02, SGD 0.01.
        schedule: of the learning rate over all steps: ``constant``, ``linear`` or ``cosine``, both to 0.
        weight_decay: lambda of a prior N(0, I / lambda) on the model's parameters (unconstrained), so that training
            maximises the mean bound - lambda |theta|^2 / 2N: 1 is the paper's approximate MAP (section 5).
        validation: data on which ``validation_elbo`` is measured after each epoch.
        patience: stop when ``validation_elbo`` has not risen for that many epochs, and go back to its best.
        test: data on which ``test_elbo`` is measured after each epoch; nothing depends on it.
        evaluation_samples: draws of z per datum for those two, with the same noise at every epoch.
        seed: of the order of the data, of their noise and of the draws of z.
        device: ``auto`` moves modules to CUDA where there is one; or a device. Bare functions stay where they are.
        engine: ``svi`` runs the pair through Pyro at every step; ``fast`` runs it once and replays the tensor
            operations that it did, the first steps and one in a thousand checked against the pair itself; ``compiled``
            does so too, on a CPU, but compiles what lies between the matrix products, and Adam's step, for which it
            needs a C++ compiler and up to sixteen seconds. ``auto`` is ``fast`` from 500 steps on, ``compiled`` from
            100,000 on where that works, and ``svi`` for a pair that cannot be replayed. ``history.engine`` and
            ``history.engine_note`` say which it was, and why.
        on_epoch: called with each row of the history.

    Returns:
        The history; its columns are those of :data:`~aevb.inference.COLUMNS`.

    Raises:
        InputError: bad input, or a pair that cannot be trained as asked; nothing has been trained.
        DivergenceError: a bound, gradient or parameter became NaN or infinite; step, site and parameter are named.

    Example:
        >>> from aevb.guides import AmortizedNormal
        >>> from aevb.models import Bernoulli, MLP, StandardNormal, VAE
        >>> model, guide = VAE(StandardNormal(2), MLP(2, 16), Bernoulli()), AmortizedNormal(MLP(16, 4))
        >>> history = fit(model, guide, torch.ones(100, 16), epochs=5, learning_rate=0.1)
        >>> history["train_elbo"][0] < history["train_elbo"][-1]
        True
    """
    training = Training(
        model,
        guide,
        data,
        estimator=estimator,
        epochs=epochs,
        batch_size=batch_size,
        samples=samples,
        beta=beta,
        warm_up=warm_up,
        optimizer=optimizer,
        learning_rate=learning_rate,
        schedule=schedule,
        weight_decay=weight_decay,
        validation=validation,
        patience=patience,
        test=test,
        evaluation_samples=evaluation_samples,
        seed=seed,
        device=device,
        engine=engine,
    )
    while not training.done:
        row = training.epoch()
        if on_epoch:
            on_epoch(row)
    return training.history
