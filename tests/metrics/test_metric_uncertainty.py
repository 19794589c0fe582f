from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import GRID_ROWS, reproducible

from bbnn_uq.metrics.uncertainty import (
    confidence,
    energy,
    expected_entropy,
    logit_variance,
    margin,
    max_logit,
    mutual_information,
    pairwise_kl,
    predictive_entropy,
    variation_ratio,
)

OF_PROBS = [predictive_entropy, confidence, margin]
OF_SAMPLES = [expected_entropy, mutual_information, variation_ratio, logit_variance, pairwise_kl]

grid_samples = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.sampled_from(GRID_ROWS), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    ).map(np.array)
)


def random_samples(num_networks=7, num_inputs=40, num_classes=4):
    return np.random.default_rng(0).dirichlet(np.full(num_classes, 0.3), (num_networks, num_inputs))


def random_logits(num_networks=7, num_inputs=40, num_classes=4, scale=3.0):
    shape = (num_networks, num_inputs, num_classes)
    return np.random.default_rng(1).normal(0.0, scale, shape)


def reference_logit_variance(samples):
    """The docstring of `logit_variance`, number by number."""
    num_networks, num_inputs, num_classes = samples.shape
    found = []
    for n in range(num_inputs):
        total = 0.0
        centred = []
        for s in range(num_networks):
            logs = [math.log(p) for p in samples[s, n]]
            centred.append([value - sum(logs) / num_classes for value in logs])
        for c in range(num_classes):
            mean = sum(row[c] for row in centred) / num_networks
            total += sum((row[c] - mean) ** 2 for row in centred) / (num_networks - 1)
        found.append(total / num_classes)
    return found


def reference_pairwise_kl(samples):
    """Every pair of networks, one after the other."""
    num_networks, num_inputs, _ = samples.shape
    found = []
    for n in range(num_inputs):
        total = 0.0
        for s, t in itertools.permutations(range(num_networks), 2):
            for p, q in zip(samples[s, n], samples[t, n], strict=True):
                if p > 0.0:
                    total += p * math.log(p / q) if q > 0.0 else math.inf
        found.append(total / (num_networks * (num_networks - 1)))
    return found


# --- one prediction ----------------------------------------------------------------------------


def test_entropies_equal_scipy():
    samples = random_samples()
    np.testing.assert_allclose(
        predictive_entropy(samples[0]), scipy.stats.entropy(samples[0], axis=1), rtol=1e-12
    )
    np.testing.assert_allclose(
        expected_entropy(samples), scipy.stats.entropy(samples, axis=2).mean(axis=0), rtol=1e-12
    )


def test_entropy_of_sure_and_of_undecided_predictions():
    probs = np.stack([np.eye(5)[2], np.full(5, 0.2)])
    np.testing.assert_allclose(predictive_entropy(probs), [0.0, np.log(5)], atol=1e-15)


def test_confidence_and_margin_equal_sorted_probabilities():
    probs = random_samples()[0]
    ordered = np.sort(probs, axis=1)
    np.testing.assert_array_equal(confidence(probs), ordered[:, -1])
    np.testing.assert_array_equal(margin(probs), ordered[:, -1] - ordered[:, -2])


@reproducible
@given(st.lists(st.sampled_from(GRID_ROWS), min_size=1, max_size=9).map(np.array))
def test_confidence_and_margin_on_the_grid(probs):
    ordered = np.sort(probs, axis=1)
    for columns in itertools.permutations(range(3)):
        np.testing.assert_array_equal(confidence(probs[:, columns]), ordered[:, -1])
        np.testing.assert_array_equal(margin(probs[:, columns]), ordered[:, -1] - ordered[:, -2])


def test_energy_equals_scipy_at_any_temperature():
    logits = random_logits()
    for temperature in (0.1, 1.0, 3.0, 1e4):
        each = -temperature * scipy.special.logsumexp(logits / temperature, axis=2)
        found = energy(logits, temperature=temperature)
        np.testing.assert_allclose(found, each.mean(axis=0), rtol=1e-12)
        one = energy(logits[0], temperature=temperature)
        np.testing.assert_allclose(one, each[0], rtol=1e-12)


