from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_reference import reproducible
from scipy import integrate, stats
from torch.nn.functional import gaussian_nll_loss
from torchmetrics.functional import mean_squared_error

from bbnn_uq.metrics.regression import (
    crps_gaussian,
    crps_gaussian_kernel,
    gaussian_nll,
    gaussian_nll_kernel,
    interval_coverage,
    interval_coverage_kernel,
    mse,
    mse_kernel,
    rmse,
    rmse_kernel,
    sharpness,
    sharpness_kernel,
)
from bbnn_uq.metrics.regression_calibration import (
    interval_calibration_curve,
    regression_calibration_error,
    regression_calibration_error_kernel,
)

# Name -> metric and kernel of (mean, std, targets).
METRICS = {
    "mse": (lambda m, s, y: mse(m, y), lambda m, s, y: mse_kernel(m, y)),
    "rmse": (lambda m, s, y: rmse(m, y), lambda m, s, y: rmse_kernel(m, y)),
    "nll": (gaussian_nll, gaussian_nll_kernel),
    "crps": (crps_gaussian, crps_gaussian_kernel),
    "coverage": (
        lambda m, s, y: interval_coverage(m, s, y, 0.6),
        lambda m, s, y: interval_coverage_kernel(m, s, y, level=0.6),
    ),
    "calibration": (regression_calibration_error, regression_calibration_error_kernel),
    "sharpness": (lambda m, s, y: sharpness(s), lambda m, s, y: sharpness_kernel(s)),
}
each_metric = pytest.mark.parametrize("name", METRICS)
shapes = pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])


def random_gaussians(shape, seed=0):
    """Means, standard deviations and targets that are somewhat wider than they say."""
    generator = np.random.default_rng(seed)
    mean, std = generator.normal(2, 1, shape), generator.uniform(0.5, 2, shape)
    return mean, std, generator.normal(mean, 1.3 * std)


def literal(function, mean, std, targets):
    """Mean over all targets of a function of each, one at a time."""
    rows = zip(*(x.ravel().tolist() for x in (mean, std, targets)), strict=True)
    return sum(function(*row) for row in rows) / mean.size


# --- against other libraries ----------------------------------------------------------------------


@shapes
def test_squared_error_equals_scikit_learn_and_torchmetrics(shape):
    mean, _, targets = random_gaussians(shape)
    expected = sklearn.metrics.mean_squared_error(targets, mean)
    assert mse(mean, targets) == pytest.approx(expected, rel=1e-13)
    assert rmse(mean, targets) == pytest.approx(math.sqrt(expected), rel=1e-13)
    other = mean_squared_error(torch.tensor(mean).ravel(), torch.tensor(targets).ravel())
    assert mse(mean, targets) == pytest.approx(other.item(), rel=1e-13)


@shapes
def test_nll_equals_scipy_and_torch_summed_over_dimensions(shape):
    mean, std, targets = random_gaussians(shape)
    expected = -stats.norm.logpdf(targets, mean, std).sum() / len(mean)
    assert gaussian_nll(mean, std, targets) == pytest.approx(expected, rel=1e-13)
    tensors = (torch.tensor(x) for x in (mean, targets, std**2))
    other = gaussian_nll_loss(*tensors, full=True, eps=1e-300, reduction="sum").item() / len(mean)
    assert gaussian_nll(mean, std, targets) == pytest.approx(other, rel=1e-13)


def crps_by_integration(mean, std, target):
    """The definition: integral of (F - [target <= t])^2, in two smooth pieces."""
    below, _ = integrate.quad(
        lambda t: stats.norm.cdf(t, mean, std) ** 2, mean - 40 * std, target, epsabs=1e-12
    )
    above, _ = integrate.quad(
        lambda t: stats.norm.sf(t, mean, std) ** 2, target, mean + 40 * std, epsabs=1e-12
    )
    return below + above


@pytest.mark.parametrize("std", [0.3, 1.0, 20.0])
@pytest.mark.parametrize("error", [0.0, 1e-9, -0.4, 3.0, -7.0])
def test_crps_equals_the_integral(std, error):
    value = crps_gaussian([5.0], [std], [5.0 + error])
    assert value == pytest.approx(crps_by_integration(5.0, std, 5.0 + error), rel=1e-8)


