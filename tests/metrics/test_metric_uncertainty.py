from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import GRID_ROWS, reproducible

from bbnn_uq.metrics import (
    expected_entropy,
    mutual_information,
    predictive_entropy,
    variation_ratio,
)

grid_samples = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.sampled_from(GRID_ROWS), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    ).map(np.array)
)


def random_samples(num_networks=7, num_inputs=40, num_classes=4):
    return np.random.default_rng(0).dirichlet(np.full(num_classes, 0.3), (num_networks, num_inputs))


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
    np.testing.assert_allclose(mutual_information(samples[::-1]), information, atol=1e-14)
    np.testing.assert_array_equal(variation_ratio(samples[::-1]), ratio)
    np.testing.assert_allclose(
        information + expected_entropy(samples),
        predictive_entropy(samples.mean(axis=0)),
        atol=1e-14,
    )


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
    for function in (expected_entropy, mutual_information, variation_ratio):
        result = function(convert(samples))
        assert result.dtype == np.float64
        np.testing.assert_array_equal(result, function(samples))
    np.testing.assert_array_equal(
        predictive_entropy(convert(samples[0])), predictive_entropy(samples[0])
    )


@pytest.mark.parametrize("function", [expected_entropy, mutual_information, variation_ratio])
def test_samples_must_be_probabilities_of_networks(function):
    with pytest.raises(ValueError, match=r"samples must have shape \(S, N, C\)"):
        function(np.full((3, 2), 0.5))
    with pytest.raises(ValueError, match="samples must be finite"):
        function(np.full((2, 3, 2), np.nan))
    with pytest.raises(ValueError, match=r"samples must lie in .*logits"):
        function([[[2.0, -1.0]]])


def test_probs_must_be_probabilities():
    with pytest.raises(ValueError, match=r"probs must have shape \(N, C\)"):
        predictive_entropy([0.5, 0.5])
    with pytest.raises(ValueError, match="probs must sum to 1"):
        predictive_entropy([[0.5, 0.4]])
    with pytest.raises(TypeError, match="probs must hold real numbers"):
        predictive_entropy([["a", "b"]])
