"""Every statement of docs/compatibility.md: agreements with other libraries, and where they differ.

A test of a difference fails when a new version mends it: then the page and the test change.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import math
import re
from pathlib import Path

import netcal.metrics
import numpy as np
import pytest
import relplot
import sklearn.metrics
import torch
import torchmetrics.functional.classification as torch_metrics
from metric_reference import calibrated_data, random_data, reference_smoothed_error, tied_data
from sklearn.calibration import calibration_curve
from sklearn.exceptions import UndefinedMetricWarning

from bbnn_uq.metrics import (
    accuracy,
    brier,
    ece,
    nll,
    ood_metrics,
    reliability_curve,
    roc_curve,
)
from bbnn_uq.metrics.calibration import classwise_ece
from bbnn_uq.metrics.smooth_calibration import smooth_ece

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
PROBS, LABELS = calibrated_data(0, num_inputs=301)  # no confidence of 1 or on an edge
CORRECT, CONFIDENCE = PROBS.argmax(axis=1) == LABELS, PROBS.max(axis=1)


def two_classes(confidence):
    confidence = np.asarray(confidence, dtype=np.float64)
    return np.stack([confidence, 1.0 - confidence], axis=1)


def torch_ece(probs, labels, **options):
    probs, labels = torch.as_tensor(probs), torch.as_tensor(labels)
    return float(
        torch_metrics.multiclass_calibration_error(
            probs, labels, num_classes=probs.shape[1], **options
        )
    )


def scores(seed=0):
    """Tied scores of ID and OOD inputs."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 12, 90) / 16, generator.integers(4, 16, 70) / 16


@pytest.mark.parametrize("package", ["torchmetrics", "netcal", "scikit-learn", "relplot"])
def test_the_page_names_the_versions_that_were_compared(package):
    stated = re.search(rf"\b{package} (\d+\.\d+\.\d+)", PAGE.read_text())
    assert stated is not None
    assert stated[1] == importlib.metadata.version(package)


# Accuracy and proper scores


@pytest.mark.parametrize("data", [random_data, tied_data])
def test_accuracy_of_others(data):
    probs, labels = data(1)
    value = accuracy(probs, labels)
    assert value == sklearn.metrics.accuracy_score(labels, probs.argmax(axis=1))
    tensors, classes = (torch.tensor(probs), torch.tensor(labels)), probs.shape[1]
    micro = torch_metrics.multiclass_accuracy(*tensors, classes, average="micro")
    assert float(micro) == pytest.approx(value, rel=1e-6)
    # Its default is the mean of the classes' recalls.
    default = torch_metrics.multiclass_accuracy(*tensors, classes)
    balanced = sklearn.metrics.balanced_accuracy_score(labels, probs.argmax(axis=1))
    assert float(default) == pytest.approx(balanced, rel=1e-6)
    assert float(default) != pytest.approx(value, rel=1e-3)


def test_log_loss_is_nll_where_no_label_has_probability_zero():
    expected = sklearn.metrics.log_loss(LABELS, PROBS, labels=np.arange(5))
    assert nll(PROBS, LABELS) == pytest.approx(expected, rel=1e-12)


def test_log_loss_clips_and_needs_labels_for_absent_classes():
    probs, labels = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]), [1, 0]
    assert nll(probs, labels) == math.inf
    clipped = [
        sklearn.metrics.log_loss(labels, probs.astype(dtype), labels=[0, 1, 2])
        for dtype in (np.float64, np.float32, np.float16)
    ]
    # Half of -ln eps, of a machine epsilon that depends on the dtype, plus half of ln 2.
    assert clipped == pytest.approx([18.37, 8.32, 3.81], abs=0.01)
    with pytest.raises(ValueError, match="different number of classes"):
        sklearn.metrics.log_loss(labels, probs)


