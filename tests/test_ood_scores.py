"""Scores that are fitted on in-distribution data, against scikit-learn, SciPy and pytorch-ood."""

import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import math
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.covariance import OAS, empirical_covariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from bbnn_uq import Predictive
from bbnn_uq.ood_scores import (
    CombinedScore,
    GaussianMixtureScore,
    MahalanobisScore,
    NearestNeighboursScore,
    OODScore,
    PredictiveScore,
    RelativeMahalanobisScore,
)

GAUSSIAN = [MahalanobisScore, RelativeMahalanobisScore, GaussianMixtureScore]


def data(seed=0, num_inputs=120, size=5, classes=3):
    """Correlated features of classes of unequal sizes, and some to score."""
    generator = np.random.default_rng(seed)
    labels = np.sort(generator.integers(classes, size=num_inputs))
    labels[: 2 * classes] = np.repeat(np.arange(classes), 2)
    mixing = generator.normal(size=(size, size))
    centres = 2.0 * generator.normal(size=(classes, size))
    features = generator.normal(size=(num_inputs, size)) @ mixing + centres[labels]
    return features, labels, 3.0 * generator.normal(size=(40, size))


def covariance_of(deviations, shrinkage):
    if not shrinkage:
        return empirical_covariance(deviations, assume_centered=True)
    return OAS(assume_centered=True, store_precision=False).fit(deviations).covariance_


def distance(x, mean, covariance):
    return (x - mean) @ np.linalg.solve(covariance, x - mean)


def reference_mahalanobis(features, labels, inputs, shrinkage, *, relative=False):
    means = {c: features[labels == c].mean(axis=0) for c in np.unique(labels)}
    within = covariance_of(features - np.stack([means[c] for c in labels]), shrinkage)
    nearest = [min(distance(x, mean, within) for mean in means.values()) for x in inputs]
    if not relative:
        return np.array(nearest)
    mean = features.mean(axis=0)
    whole = covariance_of(features - mean, shrinkage)
    return np.array(nearest) - [distance(x, mean, whole) for x in inputs]


def reference_mixture(features, labels, inputs, shrinkage):
    logs = []
    for c in np.unique(labels):
        own = features[labels == c]
        covariance = covariance_of(own - own.mean(axis=0), shrinkage)
        density = multivariate_normal(own.mean(axis=0), covariance)
        logs.append(np.log(len(own) / len(features)) + density.logpdf(inputs))
    return -logsumexp(logs, axis=0)


def reference_neighbours(features, inputs, k):
    def unit(x):
        return x / np.sqrt((x**2).sum()) if x.any() else x

    bank = [unit(f) for f in features]
    return [sorted(np.sqrt(((unit(x) - z) ** 2).sum()) for z in bank)[k - 1] for x in inputs]