@shapes
def test_crps_is_the_expected_distance_less_half_the_spread(shape):
    # E|X - y| - E|X - X'| / 2 (Gneiting and Raftery 2007), with folded normal means from scipy.
    def score(mean, std, target):
        distance = stats.foldnorm.mean(abs(mean - target) / std, scale=std)
        return distance - stats.halfnorm.mean(scale=math.sqrt(2) * std) / 2

    arrays = random_gaussians(shape)
    assert crps_gaussian(*arrays) == pytest.approx(literal(score, *arrays), rel=1e-12)


@shapes
@pytest.mark.parametrize("level", [0.01, 0.5, 0.9, 0.999])
def test_coverage_equals_scipy_intervals(shape, level):
    def inside(mean, std, target):
        low, high = stats.norm.interval(level, mean, std)
        return low <= target <= high

    arrays = random_gaussians(shape)
    expected = literal(inside, *arrays)
    assert interval_coverage(*arrays, level) == pytest.approx(expected, rel=1e-13)


@shapes
def test_curve_equals_the_distribution_of_probability_integral_transforms(shape):
    mean, std, targets = random_gaussians(shape)
    transforms = stats.norm.cdf(targets, mean, std)
    levels = [0.001, 0.3, 0.5, 0.77, 0.999]
    curve = interval_calibration_curve(mean, std, targets, levels=levels)
    np.testing.assert_array_equal(curve.levels, levels)
    expected = [np.mean(transforms <= level) for level in levels]
    np.testing.assert_allclose(curve.observed, expected, rtol=1e-13)
    error = np.abs(curve.observed - levels).mean()
    found = regression_calibration_error(mean, std, targets, levels=levels)
    assert found == pytest.approx(error, rel=1e-13)


def test_default_levels_are_every_twentieth():
    arrays = random_gaussians((50,))
    curve = interval_calibration_curve(*arrays)
    np.testing.assert_array_equal(curve.levels, [k / 20 for k in range(1, 20)])
    assert regression_calibration_error(*arrays) == pytest.approx(
        np.abs(curve.observed - curve.levels).mean(), rel=1e-13
    )


@pytest.mark.parametrize("confidence_level", [0.5, 0.95])
def test_bands_are_wilsons(confidence_level):
    curve = interval_calibration_curve(
        *random_gaussians((50, 3)), confidence_level=confidence_level
    )
    z = stats.norm.ppf((1 + confidence_level) / 2)
    for end in (curve.low, curve.high):
        # The ends are the shares p from which the observed one is z standard errors away.
        distance = z * np.sqrt(end * (1 - end) / 150)
        np.testing.assert_allclose(np.abs(curve.observed - end), distance, atol=1e-12)
    assert np.all(curve.low <= curve.observed)
    assert np.all(curve.observed <= curve.high)


def test_sharpness_is_the_root_of_the_mean_variance():
    _, std, _ = random_gaussians((50, 3))
    assert sharpness(std) == pytest.approx(math.sqrt((std**2).mean()), rel=1e-13)


# --- what calibration should show -----------------------------------------------------------------


def test_true_gaussians_are_calibrated_and_narrow_ones_are_not():
    generator = np.random.default_rng(0)
    size = 20_000
    mean, std = generator.normal(size=size), generator.uniform(0.1, 3, size)
    targets = generator.normal(mean, std)
    standard_error = 0.5 / math.sqrt(size)  # at most, of each share
    assert regression_calibration_error(mean, std, targets) < 3 * standard_error
    assert abs(interval_coverage(mean, std, targets, 0.9) - 0.9) < 4 * standard_error
    assert sharpness(std) == pytest.approx(rmse(mean, targets), rel=0.03)
    curve = interval_calibration_curve(mean, std, targets)
    assert np.mean((curve.low <= curve.levels) & (curve.levels <= curve.high)) > 0.7

    # Half the true std: quantiles lie half as far out as they should.
    curve = interval_calibration_curve(mean, std / 2, targets)
    expected = stats.norm.cdf(stats.norm.ppf(curve.levels) / 2)
    np.testing.assert_allclose(curve.observed, expected, rtol=0, atol=4 * standard_error)
    assert regression_calibration_error(mean, std / 2, targets) == pytest.approx(
        np.abs(expected - curve.levels).mean(), abs=4 * standard_error
    )


def test_central_intervals_are_differences_of_the_curve():
    arrays = random_gaussians((500,))
    curve = interval_calibration_curve(*arrays, levels=[0.2, 0.8])
    difference = curve.observed[1] - curve.observed[0]
    assert interval_coverage(*arrays, 0.6) == pytest.approx(difference, rel=1e-12)


