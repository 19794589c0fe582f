"""Uncertainty of single inputs: entropies in nats, mutual information, variation ratio."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import entr

from bbnn_uq._checks import check_probs, check_samples

__all__ = [
    "entropy_gap",
    "expected_entropy",
    "mutual_information",
    "predictive_entropy",
    "variation_ratio",
]

_ROUNDING = 1e-12  # nats; what sums over a thousand networks may be off by


def predictive_entropy(probs: Any) -> Float64[np.ndarray, "inputs"]:
    r"""Entropy of each predictive distribution: the total uncertainty about the class.

    .. math:: H_n = -\sum_c p_{nc} \ln p_{nc}, \qquad 0 \ln 0 = 0.

    Source: Shannon 1948; as an uncertainty of Bayesian networks, Gal 2016, section 3.3.1.

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.

    Returns:
        Entropies in nats, (N,), each in [0, ln C].

    Raises:
        ValueError: If ``probs`` are no probabilities of shape (N, C).
        TypeError: If ``probs`` hold anything but real numbers.

    Example:
        >>> predictive_entropy([[0.5, 0.5], [1.0, 0.0]]).round(4)
        array([0.6931, 0.    ])
    """
    return entr(check_probs(probs)).sum(axis=1)


def expected_entropy(samples: Any) -> Float64[np.ndarray, "inputs"]:
    r"""Mean entropy of the networks' own predictions: the uncertainty they agree on.

    .. math:: \frac{1}{S} \sum_s \Big( -\sum_c p_{snc} \ln p_{snc} \Big).

    Source: Gal 2016, section 3.3.1 (the second term of the mutual information).

    Args:
        samples: Class probabilities of S networks, (S, N, C), summing to 1 over classes.

    Returns:
        Mean entropies in nats, (N,), each in [0, ln C].

    Raises:
        ValueError: If ``samples`` are no probabilities of shape (S, N, C).
        TypeError: If ``samples`` hold anything but real numbers.

    Example:
        >>> expected_entropy([[[0.5, 0.5]], [[1.0, 0.0]]]).round(4)
        array([0.3466])
    """
    return entr(check_samples(samples)).sum(axis=2).mean(axis=0)


def mutual_information(samples: Any) -> Float64[np.ndarray, "inputs"]:
    r"""Information that the class holds about the network: what the networks disagree on.

    .. math:: I_n = H\Big[\frac{1}{S} \sum_s p_{sn}\Big] - \frac{1}{S} \sum_s H[p_{sn}] \ge 0,

    clipped at 0 against rounding. With S networks it is at most ln S and biased low, the more so
    the smaller S is: compare only values taken with the same S and the same networks.

    Source: Houlsby et al. 2011 (arXiv 1112.5745), equation 2.

    Args:
        samples: Class probabilities of S networks, (S, N, C), summing to 1 over classes.

    Returns:
        Mutual information in nats, (N,), each in [0, min(ln C, ln S)].

    Raises:
        ValueError: If ``samples`` are no probabilities of shape (S, N, C).
        TypeError: If ``samples`` hold anything but real numbers.

    Example:
        >>> agreeing, opposed = [[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.0, 1.0]]
        >>> mutual_information([agreeing, opposed]).round(4)
        array([0.    , 0.6931])
    """
    checked = check_samples(samples)
    total = entr(checked.mean(axis=0)).sum(axis=1)
    return entropy_gap(total, entr(checked).sum(axis=2).mean(axis=0))


def entropy_gap(total: np.ndarray, expected: np.ndarray) -> Float64[np.ndarray, "inputs"]:
    """Mutual information from its two entropies: their difference, where it is not rounding.

    Identical networks have none, yet sums over them differ in their last digits, and differently
    for different inputs: as a score, that noise would pass for a detector.
    """
    gap = total - expected
    return np.where(gap > _ROUNDING, gap, 0.0)


def variation_ratio(samples: Any) -> Float64[np.ndarray, "inputs"]:
    r"""Share of the networks that do not vote for the most voted class.

    .. math:: v_n = 1 - \frac{1}{S} \max_c \sum_s [\arg\max_{c'} p_{snc'} = c].

    Each network votes for its most probable class, the first on ties. Biased low for small S,
    since the most voted class is chosen from the same votes.

    Source: Freeman 1965; for networks, Gal 2016, section 3.3.1.

    Args:
        samples: Class probabilities of S networks, (S, N, C), summing to 1 over classes.

    Returns:
        Variation ratios, (N,), each in [0, 1 - 1/C].

    Raises:
        ValueError: If ``samples`` are no probabilities of shape (S, N, C).
        TypeError: If ``samples`` hold anything but real numbers.

    Example:
        >>> variation_ratio([[[0.9, 0.1]], [[0.6, 0.4]], [[0.2, 0.8]], [[0.7, 0.3]]])
        array([0.25])
    """
    checked = check_samples(samples)
    num_networks, num_inputs, num_classes = checked.shape
    votes = checked.argmax(axis=2) + num_classes * np.arange(num_inputs)
    counts = np.bincount(votes.ravel(), minlength=num_inputs * num_classes)
    return 1.0 - counts.reshape(num_inputs, num_classes).max(axis=1) / num_networks