@pytest.mark.parametrize("shrinkage", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_gaussian_scores_equal_scikit_learn_and_scipy(seed, shrinkage):
    features, labels, inputs = data(seed, size=4 + seed)
    expected = {
        MahalanobisScore: reference_mahalanobis(features, labels, inputs, shrinkage),
        RelativeMahalanobisScore: reference_mahalanobis(
            features, labels, inputs, shrinkage, relative=True
        ),
        GaussianMixtureScore: reference_mixture(features, labels, inputs, shrinkage),
    }
    for kind, values in expected.items():
        score = kind(shrinkage=shrinkage)
        assert score.fit(features, labels) is score
        np.testing.assert_allclose(score.score(inputs), values, rtol=1e-9)
        assert isinstance(score, OODScore)


def test_mahalanobis_equals_linear_discriminant_analysis():
    features, labels, inputs = data()
    reference = LinearDiscriminantAnalysis(store_covariance=True).fit(features, labels)
    expected = [
        min(distance(x, mean, reference.covariance_) for mean in reference.means_) for x in inputs
    ]
    score = MahalanobisScore(shrinkage=False).fit(features, labels)
    np.testing.assert_allclose(score.score(inputs), expected, rtol=1e-9)


class Anything(type):
    """A class that has any attribute, and can be inherited from."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name, (), {})


class Torchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision and all its modules, which hold anything and do nothing."""

    def find_spec(self, fullname, path, target=None):
        if fullname.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def exec_module(self, module):
        module.__getattr__ = Anything(module.__name__, (), {}).__getattr__


@pytest.fixture
def detectors(monkeypatch):
    """pytorch-ood's detectors, which import torchvision for what is not used here."""
    if importlib.util.find_spec("pytorch_ood") is None:
        pytest.skip("pytorch-ood of tests/oracles.txt is not installed")
    loaded = set(sys.modules)
    monkeypatch.setattr(sys, "meta_path", [Torchvision(), *sys.meta_path])
    try:
        with warnings.catch_warnings(action="ignore"):
            module = importlib.import_module("pytorch_ood.detector")
        yield module
    finally:
        for name in set(sys.modules) - loaded:
            if name.startswith(("pytorch_ood", "torchvision")):
                del sys.modules[name]


def test_scores_equal_pytorch_ood(detectors):
    features, labels, inputs = data(num_inputs=400)
    tensors = [torch.tensor(each) for each in (features, labels, inputs)]
    for kind, theirs, factor in (
        (MahalanobisScore, detectors.Mahalanobis, 2.0),  # they halve the squared distance
        (RelativeMahalanobisScore, detectors.RMD, 1.0),
    ):
        detector = theirs(None)
        # Their sum over inputs is not divided by N, and gets a ridge of 1e-6, in float32.
        detector.fit_features(tensors[0].float(), tensors[1])
        expected = factor * len(features) * detector.predict_features(tensors[2].float()).numpy()
        found = kind(shrinkage=False).fit(features, labels).score(inputs)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("k", [1, 3, 120])
def test_neighbours_equal_brute_force(k):
    features, labels, inputs = data()
    inputs[0] = 0.0
    features[5] = 0.0
    score = NearestNeighboursScore(k).fit(features)
    np.testing.assert_allclose(
        score.score(inputs), reference_neighbours(features, inputs, k), atol=1e-7
    )
    # Only directions count, and labels do not.
    again = NearestNeighboursScore(k).fit(7.0 * features, labels)
    np.testing.assert_allclose(again.score(0.1 * inputs), score.score(inputs), atol=1e-7)


def test_a_smaller_bank_is_a_sample_without_replacement():
    features, _, inputs = data()
    whole = NearestNeighboursScore(3).fit(features).score(inputs)
    for size in (120, 500):
        score = NearestNeighboursScore(3, bank_size=size).fit(features)
        np.testing.assert_array_equal(score.score(inputs), whole)
    farthest = NearestNeighboursScore(60, bank_size=60, seed=4).fit(features)
    # The bank's own inputs, and no others, have a neighbour at distance 0: 60 different ones.
    nearest = NearestNeighboursScore(1, bank_size=60, seed=4).fit(features)
    assert np.sum(nearest.score(features) < 1e-6) == 60
    other = NearestNeighboursScore(60, bank_size=60, seed=5).fit(features)
    assert not np.array_equal(farthest.score(inputs), other.score(inputs))


@pytest.mark.parametrize("size", [1, 4])
def test_training_inputs_are_at_distance_d_on_average(size):
    # tr(S⁻¹ S) = D, exactly, when S is the covariance of these inputs themselves.
    features = np.random.default_rng(0).gamma(2.0, size=(50, size))
    score = MahalanobisScore(shrinkage=False).fit(features, np.zeros(50, int))
    assert score.score(features).mean() == pytest.approx(size, rel=1e-9)


def test_known_gaussians():
    # Two unit Gaussians at ±5 in one of three dimensions: Σ = I, and Σ₀ has 26 in the first.
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200_000)
    features = generator.normal(size=(400_000, 3))
    features[:, 0] += 10.0 * labels - 5.0
    x = np.array([[5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [5.0, 0.0, 4.0]])
    near, overall = np.array([0.0, 25.0, 16.0]), np.array([25 / 26, 0.0, 25 / 26 + 16.0])
    log_normal = 1.5 * np.log(2 * np.pi)
    mixture = log_normal + np.array([np.log(2), 12.5, np.log(2) + 8.0])
    for kind, expected in (
        (MahalanobisScore, near),
        (RelativeMahalanobisScore, near - overall),
        (GaussianMixtureScore, mixture),
    ):
        # A standard error of a mean is 0.0022, which moves 16 by up to 2 · 4 · 0.0022.
        np.testing.assert_allclose(kind().fit(features, labels).score(x), expected, atol=0.06)


@pytest.mark.parametrize("seed", range(4))
def test_affine_maps_change_nothing_without_shrinkage(seed):
    features, labels, inputs = data(seed)
    generator = np.random.default_rng(100 + seed)
    size = features.shape[1]
    matrix, shift = generator.normal(size=(size, size)), 10.0 * generator.normal(size=size)
    shifts = (0.0, 0.0, np.linalg.slogdet(matrix)[1])  # a density also changes its unit
    for kind, added in zip(GAUSSIAN, shifts, strict=True):
        before = kind(shrinkage=False).fit(features, labels).score(inputs)
        after = kind(shrinkage=False).fit(features @ matrix + shift, labels)
        np.testing.assert_allclose(
            after.score(inputs @ matrix + shift), before + added, rtol=1e-7, atol=1e-7
        )


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.permutations(range(30)), st.permutations(range(3)))
def test_order_of_inputs_and_names_of_classes_do_not_matter(order, names):
    features, labels, inputs = data(num_inputs=30)
    order, names = np.array(order), 3 * np.array(names)  # gaps between numbers too
    for score, again in [
        *((kind(), kind()) for kind in GAUSSIAN),
        (NearestNeighboursScore(4), NearestNeighboursScore(4)),
    ]:
        expected = score.fit(features, labels).score(inputs)
        again.fit(features[order], names[labels[order]])
        found = again.score(inputs[::-1])[::-1]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_dead_units_and_few_inputs_are_no_obstacle():
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(24, 40)), np.arange(24) % 3
    features[:, ::2] = 0.0  # units that never fire
    features[labels == 2] = features[2]  # and a class that they do not tell apart
    inputs = features[:5].copy()
    inputs[3:, 0] = 5.0  # a dead unit fires
    for kind in GAUSSIAN:
        found = kind().fit(features, labels).score(inputs)
        assert np.isfinite(found).all()
        assert found[3] > found[0] + 1.0
        assert found[4] > found[1] + 1.0