def test_crps_and_nll_are_least_for_the_true_gaussian():
    generator = np.random.default_rng(1)
    targets = generator.normal(3, 2, 5000)
    ones = np.ones(5000)
    for score in (crps_gaussian, gaussian_nll):
        best = score(3 * ones, 2 * ones, targets)
        for mean, std in ((3, 1.5), (3, 2.7), (2.5, 2), (3.5, 2)):
            assert best < score(mean * ones, std * ones, targets)


# --- edges ----------------------------------------------------------------------------------------


def test_crps_of_a_point_is_the_absolute_error():
    assert crps_gaussian([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 3.0, -3.0]) == 2.0
    for std in (5e-324, 1e-300, 1e-12):  # and comes near it without overflow
        assert crps_gaussian([1.0], [std], [3.0]) == pytest.approx(2.0, rel=1e-11)
        assert crps_gaussian([1.0], [std], [-3.0]) == pytest.approx(4.0, rel=1e-11)
    assert crps_gaussian([0.0], [1e300], [0.0]) == pytest.approx(
        (math.sqrt(2) - 1) / math.sqrt(math.pi) * 1e300
    )
    assert crps_gaussian([0.0], [1.0], [1e300]) == pytest.approx(1e300)


def test_what_leaves_the_range_of_floats_is_infinite():
    assert mse([0.0, 0.0], [1e200, 0.0]) == math.inf
    assert rmse([0.0], [1e200]) == math.inf
    assert gaussian_nll([0.0], [1e-200], [1.0]) == math.inf
    assert gaussian_nll([-1e308], [1.0], [1e308]) == math.inf
    assert crps_gaussian([-1e308], [0.0], [1e308]) == math.inf
    # Far in the tails, every level is left behind.
    assert interval_coverage([0.0], [1e-300], [1e300], 0.99) == 0.0
    assert regression_calibration_error([0.0], [1e-300], [1e300]) == pytest.approx(0.5)
    assert regression_calibration_error([0.0], [1e-300], [-1e300]) == pytest.approx(0.5)


def test_ends_belong_to_intervals():
    end = -stats.norm.ppf(0.05)
    assert interval_coverage([0.0, 0.0], [1.0, 1.0], [end, -end], 0.9) == 1.0
    beyond = np.nextafter(end, 9)
    assert interval_coverage([0.0, 0.0], [1.0, 1.0], [beyond, -beyond], 0.9) == 0.0
    assert interval_coverage([2.0, 2.0], [0.0, 0.0], [2.0, np.nextafter(2.0, 3)], 0.9) == 0.5
    at_the_median = interval_calibration_curve([1.0], [2.0], [1.0], levels=[0.4999, 0.5])
    np.testing.assert_array_equal(at_the_median.observed, [0.0, 1.0])


def test_one_target():
    arrays = [0.5], [2.0], [1.5]
    assert mse([0.5], [1.5]) == rmse([0.5], [1.5]) == 1.0
    assert gaussian_nll(*arrays) == pytest.approx(-stats.norm.logpdf(1.5, 0.5, 2.0))
    assert sharpness([2.0]) == 2.0
    curve = interval_calibration_curve(*arrays, levels=[0.6, 0.7])  # its transform is 0.69
    np.testing.assert_array_equal(curve.observed, [0.0, 1.0])
    assert (curve.low[0], curve.high[1]) == (0.0, 1.0)
    assert 0.0 < curve.high[0] < 1.0


@each_metric
def test_many_rows_are_as_good_as_few(name):
    # More than one block of rows, with dimensions, against the mean of parts.
    metric, _ = METRICS[name]
    arrays = random_gaussians((300_000, 3), seed=2)
    parts = [metric(*(x[rows] for x in arrays)) for rows in (slice(150_000), slice(150_000, None))]
    if name in ("rmse", "sharpness"):
        expected = math.sqrt(np.mean(np.square(parts)))
    elif name == "calibration":
        shares = stats.norm.cdf(arrays[2], arrays[0], arrays[1]).ravel()
        levels = np.arange(1, 20) / 20
        expected = np.abs([np.mean(shares <= p) - p for p in levels]).mean()
    else:
        expected = np.mean(parts)
    assert metric(*arrays) == pytest.approx(expected, rel=1e-11)


# --- what must change nothing, or scale -----------------------------------------------------------

few_gaussians = st.integers(0, 10_000).map(lambda seed: random_gaussians((7, 2), seed))


@each_metric
@reproducible
@given(few_gaussians, st.permutations(range(7)))
def test_the_order_of_the_data_does_not_count(name, arrays, order):
    metric, _ = METRICS[name]
    again = metric(*(x[order] for x in arrays))
    assert again == pytest.approx(metric(*arrays), rel=1e-13, abs=1e-15)