def test_brier_score_loss_is_brier_with_scale_by_half_false():
    expected = sklearn.metrics.brier_score_loss(
        LABELS, PROBS, labels=np.arange(5), scale_by_half=False
    )
    assert brier(PROBS, LABELS) == pytest.approx(expected, rel=1e-12)
    # By default it halves the score of two classes, and no other.
    assert sklearn.metrics.brier_score_loss(LABELS, PROBS, labels=np.arange(5)) == pytest.approx(
        expected
    )
    probs, labels = two_classes([0.6, 0.9, 0.7]), [0, 1, 0]
    half = sklearn.metrics.brier_score_loss(labels, probs)
    assert half == pytest.approx(brier(probs, labels) / 2)


# Expected calibration error, uniform bins


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("num_bins", [1, 7, 10, 15])
def test_torchmetrics_calibration_error_is_ece_away_from_edges(norm, num_bins):
    expected = torch_ece(PROBS, LABELS, n_bins=num_bins, norm=norm)
    value = ece(PROBS, LABELS, num_bins=num_bins, norm=norm)
    assert value == pytest.approx(expected, rel=1e-5)  # it works in float32


def test_torchmetrics_gives_confidence_one_a_bin_of_its_own():
    probs, labels = two_classes([0.95, 1.0]), [0, 1]
    assert ece(probs, labels, num_bins=10) == pytest.approx((1.95 - 1) / 2)
    assert torch_ece(probs, labels, n_bins=10) == pytest.approx((0.05 + 1.0) / 2)
    # Confidences that are 1 in float32 only are there too.
    close = two_classes([0.95, 1.0 - 1e-9])
    assert torch_ece(close, labels, n_bins=10) == pytest.approx((0.05 + 1.0) / 2)


