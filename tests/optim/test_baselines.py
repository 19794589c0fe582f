"""STE-Adam and Bop against plain references, and as limits of the Bayesian learning rule.

Meng, Bachmann, Khan 2020, Table 1: the straight-through estimator and Bop fall out of the rule
when its noise vanishes. Noise δ is of the order of 1, so it vanishes beside a large |λ|.
"""

import pytest
import torch
from torch import nn

from bbnn_uq import BayesBiNN
from bbnn_uq.optim import Bop, STEAdam

TARGET = torch.tensor([0.6, -0.2, 1.4, -0.9, 0.1, -1.7], dtype=torch.float64)


def loss_of(w):
    return ((w - TARGET) ** 2).mean() + 0.3 * w.prod() - 0.4 * (w[0] * w[3])


def gradient_at(w):
    w = w.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(w), w)
    return gradient


def run(optimizer, parameter, steps):
    """The parameter after each step."""

    def closure():
        optimizer.zero_grad()
        loss = loss_of(parameter)
        loss.backward()
        return loss

    seen = []
    for _ in range(steps):
        optimizer.step(closure)
        seen.append(parameter.detach().clone())
    return torch.stack(seen)


def signs(values):
    return torch.where(values >= 0, 1.0, -1.0).to(values)


def test_ste_adam_is_adam_on_clipped_latent_weights():
    parameter = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    optimizer = STEAdam([parameter], lr=0.3, generator=torch.Generator().manual_seed(2))
    start = torch.empty(6, dtype=torch.float64)
    latent = start.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
    first, second = torch.zeros(6), torch.zeros(6)
    expected = []
    for step in range(1, 13):
        g = gradient_at(signs(latent))
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        change = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        latent = (latent - 0.3 * change).clamp(-1, 1)
        expected.append(signs(latent))
    assert torch.equal(run(optimizer, parameter, 12), torch.stack(expected))
    assert len({tuple(row.tolist()) for row in expected}) > 2


def test_bop_flips_where_the_average_gradient_insists():
    parameter = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    optimizer = Bop([parameter], lr=0.2, threshold=0.05, generator=torch.Generator().manual_seed(0))
    w, average = parameter.detach().clone(), torch.zeros(6, dtype=torch.float64)
    expected = []
    for _ in range(15):
        average = 0.8 * average + 0.2 * gradient_at(w)
        flip = (average.abs() > 0.05) & (average.sign() == w.sign())
        w = torch.where(flip, -w, w)
        expected.append(w.clone())
    assert torch.equal(run(optimizer, parameter, 15), torch.stack(expected))
    assert len({tuple(row.tolist()) for row in expected}) > 1


def test_the_rule_becomes_ste_without_noise_and_decay():
    # ρ = 0, β = 0, N = 1: λ ← λ − α g(sign λ). At the scale K the noise is K times smaller.
    scale, lr = 1e9, 0.07
    parameter = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    optimizer = BayesBiNN(
        [("w", parameter)], num_data=1, lr=lr * scale, momentum=0.0, kl_weight=0.0,
        init_scale=0.2 * scale,
    )  # fmt: skip
    latent = optimizer.natural_param["w"] / scale
    expected = []
    for _ in range(25):
        latent = latent - lr * gradient_at(signs(latent))
        expected.append(signs(latent))
    assert torch.equal(run(optimizer, parameter, 25), torch.stack(expected))
    torch.testing.assert_close(optimizer.natural_param["w"] / scale, latent, rtol=1e-9, atol=1e-9)
    assert len({tuple(row.tolist()) for row in expected}) > 2


def test_the_rule_becomes_bop_with_zero_threshold():
    # ρ = 1, β = 0: λ ← (1 − α) λ − α N g, minus N times Bop's average; sign λ is Bop's weight.
    parameter, other = (nn.Parameter(torch.zeros(6, dtype=torch.float64)) for _ in range(2))
    optimizer = BayesBiNN(
        [("w", parameter)], num_data=10**9, lr=0.1, momentum=0.0, kl_weight=1.0, init_scale=0.0
    )
    bop = Bop([other], lr=0.1, threshold=0.0)
    with torch.no_grad():
        other.copy_(parameter)
    # At λ = 0 the first draw is a coin: both see the same gradient when it shows the signs.
    optimizer.state[parameter]["natural_param"].fill_(50.0)
    run(bop, other, 1)
    run(optimizer, parameter, 1)
    assert torch.equal(run(optimizer, parameter, 25), run(bop, other, 25))


@pytest.mark.parametrize("make", [STEAdam, Bop])
def test_schedulers_and_real_parameters_beside_them(make):
    weight = nn.Parameter(torch.zeros(4))
    optimizer = make([weight], lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for _ in range(3):
        weight.grad = torch.ones(4)
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)
    assert set(weight.abs().tolist()) == {1.0}


@pytest.mark.parametrize(
    ("make", "options", "match"),
    [
        (STEAdam, {"lr": -1.0}, "lr"),
        (STEAdam, {"lr": 0.1, "init_scale": 0.0}, "init_scale"),
        (Bop, {"lr": 2.0}, "lr"),
        (Bop, {"threshold": -1.0}, "threshold"),
    ],
)
def test_bad_arguments_are_refused(make, options, match):
    with pytest.raises(ValueError, match=match):
        make([nn.Parameter(torch.zeros(2))], **options)