@each_metric
@reproducible
@given(few_gaussians, st.sampled_from([2.0**-40, 0.25, 8.0, 2.0**60]))
def test_units(name, arrays, unit):
    # Powers of two, which change no rounding.
    metric, _ = METRICS[name]
    value, scaled = metric(*arrays), metric(*(unit * x for x in arrays))
    expected = {
        "mse": value * unit**2,
        "nll": value + 2 * math.log(unit),
        "coverage": value,
        "calibration": value,
    }.get(name, value * unit)
    assert scaled == pytest.approx(expected, rel=1e-12, abs=1e-12)


@each_metric
def test_types_of_arrays_change_nothing(name):
    metric, _ = METRICS[name]
    generator = np.random.default_rng(3)
    arrays = [generator.integers(1, 9, (40, 2)) / 4 for _ in range(3)]  # exact in float16
    value = metric(*arrays)
    assert isinstance(value, float)
    assert metric(*(x.astype(np.float16) for x in arrays)) == value
    assert metric(*(torch.tensor(x, dtype=torch.bfloat16) for x in arrays)) == value
    assert metric(*(x.tolist() for x in arrays)) == value
    whole = [(4 * x).astype(np.int8) for x in arrays]
    assert metric(*whole) == metric(*(4 * x for x in arrays))


@each_metric
@shapes
def test_kernels_equal_the_metric_of_repeated_data(name, shape):
    metric, kernel = METRICS[name]
    arrays = random_gaussians(shape)
    weights = np.random.default_rng(1).multinomial(50, np.full(50, 1 / 50), size=25)
    weights[0], weights[1] = 0, 0
    weights[0, 7], weights[1, :2] = 50, 25  # one input alone, and two
    values = kernel(*arrays)(weights.astype(np.float64))
    expected = [metric(*(np.repeat(x, row, axis=0) for x in arrays)) for row in weights]
    np.testing.assert_allclose(values, expected, rtol=1e-11, atol=1e-12)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in METRICS if name != "sharpness"])
def test_shapes_and_values_are_checked(name):
    metric, _ = METRICS[name]
    mean, std, targets = random_gaussians((20, 3))
    with pytest.raises(ValueError, match=r"targets must have the shape of mean.*\(20, 2\)"):
        metric(mean, std, targets[:, :2])
    with pytest.raises(ValueError, match=r"\(N,\) or \(N, D\), got \(2, 2, 2\)"):
        metric(*np.ones((3, 2, 2, 2)))
    with pytest.raises(ValueError, match="mean must be finite"):
        metric(mean * np.nan, std, targets)
    with pytest.raises(TypeError, match="targets must hold real numbers"):
        metric(mean, std, targets + 0j)
    if "mse" not in name:
        with pytest.raises(ValueError, match=r"std must be .* of the mean's shape \(20, 3\)"):
            metric(mean, std[:, :2], targets)
        with pytest.raises(ValueError, match=r"std must be .* a smallest value of -"):
            metric(mean, -std, targets)


def test_a_std_of_zero_is_refused_where_it_has_no_meaning():
    mean, std, targets = random_gaussians((20,))
    std[3] = 0.0
    for metric in (gaussian_nll, regression_calibration_error, interval_calibration_curve):
        with pytest.raises(ValueError, match=r"std must be positive.*smallest value of 0"):
            metric(mean, std, targets)
    assert sharpness(np.zeros(3)) == 0.0


def test_sharpness_checks_its_argument():
    with pytest.raises(ValueError, match=r"std must be at least 0.*-1"):
        sharpness([1.0, -1.0])
    with pytest.raises(ValueError, match=r"shape \(N,\) or \(N, D\), got shape \(\)"):
        sharpness(1.0)


@pytest.mark.parametrize(
    "levels", [[], [0.5, 0.5], [0.0, 0.5], [0.5, 1.0], [0.6, 0.4], [[0.5]], 0.5]
)
def test_levels_are_checked(levels):
    for metric in (regression_calibration_error, interval_calibration_curve):
        with pytest.raises(ValueError, match="levels"):
            metric(*random_gaussians((20,)), levels=levels)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95, math.nan])
def test_a_level_outside_its_range_is_refused(level):
    with pytest.raises(ValueError, match="level must"):
        interval_coverage(*random_gaussians((20,)), level)
    with pytest.raises(ValueError, match="confidence_level must"):
        interval_calibration_curve(*random_gaussians((20,)), confidence_level=level)
