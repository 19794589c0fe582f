"""Plainly written reference answers, in loops and float64, and data to compare on."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left

import numpy as np
import scipy.optimize
from hypothesis import settings
from hypothesis import strategies as st

# Decorator of property tests: the same examples in every run, however slow the machine.
reproducible = settings(derandomize=True, deadline=None, max_examples=40)

# Every distribution over 3 classes in steps of 1/8: exact in float16, and full of ties, zeros,
# ones and values on bin edges.
GRID_ROWS = [(a / 8, b / 8, (8 - a - b) / 8) for a in range(9) for b in range(9 - a)]


@st.composite
def grid_data(draw, max_inputs=12):
    """Probabilities (N, 3) on the grid, and labels (N,)."""
    num_inputs = draw(st.integers(1, max_inputs))
    rows = draw(st.lists(st.sampled_from(GRID_ROWS), min_size=num_inputs, max_size=num_inputs))
    labels = draw(st.lists(st.integers(0, 2), min_size=num_inputs, max_size=num_inputs))
    return np.array(rows), np.array(labels)


def random_data(seed, num_inputs=300, num_classes=5, concentration=0.5):
    """Probabilities without ties, and labels drawn from somewhat softer ones."""
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(num_classes, concentration), num_inputs)
    softer = np.sqrt(probs) / np.sqrt(probs).sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(num_classes, p=row) for row in softer])
    return probs, labels


def calibrated_data(seed, num_inputs=300, num_classes=5, concentration=0.5):
    """Probabilities without ties, and labels drawn from them, so that gaps have both signs."""
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(num_classes, concentration), num_inputs)
    return probs, np.array([generator.choice(num_classes, p=row) for row in probs])


def tied_data(seed, num_inputs=200):
    """Probabilities (N, 3) on the grid with random labels."""
    generator = np.random.default_rng(seed)
    rows = np.array(GRID_ROWS)
    return (
        rows[generator.integers(len(rows), size=num_inputs)],
        generator.integers(3, size=num_inputs),
    )


def _top(row):
    best = 0
    for index, value in enumerate(row):
        if value > row[best]:
            best = index
    return best, row[best]


def _uniform_bin(confidence, num_bins):
    for number in range(num_bins):
        if confidence <= (number + 1) / num_bins:
            return number
    raise AssertionError(confidence)


def _quantile_edges(confidences, num_bins):
    ordered, edges = sorted(confidences), []
    for k in range(1, num_bins + 1):
        # The smallest confidence that at least a share k/B of the inputs do not exceed.
        rank = -(-k * len(ordered) // num_bins)
        edges.append(ordered[rank - 1])
    return sorted(set(edges))


def reference_bins(probs, labels, num_bins, binning):
    """Bin number -> list of (confidence, whether correct)."""
    tops = [_top(row) for row in probs.tolist()]
    edges = _quantile_edges([confidence for _, confidence in tops], num_bins)
    bins = {}
    for (top, confidence), label in zip(tops, labels.tolist(), strict=True):
        if binning == "uniform":
            number = _uniform_bin(confidence, num_bins)
        else:
            number = bisect_left(edges, confidence)
        bins.setdefault(number, []).append((confidence, top == label))
    return bins


def reference_ece(probs, labels, *, num_bins=15, binning="uniform", norm="l1", debias=False):
    """The docstring of `ece`, input by input."""
    bins = reference_bins(probs, labels, num_bins, binning)
    total, largest = 0.0, 0.0
    for members in bins.values():
        size = len(members)
        gap = sum(ok for _, ok in members) / size - sum(c for c, _ in members) / size
        rate = sum(ok for _, ok in members) / size
        largest = max(largest, abs(gap))
        if norm == "l1":
            total += size / len(labels) * abs(gap)
        elif not debias:
            total += size / len(labels) * gap**2
        elif size >= 2:
            total += size / len(labels) * (gap**2 - rate * (1 - rate) / (size - 1))
    return {"l1": total, "l2": math.sqrt(max(total, 0.0)), "max": largest}[norm]


def reference_class_bins(probs, labels, num_bins, binning):
    """For each class: lists of (probability, whether it is the label), one list per bin in use."""
    for number, column in enumerate(probs.T.tolist()):
        edges = _quantile_edges(column, num_bins)
        bins = {}
        for probability, label in zip(column, labels.tolist(), strict=True):
            bin_number = (
                _uniform_bin(probability, num_bins)
                if binning == "uniform"
                else bisect_left(edges, probability)
            )
            bins.setdefault(bin_number, []).append((probability, label == number))
        yield list(bins.values())


def reference_classwise_ece(probs, labels, *, num_bins=15, binning="uniform", norm="l1"):
    """The docstring of `classwise_ece`, class by class and bin by bin."""
    total, largest = 0.0, 0.0
    for bins in reference_class_bins(probs, labels, num_bins, binning):
        for members in bins:
            gap = abs(sum(y for _, y in members) - sum(p for p, _ in members)) / len(members)
            share = len(members) / probs.size
            total += share * (gap if norm == "l1" else gap**2)
            largest = max(largest, gap)
    return {"l1": total, "l2": math.sqrt(total), "max": largest}[norm]


def reference_brier_parts(probs, labels, *, num_bins=15, binning="uniform"):
    """Murphy's three parts, and Stephenson's two from within bins, from their definitions."""
    reliability = resolution = uncertainty = variance = covariance = 0.0
    for bins in reference_class_bins(probs, labels, num_bins, binning):
        members = [member for each in bins for member in each]
        base = sum(y for _, y in members) / len(members)
        uncertainty += base * (1 - base)
        for each in bins:
            mean = sum(p for p, _ in each) / len(each)
            rate = sum(y for _, y in each) / len(each)
            reliability += len(each) * (mean - rate) ** 2 / len(labels)
            resolution += len(each) * (rate - base) ** 2 / len(labels)
            variance += sum((p - mean) ** 2 for p, _ in each) / len(labels)
            covariance += 2 * sum((p - mean) * (y - rate) for p, y in each) / len(labels)
    return reliability, resolution, uncertainty, variance - covariance


def reference_smoothed_error(confidence, correct, bandwidth, num_points=4000):
    """Integral of the smoothed residual at ``num_points`` points, every mirror image summed."""
    points = (np.arange(num_points) + 0.5) / num_points
    smoothed = np.zeros(num_points)
    reach = 2 * math.ceil(1 + 4.5 * bandwidth)  # images further away are beyond 9 deviations
    for shift in range(-reach, reach + 1, 2):
        for image in (shift + confidence, shift - confidence):
            standardised = (points[:, None] - image) / bandwidth
            density = np.exp(-(standardised**2) / 2) / (math.sqrt(2 * math.pi) * bandwidth)
            smoothed += density @ (correct - confidence) / len(confidence)
    return np.abs(smoothed).mean()


def reference_smooth_ece(probs, labels, num_points=4000):
    """The bandwidth that equals its own smoothed error, bracketed over all of them."""
    tops = [_top(row) for row in probs.tolist()]
    confidence = np.array([value for _, value in tops])
    correct = np.array([top == label for (top, _), label in zip(tops, labels, strict=True)])
    return scipy.optimize.brentq(
        lambda width: reference_smoothed_error(confidence, correct, width, num_points) - width,
        2.0 / num_points,
        1.01,
        xtol=1e-10,
    )


def reference_aurc(probs, labels):
    """Mean over all orderings that sort by falling confidence, found by trying all."""
    tops = [_top(row) for row in probs.tolist()]
    inputs = [(c, top != label) for (top, c), label in zip(tops, labels.tolist(), strict=True)]
    areas = []
    for ordering in itertools.permutations(inputs):
        confidences = [confidence for confidence, _ in ordering]
        if any(a < b for a, b in itertools.pairwise(confidences)):
            continue
        errors, area = 0, 0.0
        for n, (_, wrong) in enumerate(ordering, start=1):
            errors += wrong
            area += errors / n
        areas.append(area / len(ordering))
    return sum(areas) / len(areas)


def reference_fpr95(id_scores, ood_scores):
    """Threshold by threshold, in integers: 20 caught >= 19 N means 95 %."""
    for threshold in sorted({*id_scores, *ood_scores}, reverse=True):
        if 20 * sum(s >= threshold for s in ood_scores) >= 19 * len(ood_scores):
            return sum(s >= threshold for s in id_scores) / len(id_scores)
    raise AssertionError


def reference_fpr95_in(id_scores, ood_scores):
    """The same from below, with what is accepted."""
    for threshold in sorted({*id_scores, *ood_scores}):
        if 20 * sum(s <= threshold for s in id_scores) >= 19 * len(id_scores):
            return sum(s <= threshold for s in ood_scores) / len(ood_scores)
    raise AssertionError
