"""Prior, network, and the program that is made of them."""

import copy
import gc

import pyro
import pytest
import torch

from aevb.guides import AmortizedNormal
from aevb.models import MLP, VAE, Bernoulli, Gaussian, StandardNormal


def test_standard_normal_is_its_density(float64: None) -> None:
    z = torch.randn(5, 4)
    expected = -0.5 * (z**2 + torch.log(torch.tensor(2 * torch.pi))).sum(1)
    assert torch.allclose(StandardNormal(4).double()().log_prob(z), expected, rtol=1e-12)


def test_mlp_is_the_formula_of_appendix_c(float64: None) -> None:
    network, v = MLP(3, 7, 2), torch.randn(5, 3)
    w1, b1, w2, b2 = network.parameters()
    assert torch.allclose(network(v), torch.tanh(v @ w1.T + b1) @ w2.T + b2, rtol=1e-12)


def test_a_gated_mlp_is_its_formula(float64: None) -> None:
    network, v = MLP(3, 7, 2, activation="gated"), torch.randn(5, 3)
    w, b, last, bias = network.parameters()
    gated = (v @ w[:7].T + b[:7]) * torch.sigmoid(v @ w[7:].T + b[7:])
    assert torch.allclose(network(v), gated @ last.T + bias, rtol=1e-12)


def test_mlp_without_hidden_layers_is_linear() -> None:
    network = MLP(3, 2)
    assert len(list(network.parameters())) == 2
    assert torch.allclose(network(torch.full((1, 3), 2.0)) + network(torch.zeros(1, 3)), 2 * network(torch.ones(1, 3)))


def test_paper_initialisation_has_variance_one_hundredth() -> None:
    values = torch.cat([p.flatten() for p in MLP(300, 300, 1, initialisation="paper").parameters()])
    n = len(values)
    assert abs(values.mean()) < 4.5 * 0.1 / n**0.5  # standard errors
    assert abs(values.var() - 0.01) < 4.5 * 0.01 * (2 / n) ** 0.5


def test_mlp_needs_two_sizes() -> None:
    with pytest.raises(ValueError, match=r"at least two positive sizes, inputs and outputs; it got \(3,\)"):
        MLP(3)


def make_vae() -> VAE:
    return VAE(StandardNormal(2), MLP(2, 5, 4), Bernoulli())


def test_sampling_and_decoding_have_the_shapes_they_say() -> None:
    model, guide = make_vae(), AmortizedNormal(MLP(4, 5, 4))
    x = model.sample(6)
    assert x.shape == (6, 4)
    assert set(x.unique().tolist()) <= {0.0, 1.0}
    assert guide.sample(x, 3).shape == (3, 6, 2)
    assert torch.equal(model.reconstruct(x, guide), model.decode(guide.encode(x).mean).mean)
    assert model.decode(torch.zeros(3, 6, 2)).batch_shape == (3, 6)


def test_programs_never_share_parameters_in_pyros_store() -> None:
    first, second = make_vae(), make_vae()
    x = torch.ones(1, 4)
    for model in (first, second, copy.deepcopy(first)):
        with pyro.poutine.trace(param_only=True) as captured:
            model(x)
        seen = {id(site["value"]) for site in captured.trace.nodes.values()}
        assert seen == {id(parameter) for parameter in model.parameters()}
    pyro.clear_param_store()


def test_a_name_is_not_used_again_when_its_program_is_gone() -> None:
    name = make_vae().name
    gc.collect()
    assert make_vae().name != name


def test_frozen_parameters_are_not_declared() -> None:
    model = VAE(StandardNormal(2), MLP(2, 4).requires_grad_(False), Gaussian(variance="shared", mean="sigmoid"))
    with pyro.poutine.trace(param_only=True) as captured:
        model(torch.zeros(1, 4))
    assert [name.partition(".")[2] for name in captured.trace.nodes] == ["likelihood.log_excess_variance"]
    pyro.clear_param_store()