def test_energy_and_max_logit_move_with_a_shift_of_all_logits():
    logits = random_logits()
    shift = np.random.default_rng(2).normal(0.0, 9.0, (7, 40, 1))
    moved = shift[..., 0].mean(axis=0)
    np.testing.assert_allclose(energy(logits + shift), energy(logits) - moved, rtol=1e-12)
    np.testing.assert_allclose(max_logit(logits + shift), max_logit(logits) + moved, rtol=1e-12)
    np.testing.assert_allclose(max_logit(logits), logits.max(axis=2).mean(axis=0), rtol=1e-14)
    np.testing.assert_array_equal(max_logit(logits[3]), logits[3].max(axis=1))


def test_huge_logits_overflow_nowhere():
    logits = np.array([[1e4, -1e4, 1e4], [-1e4, -1e4, -1e4]])
    np.testing.assert_allclose(energy(logits), [-1e4 - np.log(2), 1e4 - np.log(3)], rtol=1e-15)
    np.testing.assert_array_equal(max_logit(logits), [1e4, -1e4])
    assert energy(logits, temperature=1e-300)[0] == pytest.approx(-1e4)


# --- several networks --------------------------------------------------------------------------


def test_mutual_information_is_the_mean_divergence_from_the_mean():
    samples = random_samples()
    divergence = scipy.stats.entropy(samples, samples.mean(axis=0, keepdims=True), axis=2)
    np.testing.assert_allclose(mutual_information(samples), divergence.mean(axis=0), rtol=1e-10)


def test_mutual_information_of_agreeing_and_of_opposed_networks():
    agreeing = np.tile([0.3, 0.7, 0.0, 0.0], (4, 1, 1))
    opposed = np.eye(4)[:, None, :]
    assert mutual_information(agreeing) == pytest.approx(0.0, abs=1e-15)
    assert mutual_information(opposed) == pytest.approx(np.log(4))


def test_mutual_information_is_clipped_where_rounding_makes_it_negative():
    samples = np.tile(np.random.default_rng(0).dirichlet(np.ones(10), 500), (3, 1, 1))
    raw = predictive_entropy(samples.mean(axis=0)) - expected_entropy(samples)
    assert raw.min() < 0.0  # else this test shows nothing
    assert mutual_information(samples).min() == 0.0


def test_variation_ratio_equals_scipy_mode():
    samples = random_samples(num_networks=9)
    votes = samples.argmax(axis=2)
    np.testing.assert_allclose(
        variation_ratio(samples), 1 - scipy.stats.mode(votes, axis=0).count / 9, rtol=1e-14
    )


def test_variation_ratio_counts_votes_and_not_probabilities():
    samples = [[[0.51, 0.49, 0.0]], [[0.51, 0.49, 0.0]], [[0.0, 0.9, 0.1]]]
    assert variation_ratio(samples) == pytest.approx([1 / 3])


def test_a_tied_vote_goes_to_the_first_class():
    assert variation_ratio([[[0.5, 0.5]], [[0.9, 0.1]]]).tolist() == [0.0]


@reproducible
@given(grid_samples)
def test_bounds_and_order_of_networks(samples):
    num_networks, num_inputs, num_classes = samples.shape
    information = mutual_information(samples)
    assert information.shape == (num_inputs,)
    assert information.min() >= 0.0
    assert information.max() <= min(np.log(num_classes), np.log(num_networks)) + 1e-12
    ratio = variation_ratio(samples)
    assert ratio.min() >= 0.0
    assert ratio.max() <= 1 - 1 / min(num_networks, num_classes) + 1e-12
    turned = samples[::-1].copy()
    np.testing.assert_allclose(mutual_information(turned), information, atol=1e-14)
    np.testing.assert_array_equal(variation_ratio(turned), ratio)
    np.testing.assert_allclose(
        information + expected_entropy(samples),
        predictive_entropy(samples.mean(axis=0)),
        atol=1e-14,
    )