def test_torchmetrics_and_netcal_put_a_confidence_on_an_edge_into_the_bin_above():
    # (0.25, 0.5] and (0.5, 0.75] part the two; [0.5, 0.75) does not.
    probs = np.array([[0.5, 0.3, 0.2], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    labels = np.array([0, 1, 2])
    apart, together = (0.5 + 0.7 + 0.2) / 3, (abs(1 - 1.2) + 0.2) / 3
    assert ece(probs, labels, num_bins=4) == pytest.approx(apart)
    assert torch_ece(probs, labels, n_bins=4) == pytest.approx(together)
    assert netcal.metrics.ECE(4).measure(probs, labels) == pytest.approx(together)


def test_torchmetrics_takes_a_probability_above_one_for_a_logit():
    probs, labels = two_classes([0.9, 0.8]), [0, 0]
    rounded = probs.copy()
    rounded[0] = [1.0 + 1e-7, 0.0]
    assert ece(rounded, labels, num_bins=1) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="logits"):
        ece(np.add(rounded, [[2e-6, 0.0], [0.0, 0.0]]), labels)
    assert torch_ece(rounded, labels, n_bins=1) == pytest.approx(
        1 - torch.softmax(torch.tensor(rounded), dim=1).amax(dim=1).mean()
    )


def test_torchmetrics_offers_no_debiasing():
    assert "debias" not in inspect.signature(torch_metrics.multiclass_calibration_error).parameters
    assert "debias" not in inspect.signature(torch_metrics.binary_calibration_error).parameters


@pytest.mark.parametrize("num_bins", [1, 7, 10, 15])
def test_netcal_is_ece_away_from_edges(num_bins):
    expected = netcal.metrics.ECE(num_bins).measure(PROBS, LABELS)
    assert ece(PROBS, LABELS, num_bins=num_bins) == pytest.approx(expected, rel=1e-12)
    largest = netcal.metrics.MCE(num_bins).measure(PROBS, LABELS)
    assert ece(PROBS, LABELS, num_bins=num_bins, norm="max") == pytest.approx(largest, rel=1e-12)
    # And where it shares the last bin, for a confidence of 1.
    probs, labels = np.array([[0.95, 0.05, 0.0], [1.0, 0.0, 0.0], [0.0, 0.8, 0.2]]), [0, 1, 2]
    assert netcal.metrics.ECE(10).measure(probs, np.array(labels)) == pytest.approx(
        ece(probs, labels, num_bins=10)
    )


def test_netcal_takes_two_classes_for_the_second_ones_probability():
    probs, labels = calibrated_data(1, num_classes=2)
    value = netcal.metrics.ECE(10).measure(probs, labels)
    assert value == pytest.approx(classwise_ece(probs, labels, num_bins=10), rel=1e-12)
    assert value != pytest.approx(ece(probs, labels, num_bins=10), rel=0.1)
    # Confidences and whether they were right go in as what it takes for two classes.
    correct = (probs.argmax(axis=1) == labels).astype(int)
    value = netcal.metrics.ECE(10).measure(probs.max(axis=1), correct)
    assert value == pytest.approx(ece(probs, labels, num_bins=10), rel=1e-12)


def test_netcal_refuses_labels_of_fewer_than_three_classes():
    probs, labels = calibrated_data(1, num_inputs=20, num_classes=3)
    with pytest.raises(RuntimeError, match="binary classification"):
        netcal.metrics.ECE(10).measure(probs, np.minimum(labels, 1))
    assert 0.0 < ece(probs, np.minimum(labels, 1)) < 1.0


# Expected calibration error, quantile bins


@pytest.mark.parametrize("num_bins", [1, 7, 43])
def test_quantile_bins_agree_where_the_bins_divide_the_inputs(num_bins):
    expected = netcal.metrics.ECE(num_bins, equal_intervals=False).measure(PROBS, LABELS)
    value = ece(PROBS, LABELS, num_bins=num_bins, binning="quantile")
    assert len(LABELS) % num_bins == 0
    assert value == pytest.approx(expected, rel=1e-12)
    rate, mean = calibration_curve(CORRECT, CONFIDENCE, n_bins=num_bins, strategy="quantile")
    assert np.abs(rate - mean).mean() == pytest.approx(expected, rel=1e-12)
    curve = reliability_curve(PROBS, LABELS, num_bins=num_bins, binning="quantile")
    np.testing.assert_allclose(curve.accuracy, rate, rtol=1e-12)
    np.testing.assert_allclose(curve.confidence, mean, rtol=1e-12)


def test_quantile_bins_of_others_have_interpolated_edges_otherwise():
    # 7 bins of 300 inputs: some edges move by one input.
    probs, labels = PROBS[:300], LABELS[:300]
    value = ece(probs, labels, num_bins=7, binning="quantile")
    other = netcal.metrics.ECE(7, equal_intervals=False).measure(probs, labels)
    assert other != pytest.approx(value, rel=1e-3)
    curve = reliability_curve(probs, labels, num_bins=7, binning="quantile")
    _, mean = calibration_curve(CORRECT[:300], CONFIDENCE[:300], n_bins=7, strategy="quantile")
    assert not np.allclose(curve.confidence, mean, rtol=1e-4)


def test_netcal_fails_on_tied_quantiles():
    probs, labels = two_classes([0.75] * 8), np.tile([0, 1], 4)
    with pytest.raises(ValueError, match="smallest edge difference is numerically 0"):
        netcal.metrics.ECE(4, equal_intervals=False).measure(probs[:, 0], 1 - labels)
    assert ece(probs, labels, num_bins=4, binning="quantile") == pytest.approx(0.25)


# Classwise calibration error


@pytest.mark.parametrize("num_bins", [7, 15])
def test_classwise_ece_is_the_mean_of_binary_ones_away_from_edges(num_bins):
    value = classwise_ece(PROBS, LABELS, num_bins=num_bins)
    outcomes = (np.arange(5)[:, None] == LABELS).astype(int)
    by_netcal = [
        netcal.metrics.ECE(num_bins).measure(column, outcome)
        for column, outcome in zip(PROBS.T.copy(), outcomes, strict=True)
    ]
    assert value == pytest.approx(np.mean(by_netcal), rel=1e-12)
    for norm, mean in (
        ("l1", np.mean),
        ("l2", lambda errors: math.sqrt(np.mean(np.square(errors)))),
        ("max", np.max),
    ):
        errors = [
            float(
                torch_metrics.binary_calibration_error(
                    torch.tensor(column), torch.tensor(outcome), n_bins=num_bins, norm=norm
                )
            )
            for column, outcome in zip(PROBS.T, outcomes, strict=True)
        ]
        value = classwise_ece(PROBS, LABELS, num_bins=num_bins, norm=norm)
        assert value == pytest.approx(mean(errors), rel=1e-5)


# Smooth calibration error


@pytest.mark.parametrize("seed", range(5))
def test_relplot_is_smooth_ece_to_its_search_grid(seed):
    probs, labels = calibrated_data(seed, num_inputs=500, concentration=1.0)
    assert probs.max() < 0.999
    data = relplot.multiclass_logits_to_confidences(probs, labels, probs=True)
    expected, bandwidth = relplot.smECE(*data, return_width=True)
    assert (1024 * bandwidth).is_integer()
    assert smooth_ece(probs, labels) == pytest.approx(expected, abs=1 / 1024)


def test_relplot_counts_confidences_of_one_half():
    confidence, correct = np.array([1.0, 0.8]), np.array([0.0, 1.0])
    exact = reference_smoothed_error(confidence, correct, 0.01)
    assert exact == pytest.approx((1.0 + 0.2) / 2, rel=1e-6)
    value = relplot.smECE_sigma(confidence, correct, 0.01)
    assert value == pytest.approx((1.0 / 2 + 0.2) / (1 / 2 + 1), rel=2e-2)


def test_relplot_cuts_the_kernel_at_half_the_range():
    # Opposite errors 0.9 apart cancel in part at wide bandwidths, but not there.
    probs = np.zeros((10, 20))
    probs[:5] = [0.97] + [0.03 / 19] * 19
    probs[5:] = [0.07] * 8 + [0.44 / 12] * 12
    labels = np.repeat([1, 0], 5)
    confidence, correct = relplot.multiclass_logits_to_confidences(probs, labels, probs=True)
    value = smooth_ece(probs, labels)
    assert reference_smoothed_error(confidence, correct, value) == pytest.approx(value, abs=1e-6)
    assert relplot.smECE(confidence, correct) > value + 0.2


def test_relplot_binned_error_gives_confidence_one_a_bin_of_its_own():
    confidence, correct = np.array([0.95, 1.0]), np.array([1.0, 0.0])
    value = relplot.metrics.binnedECE(confidence, correct, nbins=10)
    assert value == pytest.approx((0.05 + 1.0) / 2)


# Reliability curve


@pytest.mark.parametrize("num_bins", [5, 15])
def test_calibration_curve_is_the_curves_filled_bins(num_bins):
    curve = reliability_curve(PROBS, LABELS, num_bins=num_bins)
    rate, mean = calibration_curve(CORRECT, CONFIDENCE, n_bins=num_bins)
    filled = curve.count > 0
    assert filled.sum() < num_bins  # it leaves out empty bins
    np.testing.assert_allclose(curve.accuracy[filled], rate, rtol=1e-12)
    np.testing.assert_allclose(curve.confidence[filled], mean, rtol=1e-12)


def test_calibration_curve_has_bins_closed_above_and_one_in_the_last():
    confidence = np.array([0.5, 0.625, 0.75, 0.875, 1.0])
    curve = reliability_curve(two_classes(confidence), [0] * 5, num_bins=4)
    _, mean = calibration_curve(np.ones(5), confidence, n_bins=4)
    assert mean.tolist() == [0.5, (0.625 + 0.75) / 2, (0.875 + 1.0) / 2]
    assert curve.confidence[1:].tolist() == mean.tolist()


def test_calibration_curve_edges_are_rounded_off_k_over_b():
    # Edge 5 of 6 is below 5/6 there, so that 5/6 falls out of the bin (4/6, 5/6].
    confidence = np.array([0.75, 5 / 6])
    assert np.linspace(0, 1, 7)[5] < 5 / 6
    _, mean = calibration_curve([1, 1], confidence, n_bins=6)
    assert len(mean) == 2
    curve = reliability_curve(two_classes(confidence), [0, 0], num_bins=6)
    assert curve.count.tolist() == [0, 0, 0, 0, 2, 0]


# Selective prediction


def test_no_other_library_has_aurc():
    names = [*dir(torch_metrics), *dir(sklearn.metrics), *dir(netcal.metrics), *dir(relplot)]
    assert not [name for name in names if re.search("aurc|risk|coverage_curve|selective", name)]


# OOD metrics


def test_ood_metrics_of_scikit_learn():
    id_scores, ood_scores = scores()
    values = ood_metrics(id_scores, ood_scores)
    both = np.concatenate([id_scores, ood_scores])
    is_ood = np.repeat([0, 1], [len(id_scores), len(ood_scores)])
    assert values.auroc == pytest.approx(sklearn.metrics.roc_auc_score(is_ood, both))
    precision = sklearn.metrics.average_precision_score
    assert values.aupr_out == pytest.approx(precision(is_ood, both))
    assert values.aupr_in == pytest.approx(precision(1 - is_ood, -both))
    fpr, tpr, thresholds = sklearn.metrics.roc_curve(is_ood, both, drop_intermediate=False)
    assert values.fpr95 == pytest.approx(fpr[np.argmax(tpr >= 0.95)])
    curve = roc_curve(id_scores, ood_scores)
    for ours, theirs in ((curve.fpr, fpr), (curve.tpr, tpr), (curve.thresholds, thresholds)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-15)
    fpr, tpr, _ = sklearn.metrics.roc_curve(1 - is_ood, -both, drop_intermediate=False)
    assert values.fpr95_in == pytest.approx(fpr[np.argmax(tpr >= 0.95)])


def test_the_trapezoid_under_precision_and_recall_is_not_average_precision():
    id_scores, ood_scores = scores()
    both = np.concatenate([id_scores, ood_scores])
    is_ood = np.repeat([0, 1], [len(id_scores), len(ood_scores)])
    precision, recall, _ = sklearn.metrics.precision_recall_curve(is_ood, both)
    area = sklearn.metrics.auc(recall, precision)
    assert area != pytest.approx(ood_metrics(id_scores, ood_scores).aupr_out, rel=1e-2)


def test_roc_curve_drops_the_point_of_fpr95_by_default():
    same = np.arange(100.0)
    is_ood = np.repeat([0, 1], 100)
    fpr, tpr, _ = sklearn.metrics.roc_curve(is_ood, np.tile(same, 2))
    assert fpr[np.argmax(tpr >= 0.95)] == 1.0
    assert ood_metrics(same, same).fpr95 == 0.95


def test_single_classes_are_no_error_elsewhere():
    with pytest.warns(UndefinedMetricWarning, match="Only one class"):
        assert math.isnan(sklearn.metrics.roc_auc_score([1, 1], [0.2, 0.3]))
    with pytest.warns(UserWarning, match="No negative samples"):
        value = torch_metrics.binary_auroc(torch.tensor([0.2, 0.3]), torch.tensor([1, 1]))
    assert float(value) == 0.0
    with pytest.raises(ValueError, match="id_scores is empty"):
        ood_metrics([], [0.2, 0.3])


def test_ood_metrics_of_torchmetrics_for_scores_between_0_and_1():
    id_scores, ood_scores = scores()
    both = torch.tensor(np.concatenate([id_scores, ood_scores]))
    is_ood = torch.tensor(np.repeat([0, 1], [len(id_scores), len(ood_scores)]))
    values = ood_metrics(id_scores, ood_scores)
    assert float(torch_metrics.binary_auroc(both, is_ood)) == pytest.approx(values.auroc, rel=1e-6)
    out = torch_metrics.binary_average_precision(both, is_ood)
    assert float(out) == pytest.approx(values.aupr_out, rel=1e-6)
    inside = torch_metrics.binary_average_precision(1.0 - both, 1 - is_ood)
    assert float(inside) == pytest.approx(values.aupr_in, rel=1e-6)


def test_torchmetrics_ties_large_scores():
    both, is_ood = torch.tensor([40.0, 50.0]), torch.tensor([0, 1])
    assert float(torch_metrics.binary_auroc(both, is_ood)) == 0.5
    assert ood_metrics([40.0], [50.0]).auroc == 1.0