def test_shrinkage_is_the_oracle_approximating_one():
    from bbnn_uq.ood_scores._gaussians import shrunk

    generator = np.random.default_rng(0)
    for count, size in [(2, 5), (10, 3), (8, 30), (500, 20), (40, 1)]:
        x = generator.normal(size=(count, size)) * np.exp(generator.normal(size=size))
        empirical = x.T @ x / count
        expected = OAS(assume_centered=True).fit(x).covariance_
        np.testing.assert_allclose(shrunk(empirical, count, 1e-30), expected, rtol=1e-9)
    for multiple in (0.0, 1 / 3):  # nothing to shrink, whatever rounding says
        found = shrunk(multiple * np.eye(3), 10, 0.01)
        np.testing.assert_allclose(found, max(multiple, 0.01) * np.eye(3), rtol=1e-12)


@pytest.mark.parametrize("kind", [*GAUSSIAN, lambda: NearestNeighboursScore(5)])
def test_networks_are_fitted_apart_and_averaged(kind):
    generator = np.random.default_rng(0)
    features, labels, inputs = data()
    maps = [generator.normal(size=(5, 5)) for _ in range(3)]
    fitted = kind().fit(np.stack([features @ m for m in maps]), labels)
    found = fitted.score(np.stack([inputs @ m for m in maps]))
    each = [kind().fit(features @ m, labels).score(inputs @ m) for m in maps]
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-12)
    swapped = fitted.score(np.stack([inputs @ m for m in maps[::-1]]))
    assert not np.allclose(swapped, found)
    with pytest.raises(ValueError, match=r"1 networks, .* on those of 3"):
        fitted.score(inputs)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float16),
        lambda x: x.astype(np.float32).tolist(),
        lambda x: torch.tensor(x, dtype=torch.bfloat16, requires_grad=True),
        lambda x: x.astype(np.int64),
    ],
    ids=["float16", "list", "bfloat16", "int64"],
)
@pytest.mark.parametrize("label_type", [np.uint8, np.int32, float, list, torch.tensor])
def test_any_container_gives_the_float64_answer(convert, label_type):
    generator = np.random.default_rng(0)
    features = generator.integers(-6, 7, size=(60, 3)).astype(float)
    labels = np.arange(60) % 3
    inputs = generator.integers(-9, 10, size=(7, 3)).astype(float)
    typed = label_type(labels) if label_type in (list, torch.tensor) else labels.astype(label_type)
    for kind in (*GAUSSIAN, lambda: NearestNeighboursScore(4)):
        expected = kind().fit(features, labels).score(inputs)
        found = kind().fit(convert(features), typed).score(convert(inputs))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float64