# --- the bias of mutual information ------------------------------------------------------------

NETWORKS = np.array([[0.6, 0.3, 0.1], [0.3, 0.5, 0.2], [0.2, 0.2, 0.6]])
WEIGHTS = np.array([0.5, 0.3, 0.2])


def expectation(function, num_networks):
    """Of an estimate over all draws of S networks from a posterior of three, by enumeration."""
    drawn = np.array(list(itertools.product(range(3), repeat=num_networks)))
    each = function(NETWORKS[drawn].transpose(1, 0, 2))
    return float(WEIGHTS[drawn].prod(axis=1) @ each)


def test_the_correction_takes_the_first_order_of_the_bias():
    entropies = scipy.stats.entropy(NETWORKS, axis=1)
    truth = scipy.stats.entropy(WEIGHTS @ NETWORKS) - WEIGHTS @ entropies
    mean = WEIGHTS @ NETWORKS
    variance = WEIGHTS @ NETWORKS**2 - mean**2
    first_order = -0.5 * (variance / mean).sum()

    def corrected(samples):
        return mutual_information(samples, correct_bias=True)

    plain = {s: expectation(mutual_information, s) - truth for s in (4, 8)}
    left = {s: expectation(corrected, s) - truth for s in (4, 8)}
    assert 4 * plain[4] == pytest.approx(first_order, rel=0.02)
    assert 8 * plain[8] == pytest.approx(first_order, rel=0.01)
    # What is left falls with the square: a quarter at twice the networks, here even less.
    assert abs(left[4]) < 0.1 * abs(plain[4])
    assert abs(left[8]) < 0.25 * abs(left[4])


def test_the_correction_is_the_delta_method_in_plain_loops():
    samples = random_samples()
    extra = mutual_information(samples, correct_bias=True) - mutual_information(samples)
    for n in range(samples.shape[1]):
        total = 0.0
        for c in range(4):
            column = samples[:, n, c]
            total += np.var(column, ddof=1) / column.mean()
        assert extra[n] == pytest.approx(total / (2 * 7), rel=1e-9)


def test_the_correction_is_at_most_half_a_nat_and_nothing_where_networks_agree():
    for count in (2, 4, 9):
        opposed = np.eye(count)[:, None, :]
        found = mutual_information(opposed, correct_bias=True)
        assert found == pytest.approx(np.log(count) + 0.5, rel=1e-12)
    agreeing = np.repeat(random_samples(1), 5, axis=0)
    np.testing.assert_array_equal(mutual_information(agreeing, correct_bias=True), 0.0)


