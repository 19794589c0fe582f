"""Uncertainty of single inputs: of a prediction, and of what sampled networks disagree on.

Functions return the quantity itself: confidence, margin and the largest logit fall with
uncertainty, all others rise. :meth:`bbnn_uq.Predictive.score` gives them all one sign.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from bbnn_uq._checks import check_probs, check_real, check_real_array, check_samples
from bbnn_uq._rows import by_rows

__all__ = [
    "confidence",
    "energy",
    "entropy_gap",
    "expected_entropy",
    "logit_variance",
    "margin",
    "max_logit",
    "mutual_information",
    "pairwise_kl",
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
    return by_rows(lambda p: (_entropy(p),), check_probs(probs))[0]


def confidence(probs: Any) -> Float64[np.ndarray, "inputs"]:
    r"""Largest class probability, :math:`\max_c p_{nc}`.

    Source: Hendrycks and Gimpel 2017 (arXiv 1610.02136), as a baseline to detect OOD inputs.

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.

    Returns:
        Confidences, (N,), each in [1/C, 1]; low where the prediction is uncertain.

    Raises:
        ValueError: If ``probs`` are no probabilities of shape (N, C).
        TypeError: If ``probs`` hold anything but real numbers.

    Example:
        >>> confidence([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])
        array([0.5, 1. ])
    """
    return by_rows(lambda p: (p.amax(dim=1),), check_probs(probs))[0]


def margin(probs: Any) -> Float64[np.ndarray, "inputs"]:
    r"""Difference of the two largest class probabilities, :math:`p_{n(1)} - p_{n(2)}`.

    Source: Scheffer, Decomain and Wrobel 2001.

    Args:
        probs: Class probabilities (N, C), in [0, 1] and summing to 1 over classes.

    Returns:
        Margins, (N,), each in [0, 1]; 0 where two classes share the largest probability.

    Raises:
        ValueError: If ``probs`` are no probabilities of shape (N, C).
        TypeError: If ``probs`` hold anything but real numbers.

    Example:
        >>> margin([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
        array([0.25, 1.  , 0.  ])
    """

    def difference(p: Tensor) -> tuple[Tensor]:
        top = p.argmax(dim=1, keepdim=True)
        return (p.amax(dim=1) - p.scatter(1, top, -1.0).amax(dim=1),)

    return by_rows(difference, check_probs(probs))[0]


def energy(logits: Any, *, temperature: float = 1.0) -> Float64[np.ndarray, "inputs"]:
    r"""Free energy of the logits, averaged over networks where there are several.

    .. math:: E_n = \frac{1}{S} \sum_s -T \ln \sum_c \exp(z_{snc} / T).

    Unlike all that is computed from probabilities, it depends on what a softmax takes no notice
    of: the same number added to all logits of an input.

    Source: Liu et al. 2020 (arXiv 2010.03759).

    Args:
        logits: Logits (N, C), or those of S networks, (S, N, C); finite.
        temperature: T, above 0.

    Returns:
        Energies in the logits' units, (N,), any real number; high where all logits are low.

    Raises:
        ValueError: If ``logits`` are not finite or of another shape, or T is not above 0.
        TypeError: If ``logits`` or ``temperature`` are anything but real numbers.

    Example:
        >>> energy([[0.0, 0.0], [5.0, 0.0]]).round(4)
        array([-0.6931, -5.0067])
    """
    t = check_real(temperature, "temperature", above=0.0)

    def of_rows(z: Tensor) -> tuple[Tensor]:
        top = z.amax(dim=-1, keepdim=True)
        free = top[..., 0] + ((z - top) / t).exp_().sum(dim=-1).log_() * t
        return (-free.mean(dim=1),)

    return _over_networks(of_rows, _check_logits(logits))


def max_logit(logits: Any) -> Float64[np.ndarray, "inputs"]:
    r"""Largest logit, averaged over networks where there are several.

    .. math:: \frac{1}{S} \sum_s \max_c z_{snc}.

    Source: Hendrycks et al. 2022 (arXiv 1911.11132).

    Args:
        logits: Logits (N, C), or those of S networks, (S, N, C); finite.

    Returns:
        Largest logits, (N,), any real number; low where the prediction is uncertain.

    Raises:
        ValueError: If ``logits`` are not finite or of another shape.
        TypeError: If ``logits`` hold anything but real numbers.

    Example:
        >>> max_logit([[[2.0, 1.0]], [[0.0, 4.0]]])
        array([3.])
    """
    return _over_networks(lambda z: (z.amax(dim=-1).mean(dim=1),), _check_logits(logits))


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
    return _over_networks(lambda p: (_entropy(p).mean(dim=1),), check_samples(samples))


def mutual_information(
    samples: Any, *, correct_bias: bool = False
) -> Float64[np.ndarray, "inputs"]:
    r"""Information that the class holds about the network: what the networks disagree on.

    .. math:: I_n = H\Big[\frac{1}{S} \sum_s p_{sn}\Big] - \frac{1}{S} \sum_s H[p_{sn}] \ge 0,

    clipped at 0 against rounding. With S networks it is at most ln S and biased low, the more so
    the smaller S is: compare only values taken with the same S and the same networks.

    The bias comes from the entropy of the average, which is concave. To second order in the
    average's error it is :math:`-\frac{1}{2S} \sum_c \sigma_{nc}^2 / \bar p_{nc}`, where
    :math:`\sigma_{nc}^2` is the variance of :math:`p_{snc}` over networks. ``correct_bias`` adds
    its estimate from the S networks,

    .. math:: \frac{1}{2S} \sum_c \frac{s_{nc}^2}{\bar p_{nc}}, \qquad
              s_{nc}^2 = \frac{1}{S - 1} \sum_s (p_{snc} - \bar p_{nc})^2,

    after which a bias of order 1/S² is left. It is at most 1/2 nat, by which the value
    may exceed ln S and ln C.

    Source: Houlsby et al. 2011 (arXiv 1112.5745), equation 2. The correction is the delta
    method's, as that of Miller 1955 for the entropy of counts.

    Args:
        samples: Class probabilities of S networks, (S, N, C), summing to 1 over classes.
        correct_bias: Whether to add the correction, which needs at least two networks.

    Returns:
        Mutual information in nats, (N,), each in [0, min(ln C, ln S)] unless corrected.

    Raises:
        ValueError: If ``samples`` are no probabilities of shape (S, N, C), or too few to correct.
        TypeError: If ``samples`` hold anything but real numbers.

    Example:
        >>> agreeing, opposed = [[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.0, 1.0]]
        >>> mutual_information([agreeing, opposed]).round(4)
        array([0.    , 0.6931])
    """

    def plain(p: Tensor) -> tuple[Tensor, ...]:
        return _entropy(p.mean(dim=1)), _entropy(p).mean(dim=1)

    def corrected(p: Tensor) -> tuple[Tensor, ...]:
        mean = p.mean(dim=1)
        # A class that no network allows has no variance either, and 0 / 0 is to be 0.
        ratio = _deviations(p).square_().sum(dim=1) / mean.clamp_min(torch.finfo(p.dtype).tiny)
        count = p.shape[1]
        return *plain(p), ratio.sum(dim=1) / (2 * count * (count - 1))

    if not correct_bias:
        return entropy_gap(*by_rows(plain, np.swapaxes(check_samples(samples), 0, 1)))
    checked = _check_several(samples, "mutual_information with correct_bias=True")
    total, expected, correction = by_rows(corrected, np.swapaxes(checked, 0, 1))
    return entropy_gap(total, expected) + correction


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

    def others(p: Tensor) -> tuple[Tensor]:
        votes = p.argmax(dim=2)
        counts = p.new_zeros(len(p), p.shape[2]).scatter_add_(1, votes, torch.ones_like(p[..., 0]))
        return (1.0 - counts.amax(dim=1) / p.shape[1],)

    return _over_networks(others, check_samples(samples))


def logit_variance(samples: Any) -> Float64[np.ndarray, "inputs"]:
    r"""Variance over networks of the centred logits, averaged over classes.

    .. math:: \frac{1}{C} \sum_c \frac{1}{S - 1} \sum_s (\zeta_{snc} - \bar\zeta_{nc})^2, \qquad
              \zeta_{snc} = \ln p_{snc} - \frac{1}{C} \sum_{c'} \ln p_{snc'}.

    The centred logits :math:`\zeta` (the centred log-ratio of the probabilities) are
    :math:`z_{snc} - \frac{1}{C} \sum_{c'} z_{snc'}` too: what is left of logits without the shift
    that a softmax ignores, so that probabilities and logits give the same. Its expectation does
    not depend on S.

    A probability of exactly 0 stands for an infinite logit: +inf where only some of the networks
    exclude a class, while a class that all of them exclude is taken as the limit of equally small
    probabilities. A softmax gives 0 only where it underflows.

    Source: Aitchison 1986 (the centred log-ratio; C times this is its total variability).

    Args:
        samples: Class probabilities of S ≥ 2 networks, (S, N, C), summing to 1 over classes.

    Returns:
        Variances in squared units of logits, (N,), each in [0, inf].

    Raises:
        ValueError: If ``samples`` are no probabilities of shape (S, N, C), or S is 1.
        TypeError: If ``samples`` hold anything but real numbers.

    Example:
        >>> samples = [[[0.5, 0.5], [0.2, 0.8]], [[0.2, 0.8], [0.2, 0.8]]]
        >>> logit_variance(samples).round(4)
        array([0.2402, 0.    ])
    """

    def variance(p: Tensor) -> tuple[Tensor]:
        logs, disputed = _logs(p)
        squares = _deviations(logs - logs.mean(dim=2, keepdim=True)).square_()
        total = squares.sum(dim=1).mean(dim=1) / (p.shape[1] - 1)
        return (total.masked_fill_(disputed, torch.inf),)

    return _over_networks(variance, _check_several(samples, "logit_variance"))


def pairwise_kl(samples: Any) -> Float64[np.ndarray, "inputs"]:
    r"""Mean Kullback-Leibler divergence between the predictions of two different networks.

    .. math:: \frac{1}{S (S - 1)} \sum_{s \ne t} \sum_c p_{snc} \ln \frac{p_{snc}}{p_{tnc}}
              = \sum_c \mathrm{cov}_s (p_{snc}, \ln p_{snc}),

    the unbiased covariances over networks. At least the mutual information, and its expectation
    does not depend on S.

    A class that only some of the networks exclude, with a probability of exactly 0, makes it
    +inf; one that all of them exclude adds nothing.

    Source: Malinin and Gales 2021 (arXiv 2002.07650), whose mean includes s = t and is
    :math:`(S - 1) / S` of this one.

    Args:
        samples: Class probabilities of S ≥ 2 networks, (S, N, C), summing to 1 over classes.

    Returns:
        Divergences in nats, (N,), each in [0, inf].

    Raises:
        ValueError: If ``samples`` are no probabilities of shape (S, N, C), or S is 1.
        TypeError: If ``samples`` hold anything but real numbers.

    Example:
        >>> samples = [[[0.5, 0.5], [0.2, 0.8]], [[0.2, 0.8], [0.2, 0.8]]]
        >>> pairwise_kl(samples).round(4)
        array([0.2079, 0.    ])
    """

    def covariance(p: Tensor) -> tuple[Tensor]:
        logs, disputed = _logs(p)
        product = _deviations(p).mul_(_deviations(logs))
        total = product.sum(dim=(1, 2)).clamp_min_(0.0) / (p.shape[1] - 1)
        return (total.masked_fill_(disputed, torch.inf),)

    return _over_networks(covariance, _check_several(samples, "pairwise_kl"))


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(dim=-1)


def _deviations(values: Tensor) -> Tensor:
    """From the mean over networks, and exactly 0 where all networks are the same."""
    from_first = values - values[:, :1]
    return from_first - from_first.mean(dim=1, keepdim=True)


def _logs(p: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities (n, S, C), 0 for ln 0, and whether networks differ in what they exclude."""
    zero = p == 0.0
    disputed = (zero != zero[:, :1]).flatten(1).any(dim=1)
    return p.masked_fill(zero, 1.0).log_(), disputed


def _over_networks(
    function: Callable[[Tensor], tuple[Tensor]], values: Float64[np.ndarray, "networks inputs _"]
) -> Float64[np.ndarray, "inputs"]:
    """A function of blocks (n, S, C) of inputs, for all of them."""
    return by_rows(function, np.swapaxes(values, 0, 1))[0]


def _check_several(samples: Any, what: str) -> Float64[np.ndarray, "networks inputs classes"]:
    checked = check_samples(samples)
    if len(checked) < 2:
        raise ValueError(
            f"samples must be those of at least 2 networks for {what}, got shape {checked.shape}; "
            "draw more networks"
        )
    return checked


def _check_logits(logits: Any) -> Float64[np.ndarray, "networks inputs classes"]:
    array = check_real_array(logits, "logits")
    if array.ndim not in (2, 3) or array.shape[-1] < 2:
        raise ValueError(
            f"logits must have shape (N, C) or (S, N, C) with at least 2 classes, got {array.shape}"
        )
    return array if array.ndim == 3 else array[None]