def test_blocks_do_not_show(monkeypatch):
    features, labels, inputs = data()
    scores = [*(kind() for kind in GAUSSIAN), NearestNeighboursScore(5)]
    expected = [score.fit(features, labels).score(inputs) for score in scores]
    monkeypatch.setattr("bbnn_uq._rows._BLOCK_ENTRIES", 15)
    for score, values in zip(scores, expected, strict=True):
        np.testing.assert_allclose(score.fit(features, labels).score(inputs), values, rtol=1e-9)


@pytest.mark.parametrize("kind", GAUSSIAN)
@pytest.mark.parametrize(
    ("features", "labels", "error", "match"),
    [
        (np.eye(4), None, ValueError, "labels is missing: .*Score is fitted by class"),
        (np.eye(4), [0, 0, 1], ValueError, r"labels must have shape \(4,\)"),
        (np.eye(4), [0, 0, -1, -1], ValueError, r"labels must lie in \[0, 1\)"),
        (np.eye(4), [0, 0, 0.5, 0.5], ValueError, "labels must be integer class numbers"),
        (np.eye(4), [0, 0, 7, 1], ValueError, "single input of class 1, .* at least 2"),
        (np.ones((4, 3)) / 3, [0, 0, 1, 1], ValueError, "same features for all inputs"),
        (np.full((4, 3), np.nan), [0, 0, 1, 1], ValueError, "outputs must be finite"),
        (np.ones(4), [0, 0, 1, 1], ValueError, r"shape \(N, D\), or \(S, N, D\)"),
        (np.empty((0, 3)), [], ValueError, r"shape \(N, D\), or \(S, N, D\)"),
        (np.full((4, 3), "a"), [0, 0, 1, 1], TypeError, "outputs must hold real numbers"),
        (np.stack([np.eye(4), np.full((4, 4), np.inf)]), [0, 0, 1, 1], ValueError, r"outputs\[1\]"),
    ],
)
def test_what_cannot_be_fitted_is_named(kind, features, labels, error, match):
    with pytest.raises(error, match=match):
        kind().fit(features, labels)


@pytest.mark.parametrize("kind", GAUSSIAN)
def test_a_singular_covariance_without_shrinkage_is_an_error(kind):
    features, labels, _ = data()
    features[:, 3] = features[:, 0] - 2.0 * features[:, 1]
    with pytest.raises(ValueError, match=r"singular \(rank 4\).* use shrinkage=True"):
        kind(shrinkage=False).fit(features, labels)
    assert np.isfinite(kind().fit(features, labels).score(features)).all()


def test_other_wrong_arguments_are_named():
    features, labels, _ = data()
    with pytest.raises(ValueError, match=r"single class, .* use MahalanobisScore"):
        RelativeMahalanobisScore().fit(features, np.zeros(len(features), int))
    with pytest.raises(ValueError, match="k=121 needs as many training inputs, got 120"):
        NearestNeighboursScore(121).fit(features)
    with pytest.raises(ValueError, match="k=9 needs as many training inputs, got 8"):
        NearestNeighboursScore(9, bank_size=8).fit(features)
    with pytest.raises(ValueError, match=r"outputs has 4 features, .* fitted on 5"):
        MahalanobisScore().fit(features, labels).score(features[:, :4])
    with pytest.raises(TypeError, match="shrinkage must be True or False"):
        MahalanobisScore(shrinkage=0.1)
    for options in ({"k": 0}, {"bank_size": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            NearestNeighboursScore(**options)


def test_a_predictive_has_its_scores_by_name():
    samples = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 6))
    predictive = Predictive.from_samples(samples)
    for name in ("entropy", "mutual_information@3", "confidence"):
        score = PredictiveScore(name)
        np.testing.assert_array_equal(
            score.fit(predictive).score(predictive), predictive.score(name)
        )
        assert isinstance(score, OODScore)
    with pytest.raises(ValueError, match="did you mean 'entropy'"):
        PredictiveScore("entropie")
    with pytest.raises(ValueError, match="needs logits"):
        PredictiveScore("energy").fit(predictive)
    with pytest.raises(TypeError, match="outputs must be a Predictive, got ndarray"):
        PredictiveScore("entropy").score(samples[0])