def test_a_class_that_no_network_allows_corrects_nothing():
    samples = random_samples()
    padded = np.concatenate([samples, np.zeros_like(samples[..., :1])], axis=2)
    wanted = mutual_information(samples, correct_bias=True)
    found = mutual_information(padded, correct_bias=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_correction_needs_several_networks():
    with pytest.raises(ValueError, match=r"at least 2 networks.*correct_bias=True.*\(1, 1, 2\)"):
        mutual_information([[[0.5, 0.5]]], correct_bias=True)


# --- logit variance and pairwise divergence ----------------------------------------------------


@pytest.mark.parametrize("num_networks", [2, 3, 8])
def test_logit_variance_and_pairwise_kl_equal_plain_loops(num_networks):
    samples = random_samples(num_networks, 20)
    found = logit_variance(samples)
    np.testing.assert_allclose(found, reference_logit_variance(samples), rtol=1e-12)
    np.testing.assert_allclose(pairwise_kl(samples), reference_pairwise_kl(samples), rtol=1e-11)


def test_logit_variance_and_pairwise_kl_take_no_notice_of_a_shift_of_logits():
    logits = random_logits()
    shift = np.random.default_rng(2).normal(0.0, 9.0, (7, 40, 1))
    plain, moved = (scipy.special.softmax(z, axis=2) for z in (logits, logits + shift))
    centred = logits - logits.mean(axis=2, keepdims=True)
    wanted = centred.var(axis=0, ddof=1).mean(axis=1)
    for samples in (plain, moved):
        np.testing.assert_allclose(logit_variance(samples), wanted, rtol=1e-11)
    np.testing.assert_allclose(pairwise_kl(moved), pairwise_kl(plain), rtol=1e-11)


def test_logit_variance_and_pairwise_kl_of_two_networks_and_two_classes():
    # Logits (0, a) and (a, 0): centred -a/2 and a/2 in both classes, of variance a^2 / 2; the
    # divergence is a (1 - 2 q) = a tanh(a / 2) either way, with q = 1 / (1 + e^a).
    for a in (0.1, 1.0, 5.0):
        samples = scipy.special.softmax([[[0.0, a]], [[a, 0.0]]], axis=2)
        assert logit_variance(samples) == pytest.approx(a**2 / 2, rel=1e-12)
        assert pairwise_kl(samples) == pytest.approx(a * np.tanh(a / 2), rel=1e-12)


def test_logit_variance_and_pairwise_kl_are_unbiased_at_any_number_of_networks():
    logs = np.log(NETWORKS)
    centred = logs - logs.mean(axis=1, keepdims=True)
    variance = (WEIGHTS @ centred**2 - (WEIGHTS @ centred) ** 2).mean()
    divergence = sum(
        WEIGHTS[s] * WEIGHTS[t] * scipy.stats.entropy(NETWORKS[s], NETWORKS[t])
        for s in range(3)
        for t in range(3)
    )
    for count in (2, 3, 6):
        assert expectation(logit_variance, count) == pytest.approx(variance, rel=1e-12)
        assert expectation(pairwise_kl, count) == pytest.approx(divergence, rel=1e-12)


@pytest.mark.parametrize("count", [2, 3, 32, 1000])
def test_identical_networks_differ_by_exactly_nothing(count):
    samples = np.repeat(random_samples(1, 50, 10), count, axis=0)
    for function in (logit_variance, pairwise_kl, mutual_information, variation_ratio):
        np.testing.assert_array_equal(function(samples), 0.0)


def test_classes_of_probability_zero():
    samples = np.array(
        [
            [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.4, 0.6, 0.0]],
            [[0.5, 0.4, 0.1], [0.2, 0.8, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.4, 0.6, 0.0]],
        ]
    )
    inf = np.inf
    np.testing.assert_array_equal(pairwise_kl(samples)[[0, 2, 3, 4]], [inf, inf, 0.0, 0.0])
    np.testing.assert_array_equal(logit_variance(samples)[[0, 2, 3, 4]], [inf, inf, 0.0, 0.0])
    # A class that both exclude is the limit of equally small probabilities.
    near = np.maximum(samples[:, 1:2], 1e-12)
    near /= near.sum(axis=2, keepdims=True)
    assert logit_variance(samples)[1] == pytest.approx(logit_variance(near)[0], rel=1e-9)
    assert pairwise_kl(samples)[1] == pytest.approx(pairwise_kl(near)[0], rel=1e-9)
    assert pairwise_kl(samples)[1] == pytest.approx(pairwise_kl(samples[:, 1:2, :2])[0], rel=1e-12)


@reproducible
@given(grid_samples.filter(lambda samples: len(samples) > 1))
def test_pairwise_kl_bounds_mutual_information_and_knows_no_order(samples):
    found = pairwise_kl(samples)
    np.testing.assert_allclose(found, reference_pairwise_kl(samples), rtol=1e-9, atol=1e-14)
    assert (found >= mutual_information(samples) - 1e-14).all()
    turned = samples[::-1][:, :, [2, 0, 1]].copy()
    np.testing.assert_allclose(pairwise_kl(turned), found, rtol=1e-12, atol=1e-14)
    variance = logit_variance(samples)
    np.testing.assert_allclose(logit_variance(turned), variance, rtol=1e-12, atol=1e-14)
    excluded = (samples == 0.0).any(axis=0) & (samples > 0.0).any(axis=0)
    np.testing.assert_array_equal(np.isinf(variance), excluded.any(axis=1))
    np.testing.assert_array_equal(np.isinf(found), excluded.any(axis=1))


