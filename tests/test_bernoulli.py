"""The math in λ, against enumeration, closed forms and 1000-digit arithmetic."""

import itertools

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bbnn_uq import bernoulli

LAMBDAS = [-1000.0, -88.0, -9.5, -3.0, -1e-3, 0.0, 1e-7, 0.4, 2.0, 9.1, 20.0, 1000.0]


def enumerated(natural_param: torch.Tensor):
    """Every network of d weights with its probability, in float64."""
    plus = 1 / (1 + np.exp(-2 * natural_param.double().numpy()))
    for signs in itertools.product([-1.0, 1.0], repeat=len(plus)):
        w = np.array(signs)
        yield w, np.prod(np.where(w > 0, plus, 1 - plus))


@pytest.mark.parametrize("d", [1, 3, 10])
def test_moments_entropy_and_kl_match_enumeration(d):
    generator = torch.Generator().manual_seed(d)
    q = torch.randn(d, generator=generator, dtype=torch.float64) * 2
    p = torch.randn(d, generator=generator, dtype=torch.float64)
    weights, probability = (np.array(part) for part in zip(*enumerated(q), strict=True))
    prior = np.array([chance for _, chance in enumerated(p)])
    mean = probability @ weights
    np.testing.assert_allclose(bernoulli.mean(q), mean, atol=1e-12)
    np.testing.assert_allclose(
        bernoulli.variance(q), probability @ (weights - mean) ** 2, atol=1e-12
    )
    entropy = -(probability * np.log(probability)).sum()
    assert float(bernoulli.entropy(q).sum()) == pytest.approx(entropy, abs=1e-11)
    kl = (probability * np.log(probability / prior)).sum()
    assert bernoulli.kl_divergence(q, p) == pytest.approx(kl, abs=1e-11)
    differs = probability @ (weights != bernoulli.mode(q).numpy())
    np.testing.assert_allclose(bernoulli.flip_probability(q), differs, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_values_match_high_precision(dtype):
    mpmath.mp.dps = 1000  # 1 - p must not round to 1 at |λ| = 1000
    natural = torch.tensor(LAMBDAS, dtype=dtype)
    tolerance = {torch.float32: 3e-6, torch.float64: 1e-13}[dtype]
    for value, log_variance, entropy, flip in zip(
        natural.tolist(),
        bernoulli.log_sech_squared(natural).tolist(),
        bernoulli.entropy(natural).tolist(),
        bernoulli.flip_probability(natural).tolist(),
        strict=True,
    ):
        exact = mpmath.mpf(value)
        assert log_variance == pytest.approx(
            float(2 * mpmath.log(mpmath.sech(exact))), rel=tolerance, abs=tolerance
        )
        p = 1 / (1 + mpmath.exp(2 * abs(exact)))
        # Entropies below the smallest normal number of the dtype may be flushed to zero.
        exact_entropy = float(-(p * mpmath.log(p) + (1 - p) * mpmath.log(1 - p)))
        floor = float(torch.finfo(dtype).tiny) * 1e3
        assert entropy == pytest.approx(exact_entropy, rel=50 * tolerance, abs=floor)
        assert flip == pytest.approx(float(p), rel=50 * tolerance, abs=floor)


def test_kl_of_nearly_equal_parameters_is_small_and_not_negative():
    # KL ≈ variance δ² / 2 per weight; a float32 sum of these comes out wrong by far more.
    q = torch.full((100_000,), 0.3)
    p = q + 1e-3
    delta = (p.double() - q.double())[0].item()
    expected = 100_000 * (1 / np.cosh(0.3) ** 2) * delta**2 / 2
    assert bernoulli.kl_divergence(q, p) == pytest.approx(expected, rel=2e-3)
    assert bernoulli.kl_divergence(q, q) == 0.0


@given(st.floats(-1000, 1000), st.floats(-1000, 1000))
def test_kl_is_finite_and_not_negative(q, p):
    value = bernoulli.kl_divergence(torch.tensor([q]), torch.tensor([p]))
    assert 0.0 <= value < np.inf


def test_concrete_scale_is_the_papers_formula_where_that_is_representable():
    generator = torch.Generator().manual_seed(0)
    natural = torch.randn(1000, generator=generator, dtype=torch.float64)
    w, relaxed = bernoulli.concrete_sample(natural, temperature=0.5, generator=generator)
    log_scale = bernoulli.concrete_log_scale(natural, relaxed, temperature=0.5)
    expected = (1 - w**2) / (0.5 * (1 - torch.tanh(natural) ** 2))
    ordinary = 1 - w**2 > 1e-6
    assert ordinary.sum() > 500
    torch.testing.assert_close(log_scale.exp()[ordinary], expected[ordinary], rtol=1e-6, atol=0)


def test_concrete_scale_is_finite_where_both_variances_vanish():
    natural = torch.tensor([1000.0, -1000.0, 30.0])
    _, relaxed = bernoulli.concrete_sample(
        natural, temperature=1.0, generator=torch.Generator().manual_seed(0)
    )
    log_scale = bernoulli.concrete_log_scale(natural, relaxed, temperature=1.0)
    # At τ = 1 and |λ| ≫ 1, s / N → e^(∓2δ), and δ = z − λ.
    noise = relaxed - natural
    torch.testing.assert_close(log_scale, -2 * natural.sign() * noise, rtol=1e-3, atol=1e-3)


def test_relaxed_draws_become_binary_as_temperature_falls():
    natural = torch.full((200_000,), 0.5)
    w, _ = bernoulli.concrete_sample(
        natural, temperature=1e-3, generator=torch.Generator().manual_seed(0)
    )
    assert (w.abs() > 0.999).float().mean() > 0.99
    plus = 1 / (1 + np.exp(-1.0))
    error = np.sqrt(plus * (1 - plus) / len(w))
    assert abs((w > 0).double().mean() - plus) < 4 * error


def test_hard_draws_have_the_right_frequency():
    natural = torch.full((200_000,), -0.25)
    w = bernoulli.hard_sample(natural, torch.Generator().manual_seed(3))
    assert set(w.unique().tolist()) == {-1.0, 1.0}
    error = 1 / np.cosh(0.25) / np.sqrt(len(w))
    assert abs(w.double().mean() - np.tanh(-0.25)) < 4 * error