def scores_of(correlation, seed=0, count=4000):
    """Scores by name whose correlations over these inputs are exactly the ones given."""
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(len(correlation), count))
    z -= z.mean(axis=1, keepdims=True)
    z = np.linalg.solve(np.linalg.cholesky(z @ z.T / count), z)
    z = np.linalg.cholesky(np.array(correlation)) @ z
    return dict(zip("abcdef", z, strict=False))


def test_independent_scores_weigh_alike_and_equal_ones_share():
    alike = CombinedScore().fit(scores_of(np.eye(4))).weights
    assert alike == pytest.approx(dict.fromkeys("abcd", 0.5))  # 4 · 0.5² = 1
    scores = scores_of(np.eye(2))
    weights = CombinedScore().fit(scores | {"again": 10.0 * scores["a"] - 3.0}).weights
    assert weights["a"] == pytest.approx(weights["again"])
    # Shrinkage, of 1 / n about, is all that tells the pair from one score.
    assert weights["a"] + weights["again"] == pytest.approx(weights["b"], rel=0.01)


def test_weights_are_those_of_generalised_least_squares():
    correlation = [[1.0, 0.5, 0.2], [0.5, 1.0, 0.0], [0.2, 0.0, 1.0]]
    direction = np.linalg.solve(correlation, np.ones(3))
    expected = direction / np.sqrt(direction @ np.ones(3))  # wᵀ R w = 1ᵀ R⁻¹ 1
    found = CombinedScore().fit(scores_of(correlation, count=400_000)).weights
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_weights_stand_out_more(seed):
    # The largest Σ w / √(wᵀ R w) over w ≥ 0, by a general optimiser from several starts.
    generator = np.random.default_rng(seed)
    loadings = generator.normal(size=(4, 2))
    covariance = loadings @ loadings.T + 0.1 * np.eye(4)
    spread = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(spread, spread)
    found = CombinedScore().fit(scores_of(correlation, count=100_000)).weights
    weights = np.array(list(found.values()))
    assert (weights >= 0.0).all()

    def negated(w):
        return -w.sum() / np.sqrt(w @ correlation @ w)

    best = min(
        minimize(negated, start, bounds=[(0.0, None)] * 4).fun
        for start in generator.uniform(0.1, 1.0, size=(5, 4))
    )
    assert negated(weights) == pytest.approx(best, rel=1e-3)