# --- what goes in ------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [*OF_SAMPLES, *OF_PROBS, energy, max_logit])
def test_inputs_are_blocked_without_a_trace(function):
    # 300,000 x 10 and 2 x 150,000 x 10 are several blocks, and one input at a time is none.
    generator = np.random.default_rng(0)
    values = generator.dirichlet(np.full(10, 0.5), (2, 150_000))
    values = values.reshape(-1, 10) if function in OF_PROBS else values
    whole = function(values)
    some = np.append(np.arange(0, len(whole), 40_000), len(whole) - 1)
    one_by_one = [function(values[..., n : n + 1, :])[0] for n in some]
    np.testing.assert_allclose(whole[some], one_by_one, rtol=1e-13)


@pytest.mark.parametrize(
    "convert",
    [
        np.float16,
        np.float32,
        np.ndarray.tolist,
        torch.tensor,
        lambda x: torch.tensor(x, dtype=torch.bfloat16),
        lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True),
    ],
    ids=["float16", "float32", "list", "tensor", "bfloat16", "requires_grad"],
)
def test_any_container_gives_the_float64_answer(convert):
    samples = np.array([GRID_ROWS, GRID_ROWS[::-1]])
    for function in (*OF_SAMPLES, energy, max_logit):
        result = function(convert(samples))
        assert result.dtype == np.float64
        np.testing.assert_array_equal(result, function(samples))
    for function in OF_PROBS:
        result = function(convert(samples[0]))
        assert result.dtype == np.float64
        np.testing.assert_array_equal(result, function(samples[0]))


@pytest.mark.parametrize("function", OF_SAMPLES)
def test_samples_must_be_probabilities_of_networks(function):
    with pytest.raises(ValueError, match=r"samples must have shape \(S, N, C\)"):
        function(np.full((3, 2), 0.5))
    with pytest.raises(ValueError, match="samples must be finite"):
        function(np.full((2, 3, 2), np.nan))
    with pytest.raises(ValueError, match=r"samples must lie in .*logits"):
        function([[[2.0, -1.0]]])


@pytest.mark.parametrize("function", [logit_variance, pairwise_kl])
def test_spread_over_networks_needs_two(function):
    with pytest.raises(ValueError, match=rf"at least 2 networks for {function.__name__}, got"):
        function([[[0.5, 0.5]]])


@pytest.mark.parametrize("function", OF_PROBS)
def test_probs_must_be_probabilities(function):
    with pytest.raises(ValueError, match=r"probs must have shape \(N, C\)"):
        function([0.5, 0.5])
    with pytest.raises(ValueError, match="probs must sum to 1"):
        function([[0.5, 0.4]])
    with pytest.raises(TypeError, match="probs must hold real numbers"):
        function([["a", "b"]])


@pytest.mark.parametrize("function", [energy, max_logit])
def test_logits_must_be_finite_numbers_of_classes(function):
    with pytest.raises(ValueError, match=r"logits must have shape \(N, C\) or \(S, N, C\).*\(2,\)"):
        function([0.5, 0.5])
    with pytest.raises(ValueError, match=r"at least 2 classes, got \(2, 1\)"):
        function([[0.5], [0.5]])
    with pytest.raises(ValueError, match="logits must be finite"):
        function([[np.inf, 0.5]])
    with pytest.raises(TypeError, match="logits must hold real numbers"):
        function([["a", "b"]])


def test_the_temperature_of_an_energy_is_above_zero():
    for temperature in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="temperature must be greater than 0"):
            energy([[1.0, 2.0]], temperature=temperature)
