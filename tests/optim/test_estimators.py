"""Bias and variance of each estimator of ∇_μ E_q[ℓ], one harness for all.

The exact gradient is by enumeration of all networks: E_q[ℓ] is affine in each μ_i, so its
derivative is half the difference of its values at μ_i = 1 and μ_i = −1.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from bbnn_uq import BayesBiNN, CollapsedPosteriorWarning
from bbnn_uq.optim import ESTIMATORS

WORKING = ["straight_through", "local", "concrete"]
X = torch.tensor([[0.5, -1.0, 0.25, 0.8], [1.0, 0.3, -0.6, -0.2]], dtype=torch.float64)
NATURAL = torch.tensor([0.4, -0.9, 0.0, 1.3], dtype=torch.float64)

LOSSES = {
    "affine": lambda a: 2.0 * a[..., 0] - 3.0 * a[..., 1],
    "quadratic": lambda a: (a[..., 0] - 0.7) ** 2 + a[..., 1] ** 2,
    "logistic": lambda a: (
        nn.functional.softplus(-2 * a[..., 0]) + nn.functional.softplus(a[..., 1])
    ),
}


def exact_gradient(loss_of, natural):
    """∇_μ of Σ_w q(w) ℓ(w) over all 2^d networks, ℓ a function of X w."""
    plus = torch.sigmoid(2 * natural)
    gradient = torch.zeros_like(natural)
    for signs in itertools.product([-1.0, 1.0], repeat=len(natural)):
        w = torch.tensor(signs, dtype=torch.float64)
        chance = torch.where(w > 0, plus, 1 - plus)
        loss = loss_of(X @ w)
        for i in range(len(natural)):
            others = torch.cat([chance[:i], chance[i + 1 :]]).prod()
            gradient[i] += 0.5 * w[i] * others * loss
    return gradient


def estimates(estimator, loss_of, natural, *, draws, temperature=0.5):
    """Independent estimates (draws, d): every row of the weight is a network of its own."""
    weight = nn.Parameter(torch.zeros(draws, len(natural), dtype=torch.float64))
    with ESTIMATORS[estimator](
        [weight],
        [{"natural_param": natural.expand(draws, -1).clone()}],
        temperature=temperature,
        generator=torch.Generator().manual_seed(0),
    ) as gradients:
        # linear gives (2 inputs, draws): the inputs go last, as X w has them.
        loss_of(nn.functional.linear(X, weight).T).sum().backward()
        return gradients()[0]


def bias_in_errors(found, exact):
    error = found.std(dim=0) / found.shape[0] ** 0.5
    return ((found.mean(dim=0) - exact) / error.clamp_min(1e-12)).abs().max()


def test_unbiased_for_affine_losses():
    exact = exact_gradient(LOSSES["affine"], NATURAL)
    hard = estimates("straight_through", LOSSES["affine"], NATURAL, draws=100)
    torch.testing.assert_close(hard, exact.expand(100, -1), rtol=1e-9, atol=1e-9)
    local = estimates("local", LOSSES["affine"], NATURAL, draws=100_000)
    assert bias_in_errors(local, exact) < 4


def test_local_is_unbiased_for_quadratic_losses_and_straight_through_is_not():
    # The Gaussian has the mean and the variance of the binary sum, and a quadratic needs no more.
    # Two inputs share the weights but not the noise, which an additive loss does not see.
    exact = exact_gradient(LOSSES["quadratic"], NATURAL)
    local = estimates("local", LOSSES["quadratic"], NATURAL, draws=400_000)
    assert bias_in_errors(local, exact) < 4
    hard = estimates("straight_through", LOSSES["quadratic"], NATURAL, draws=400_000)
    assert bias_in_errors(hard, exact) > 20


@pytest.mark.parametrize("loss", ["quadratic", "logistic"])
@pytest.mark.parametrize("estimator", WORKING)
def test_estimates_point_along_the_exact_gradient(estimator, loss):
    exact = exact_gradient(LOSSES[loss], NATURAL)
    mean = estimates(estimator, LOSSES[loss], NATURAL, draws=200_000).mean(dim=0)
    cosine = nn.functional.cosine_similarity(mean, exact, dim=0)
    assert cosine > {"straight_through": 0.6, "local": 0.999, "concrete": 0.75}[estimator]


def test_local_has_the_lowest_variance_on_a_minibatch():
    # Noise of its own for each of 64 inputs averages out; a weight's draw is shared by all.
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 20, generator=generator, dtype=torch.float64)
    natural = torch.randn(1, 20, generator=generator, dtype=torch.float64) * 0.5
    weight = nn.Parameter(torch.zeros(1, 20, dtype=torch.float64))
    variance = {}
    for name in WORKING:
        found = []
        for _ in range(1500):
            weight.grad = None
            with ESTIMATORS[name](
                [weight], [{"natural_param": natural}], temperature=0.5, generator=generator
            ) as gradients:
                softplus(nn.functional.linear(x, weight)).mean().backward()
                found.append(gradients()[0].clone())
        variance[name] = float(torch.stack(found).var(dim=0).sum())
    assert variance["local"] < variance["straight_through"] < variance["concrete"]


def test_local_expectation_is_the_gaussian_one():
    # ℓ = e^(xw), one weight: E = exp(μx + (1 − μ²)x²/2), so ∇_μ = (x − μx²) E.
    natural, x = 0.6, 0.8
    mu = math.tanh(natural)
    expected = (x - mu * x * x) * math.exp(mu * x + (1 - mu * mu) * x * x / 2)
    weight = nn.Parameter(torch.zeros(500_000, 1, dtype=torch.float64))
    with ESTIMATORS["local"](
        [weight], [{"natural_param": torch.full_like(weight.detach(), natural)}],
        temperature=1.0, generator=torch.Generator().manual_seed(0),
    ) as gradients:  # fmt: skip
        nn.functional.linear(
            torch.tensor([[x]], dtype=torch.float64), weight
        ).exp().sum().backward()
        found = gradients()[0]
    assert abs(float(found.mean()) - expected) < 4 * float(found.std()) / 500_000**0.5


def one_weight(estimator, loss_of, natural, *, draws, temperature=0.5):
    weight = nn.Parameter(torch.zeros(draws, dtype=torch.float64))
    with ESTIMATORS[estimator](
        [weight], [{"natural_param": torch.full_like(weight.detach(), natural)}],
        temperature=temperature, generator=torch.Generator().manual_seed(0),
    ) as gradients:  # fmt: skip
        loss_of(weight).sum().backward()
        found = gradients()[0]
    return float(found.mean()), float(found.std()) / draws**0.5


def test_straight_through_bias_is_the_known_one():
    # ℓ = e^w at μ = 0: E[e^w] = cosh 1 = 1.543 against the exact sinh 1 = 1.175.
    estimate, error = one_weight("straight_through", torch.exp, 0.0, draws=200_000)
    assert abs(estimate - math.cosh(1)) < 4 * error


def concrete_expectation(gradient_of, natural, tau):
    """E[(s / N) g] by midpoint quadrature over ε; s / N = cosh² λ / (τ cosh² z)."""
    epsilon = (np.arange(4_000_000) + 0.5) / 4_000_000
    z = np.clip((natural + 0.5 * (np.log(epsilon) - np.log1p(-epsilon))) / tau, -350, 350)
    scale = np.cosh(natural) ** 2 / (tau * np.cosh(z) ** 2)
    return float((scale * gradient_of(np.tanh(z))).mean())


@pytest.mark.parametrize("natural", [0.0, 0.7, -1.5])
@pytest.mark.parametrize("tau", [0.05, 0.5])
def test_concrete_has_the_expectation_of_its_formula(natural, tau):
    expected = concrete_expectation(np.exp, natural, tau)
    estimate, error = one_weight("concrete", torch.exp, natural, draws=500_000, temperature=tau)
    assert abs(estimate - expected) < 4 * error


@pytest.mark.parametrize("natural", [0.7, -1.5])
def test_concrete_bias_vanishes_with_the_temperature(natural):
    exact = math.sinh(1)
    bias = [abs(concrete_expectation(np.exp, natural, tau) - exact) for tau in (0.1, 0.05, 0.025)]
    assert bias[0] < 0.1
    # Linear in τ: halving it halves the bias.
    assert bias[1] == pytest.approx(bias[0] / 2, rel=0.1)
    assert bias[2] == pytest.approx(bias[1] / 2, rel=0.1)


def test_concrete_bias_at_temperature_one_is_the_known_one():
    # E[s / N] at λ = 3, τ = 1 is 4.07, where an unbiased rule has 1.
    expected = concrete_expectation(np.ones_like, 3.0, 1.0)
    assert expected == pytest.approx(4.07, abs=0.005)
    estimate, error = one_weight("concrete", lambda w: w, 3.0, draws=500_000, temperature=1.0)
    assert abs(estimate - expected) < 4 * error


def model_of(kind):
    torch.manual_seed(0)
    if kind == "linear":
        return nn.Sequential(nn.Linear(6, 3)), torch.randn(4, 6)
    if kind == "conv1d":
        return nn.Sequential(nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.Flatten()), torch.randn(
            4, 2, 8
        )
    layers = [nn.Conv2d(2, 4, 3, padding=1, groups=2, dilation=1), nn.Flatten()]
    return nn.Sequential(*layers), torch.randn(4, 2, 5, 5)


@pytest.mark.parametrize("kind", ["linear", "conv1d", "conv2d"])
def test_local_draws_pre_activations_with_the_moments_of_drawn_networks(kind):
    model, x = model_of(kind)
    natural = torch.randn_like(model[0].weight)
    states = [{"natural_param": natural}]
    options = {"temperature": 1.0, "generator": torch.Generator().manual_seed(1)}
    count = 6000
    moments = []
    with torch.no_grad():
        for name in ("local", "straight_through"):
            outputs = []
            for _ in range(count):
                with ESTIMATORS[name]([model[0].weight], states, **options):
                    outputs.append(model(x))
            stacked = torch.stack(outputs).double()
            moments.append((stacked.mean(0), stacked.var(0)))
    (mean, variance), (other_mean, other_variance) = moments
    # Difference of two averages: 5 standard errors; of two variances: 5 of √(2·2/n) v.
    error = ((variance + other_variance) / count).sqrt()
    assert bool(((mean - other_mean).abs() < 5 * error).all())
    assert bool(((variance / other_variance - 1).abs() < 5 * 2 / count**0.5).all())


def test_local_refuses_operations_without_a_rule_and_names_them():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 3))

        def forward(self, x):
            return x @ self.weight

    model = Odd()
    optimizer = BayesBiNN(model.named_parameters(), num_data=1, lr=0.1, estimator="local")
    before = optimizer.natural_param

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).sum()
        loss.backward()
        return loss

    with pytest.raises(ValueError, match=r"matmul.*straight_through"):
        optimizer.step(closure)
    assert torch.equal(before["weight"], optimizer.natural_param["weight"])


def test_local_accepts_keyword_arguments_and_leaves_other_layers_alone():
    weight, other = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.ones(2, 2))
    natural = torch.full((2, 3), 20.0)  # all weights are surely +1
    with ESTIMATORS["local"](
        [weight], [{"natural_param": natural}], temperature=1.0, generator=torch.Generator()
    ):
        y = nn.functional.linear(input=torch.ones(1, 3), weight=weight, bias=torch.ones(2))
        z = nn.functional.linear(y, other)
    torch.testing.assert_close(y, torch.tensor([[4.0, 4.0]]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(z, torch.tensor([[8.0, 8.0]]), rtol=1e-4, atol=1e-4)


def published_reference(natural, steps, gradient_at, noises, *, n, lr, beta, rho, tau, prior):
    """The authors' loop on float32 vectors, written out."""
    natural, prior = natural.clone(), torch.as_tensor(prior)
    mean, average = torch.tanh(natural), torch.zeros_like(natural)
    for step in range(1, steps + 1):
        total = torch.zeros_like(natural)
        for uniform in noises[step - 1]:
            w = torch.tanh((torch.log(uniform / (1 - uniform)) / 2 + natural) / tau)
            total += (1 - w * w + 1e-10) / tau / (1 - mean * mean + 1e-10) * gradient_at(w)
        total *= n / len(noises[step - 1])
        average = beta * average + (1 - beta) * (total + rho * (natural - prior))
        mean = torch.tanh(natural)  # of the λ before this step
        natural = natural - lr * average / (1 - beta**step)
    return natural