def test_a_weight_that_would_be_negative_is_0():
    # R⁻¹ 1 is (2.5, −1.07, …): a is less noisy in b, and b would be subtracted.
    correlation = [[1.0, 0.8, 0.0], [0.8, 1.0, 0.7], [0.0, 0.7, 1.0]]
    assert np.linalg.eigvalsh(correlation)[0] < 0  # no correlations at all: take milder ones
    correlation = [[1.0, 0.69, 0.0], [0.69, 1.0, 0.69], [0.0, 0.69, 1.0]]
    assert np.linalg.solve(correlation, np.ones(3))[1] < 0
    weights = CombinedScore().fit(scores_of(correlation)).weights
    assert weights["b"] == 0.0
    assert weights["a"] == pytest.approx(weights["c"]) == pytest.approx(np.sqrt(0.5))


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    st.permutations("abc"),
    st.lists(st.floats(0.01, 100.0), min_size=3, max_size=3),
    st.integers(0, 9),
)
def test_units_and_order_do_not_matter_and_variance_is_one(order, scales, seed):
    generator = np.random.default_rng(seed)
    mixing = generator.uniform(size=(3, 3))
    scores = dict(zip("abc", mixing @ generator.gamma(1.0, size=(3, 50)), strict=True))
    combined = CombinedScore().fit(scores)
    whole = combined.score(scores)
    assert whole.mean() == pytest.approx(0.0, abs=1e-12)
    assert whole.std() == pytest.approx(1.0, rel=1e-12)
    changed = {n: s * scores[n] + s for n, s in zip(order, scales, strict=True)}
    again = CombinedScore().fit(changed)
    assert list(again.weights) == list(order)
    assert again.weights == pytest.approx(combined.weights, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(again.score(changed), whole, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(combined.score(dict(reversed(scores.items()))), whole, rtol=1e-12)


def test_an_equal_shift_is_seen_best_by_the_combination():
    correlation = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]])
    inside = scores_of(correlation)
    combined = CombinedScore().fit(inside)
    outside = {name: values + 0.7 for name, values in inside.items()}
    shift = (combined.score(outside) - combined.score(inside)).mean()
    best = np.sqrt(np.linalg.solve(correlation, np.ones(3)).sum())
    assert shift == pytest.approx(0.7 * best, rel=1e-3)
    plain = 3.0 / np.sqrt(correlation.sum())
    assert best > 1.02 * plain > 1.02 * 1.02  # a plain sum sees it less, one score even less


def test_constant_scores_have_no_weight():
    scores = scores_of(np.eye(2))
    constant = np.full(len(scores["a"]), 0.1)
    combined = CombinedScore().fit(scores | {"constant": constant})
    assert combined.weights == pytest.approx({"a": 0.5**0.5, "b": 0.5**0.5, "constant": 0.0})
    alone = CombinedScore().fit(scores).score(scores)
    np.testing.assert_allclose(combined.score(scores | {"constant": 9.0 + constant}), alone)


def test_float16_scores_give_the_float64_answer():
    grid = np.random.default_rng(0).integers(0, 64, size=(2, 50)) / 8
    scores = {"a": grid[0], "b": grid[0] + grid[1]}
    short = {name: torch.tensor(values).half() for name, values in scores.items()}
    combined = CombinedScore().fit(scores)
    assert CombinedScore().fit(short).weights == combined.weights
    np.testing.assert_array_equal(combined.score(short), combined.score(scores))


@pytest.mark.parametrize(
    ("scores", "error", "match"),
    [
        ({}, ValueError, "at least one score"),
        ([1.0, 2.0], TypeError, "must map names to scores"),
        ({"a": [1.0, 2.0], "b": [1.0]}, ValueError, r"same inputs, got \[1, 2\]"),
        ({"a": [1.0]}, ValueError, "needs at least 2"),
        ({"a": [1.0, np.nan]}, ValueError, r"outputs\['a'\] must be finite"),
        ({"a": [[1.0, 2.0]]}, ValueError, r"outputs\['a'\] must have shape \(N,\)"),
        ({"a": [0.1] * 3, "b": [2.0] * 3}, ValueError, "only scores that are constant"),
        ({"a": [1.0, 2.0, 4.0], "b": [4.0, 3.0, 1.0]}, ValueError, "cancel .* negate"),
    ],
)
def test_scores_that_cannot_be_combined_are_named(scores, error, match):
    with pytest.raises(error, match=match):
        CombinedScore().fit(scores)


def test_scores_have_the_names_of_fit():
    combined = CombinedScore().fit(scores_of(np.eye(2)))
    for names in ("a", "abc", "ac"):
        with pytest.raises(ValueError, match="must hold the scores a, b, got"):
            combined.score({name: [1.0] for name in names})


def fitted_scores():
    features, labels, inputs = data()
    stacked, more = np.stack([features, -features]), np.stack([inputs, inputs])
    predictive = Predictive.from_probs([[0.2, 0.8]])
    by_name = scores_of(np.eye(3))
    yield from (
        (score.fit(stacked, labels), more)
        for score in (
            MahalanobisScore(),
            RelativeMahalanobisScore(shrinkage=False),
            GaussianMixtureScore(),
            NearestNeighboursScore(7, bank_size=60, seed=3),
        )
    )
    yield PredictiveScore("entropy").fit(predictive), predictive
    yield CombinedScore().fit(by_name), by_name


@pytest.mark.parametrize("number", range(6))
def test_a_file_holds_all_of_a_score(number, tmp_path):
    score, outputs = next(itertools.islice(fitted_scores(), number, None))
    path = tmp_path / "score.npz"
    score.save(path)
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    loaded = type(score).load(path)
    assert repr(loaded) == repr(score)
    np.testing.assert_array_equal(loaded.score(outputs), score.score(outputs))
    assert [file.name for file in tmp_path.iterdir()] == ["score.npz"]

    other = PredictiveScore if number != 4 else CombinedScore
    with pytest.raises(ValueError, match=f"holds a {type(score).__name__}, not a {other.__name__}"):
        other.load(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"is no file that .* wrote, or it is truncated"):
        type(score).load(path)
    Predictive.from_probs([[0.2, 0.8]]).save(path)
    with pytest.raises(ValueError, match=r"is no file that .* wrote"):
        type(score).load(path)


def test_a_damaged_score_is_not_loaded(tmp_path):
    path = tmp_path / "score.npz"
    for score, _ in fitted_scores():
        score.save(path)
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        for name in sorted(arrays.keys() - {"about"}):
            np.savez(path, **{key: value for key, value in arrays.items() if key != name})
            with pytest.raises(ValueError, match="is no file that"):
                type(score).load(path)
            np.savez(path, **(arrays | {name: arrays[name][None]}))
            with pytest.raises(ValueError, match="is no file that"):
                type(score).load(path)


@pytest.mark.parametrize("kind", [*GAUSSIAN, NearestNeighboursScore, CombinedScore])
def test_a_score_that_is_not_fitted_says_so(kind, tmp_path):
    with pytest.raises(ValueError, match="is not fitted; call fit with ID data first"):
        kind().score({"a": [1.0]} if kind is CombinedScore else np.eye(3))
    with pytest.raises(ValueError, match="is not fitted"):
        kind().save(tmp_path / "score.npz")
    assert not list(tmp_path.iterdir())


# --- scales and damage -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_neighbours_do_not_depend_on_the_scale(scale):
    bank, new = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 1.0], [-1.0, 0.0]])
    scores = NearestNeighboursScore(k=1).fit(bank * scale).score(new * scale)
    np.testing.assert_allclose(scores, [math.sqrt(2 - math.sqrt(2)), math.sqrt(2)])


def test_features_beyond_the_range_of_squares_are_refused():
    features = np.random.default_rng(0).normal(size=(8, 2)) * 1e200
    with pytest.raises(ValueError, match=r"features of up to .* divide them by a constant"):
        MahalanobisScore().fit(features, [0, 1] * 4)
    with pytest.raises(ValueError, match=r"outputs\['a'\] has a spread beyond the range"):
        CombinedScore().fit({"a": [1e300, 2e300, 3e300], "b": [1.0, 2.0, 4.0]})


@pytest.mark.parametrize(
    ("score", "change"),
    [
        (MahalanobisScore, lambda a: a | {"means": a["means"] * np.nan}),
        (MahalanobisScore, lambda a: a | {"factor": a["factor"][..., :-1]}),
        (MahalanobisScore, lambda a: a | {"factor": a["factor"] * 0.0}),
        (GaussianMixtureScore, lambda a: a | {"log_weights": a["log_weights"][:, :-1]}),
        (GaussianMixtureScore, lambda a: {key: value[:0] for key, value in a.items()}),
        (RelativeMahalanobisScore, lambda a: a | {"overall_mean": a["overall_mean"][..., :1]}),
    ],
)
def test_damaged_arrays_are_refused(score, change, tmp_path):
    features = np.random.default_rng(0).normal(size=(12, 2))
    score().fit(features, [0, 1] * 6).save(tmp_path / "score.npz")
    with np.load(tmp_path / "score.npz") as file:
        arrays = {name: file[name] for name in file.files}
    about = {name: value for name, value in arrays.items() if value.ndim == 0}
    np.savez(
        tmp_path / "damaged.npz",
        **change({k: v for k, v in arrays.items() if k not in about}),
        **about,
    )
    with pytest.raises(ValueError, match="damaged"):
        score.load(tmp_path / "damaged.npz")