@pytest.mark.parametrize("tau", [1e-10, 0.5])
def test_published_is_the_authors_arithmetic_step_by_step(tau):
    parameter, target = nn.Parameter(torch.zeros(6)), torch.linspace(-1, 1, 6)
    prior = torch.linspace(-0.5, 0.5, 6)
    generator = torch.Generator().manual_seed(3)
    scale = 10.0 if tau < 1e-3 else 0.3
    with pytest.warns(CollapsedPosteriorWarning, match="point mass"):
        optimizer = BayesBiNN(
            [("w", parameter)], num_data=50, lr=1e-3, estimator="published", num_samples=2,
            momentum=0.9, kl_weight=0.7, temperature=tau, init_scale=scale, generator=generator,
        )  # fmt: skip
    optimizer.state[parameter]["prior_natural_param"] = prior
    twin = torch.Generator()
    twin.set_state(generator.get_state())
    noises = [[torch.empty(6).uniform_(generator=twin) for _ in range(2)] for _ in range(4)]
    expected = published_reference(
        optimizer.natural_param["w"], 4, lambda w: 2 * (w - target), noises,
        n=50, lr=1e-3, beta=0.9, rho=0.7, tau=tau, prior=prior,
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        loss = ((parameter - target) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)
    torch.testing.assert_close(optimizer.natural_param["w"], expected, rtol=1e-5, atol=1e-6)
    if tau < 1e-3:
        assert float(optimizer.natural_param["w"].abs().median()) > 1e6
