from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from bbnn_uq.recalibration import (
    DirichletCalibration,
    IsotonicCalibration,
    TemperatureScaling,
    VectorScaling,
    isotonic,
)

reproducible = settings(derandomize=True, deadline=None, max_examples=25)

METHODS = [TemperatureScaling, VectorScaling, DirichletCalibration, IsotonicCalibration]
OF_CLASSES = METHODS[1:]

# A full map that no temperature can undo: classes are confused and their frequencies are off.
CONFUSION = np.array([[0.7, 0.2, 0.0], [-0.1, 0.5, 0.3], [0.0, 0.1, 0.9]])
SHIFT = np.array([0.4, -0.5, 0.1])


def data(seed, num_inputs=400, num_classes=3, temperature=2.0):
    """Probabilities, and labels drawn from them at ``temperature``: that is the one to find."""
    generator = np.random.default_rng(seed)
    logits = 3.0 * generator.normal(size=(num_inputs, num_classes))
    return softmax(logits, axis=1), draw(generator, softmax(logits / temperature, axis=1))


def confused_data(seed, num_inputs=1000):
    generator = np.random.default_rng(seed)
    probs = softmax(2.0 * generator.normal(size=(num_inputs, 3)), axis=1)
    return probs, draw(generator, softmax(np.log(probs) @ CONFUSION.T + SHIFT, axis=1))


def draw(generator, probs):
    below = probs.cumsum(axis=1) < generator.random((len(probs), 1))
    return below.sum(axis=1).clip(max=probs.shape[1] - 1)


def nll(probs, labels):
    with np.errstate(divide="ignore"):
        return -np.log(probs[np.arange(len(labels)), labels]).mean()


@st.composite
def hard_data(draw_from):
    """Probabilities on a grid of eighths, full of ties, zeros and ones, with 10 labels a class."""
    num_classes = draw_from(st.integers(2, 4))
    generator = np.random.default_rng(draw_from(st.integers(0, 10**6)))
    num_inputs = 10 * num_classes + draw_from(st.integers(0, 40))
    labels = generator.permutation(np.arange(num_inputs) % num_classes)
    probs = generator.multinomial(8, np.full(num_classes, 1 / num_classes), num_inputs) / 8
    if draw_from(st.booleans()):  # some confidence in the label
        share = draw_from(st.sampled_from([0.5, 1.0]))
        probs = (1 - share) * probs + share * np.eye(num_classes)[labels]
    return probs, labels


def fit_quietly(method, probs, labels):
    """The fit, or None where every label has probability 0."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".* labels have probability 0")
        try:
            return method().fit(probs, labels)
        except ValueError as error:
            assert "above 0" in str(error)  # noqa: PT017
            return None


# --- what all four promise


@pytest.mark.parametrize("method", METHODS)
@reproducible
@given(hard_data())
def test_never_worse_on_the_fitting_split_and_always_probabilities(method, case):
    probs, labels = case
    before = probs.copy()
    fitted = fit_quietly(method, probs, labels)
    if fitted is None:
        return
    result = fitted.transform(probs)
    assert np.array_equal(probs, before)
    assert result.dtype == np.float64
    assert result.min() >= 0.0
    assert np.allclose(result.sum(axis=1), 1.0, rtol=0, atol=1e-14)
    assert nll(result, labels) <= nll(probs, labels) + 1e-10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [data, confused_data])
def test_lowers_the_nll_of_new_inputs(method, make):
    probs, labels = make(1)
    new_probs, new_labels = make(2)
    after = nll(method().fit(probs, labels).transform(new_probs), new_labels)
    assert after < nll(new_probs, new_labels) - 0.02


@pytest.mark.parametrize("method", METHODS)
def test_leaves_calibrated_probabilities_nearly_as_they_are(method):
    probs, labels = data(3, num_inputs=4000, temperature=1.0)
    new_probs, new_labels = data(4, num_inputs=4000, temperature=1.0)
    after = nll(method().fit(probs, labels).transform(new_probs), new_labels)
    # Half a nat for each parameter over N is what a maximum likelihood fit costs; curves have some
    # tens of steps.
    assert after - nll(new_probs, new_labels) < 0.01


@pytest.mark.parametrize("method", METHODS)
def test_any_kind_of_array_will_do(method):
    probs, labels = data(5, num_inputs=120)
    probs = np.round((0.9 * probs + 0.1 / 3) * 256) / 256
    probs[:, 0] += 1.0 - probs.sum(axis=1)  # exact in float16
    expected = method().fit(probs, labels).transform(probs)
    for other in (probs.astype(np.float16), torch.tensor(probs).float(), probs.tolist()):
        for numbers in (labels.astype(np.uint8), torch.tensor(labels), labels.tolist()):
            assert np.array_equal(method().fit(other, numbers).transform(other), expected)
    frozen = probs.copy()
    frozen.flags.writeable = False
    assert np.array_equal(method().fit(frozen, labels).transform(frozen), expected)


@pytest.mark.parametrize("method", [*METHODS[:2], DirichletCalibration])
def test_order_of_inputs_and_numbering_of_classes_do_not_matter(method):
    options = {"off_diagonal_penalty": 1.0} if method is DirichletCalibration else {}
    probs, labels = confused_data(6)
    expected = method(**options).fit(probs, labels).transform(probs)
    inputs = np.random.default_rng(0).permutation(len(labels))
    classes = np.array([2, 0, 1])
    shuffled = method(**options).fit(probs[inputs][:, classes], np.argsort(classes)[labels[inputs]])
    result = shuffled.transform(probs[:, classes])
    assert np.allclose(result, expected[:, classes], rtol=0, atol=2e-4)


@pytest.mark.parametrize("method", METHODS)
def test_stored_as_json_and_read_again_it_does_the_same(method):
    probs, labels = confused_data(7)
    fitted = method().fit(probs, labels)
    values = json.loads(json.dumps(fitted.to_dict(), allow_nan=False))
    again = method.from_dict(values)
    assert np.array_equal(again.transform(probs), fitted.transform(probs))
    assert again.to_dict() == values
    with pytest.raises(ValueError, match="of method"):
        METHODS[METHODS.index(method) - 1].from_dict(values)
    for key in set(values) - {"method"}:
        with pytest.raises(ValueError, match=f"lack '{key}'"):
            method.from_dict({name: v for name, v in values.items() if name != key})


def test_damaged_values_are_refused():
    scaling = TemperatureScaling().fit(*data(8)).to_dict()
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="temperature must be"):
            TemperatureScaling.from_dict({**scaling, "temperature": temperature})
    vector = VectorScaling().fit(*data(8)).to_dict()
    with pytest.raises(ValueError, match=r"weights must have shape \(3,\)"):
        VectorScaling.from_dict({**vector, "weights": [1.0]})
    isotonic = IsotonicCalibration().fit(*data(8)).to_dict()
    with pytest.raises(ValueError, match="curves must be 3"):
        IsotonicCalibration.from_dict({**isotonic, "curves": []})


@pytest.mark.parametrize("method", METHODS)
def test_not_fitted_or_fitted_on_other_classes_says_so(method):
    recalibration = method()
    for use in (lambda: recalibration.transform([[0.5, 0.5]]), recalibration.to_dict):
        with pytest.raises(NotFittedError, match=r"call fit\(probs, labels\)") as caught:
            use()
        assert isinstance(caught.value, ValueError)
    recalibration.fit(*data(9))
    with pytest.raises(ValueError, match="probs must have 3 classes"):
        recalibration.transform([[0.5, 0.5]])


@pytest.mark.parametrize("method", METHODS)
def test_too_few_labels_are_refused_and_a_failed_fit_changes_nothing(method):
    probs, labels = data(10, num_inputs=90)
    order = np.argsort(labels, kind="stable")
    recalibration = method().fit(probs, labels)
    before = recalibration.transform(probs)
    if method in OF_CLASSES:
        advice = "take TemperatureScaling, which needs 10 inputs"
        with pytest.raises(ValueError, match=f"30 for 3 classes, got 29; .* {advice}"):
            recalibration.fit(probs[:29], labels[:29])
        present = order[: np.sum(labels < 2)]
        with pytest.raises(ValueError, match=f"got none of class 2; .* {advice}"):
            recalibration.fit(probs[present], labels[present])
        method().fit(probs[:30], labels[:30])  # enough
    else:
        with pytest.raises(ValueError, match="at least 10 inputs"):
            recalibration.fit(probs[:9], labels[:9])
        recalibration.fit(probs[:10], labels[:10])
        recalibration.fit(probs, labels)
    for wrong in ([0] * 90 + [1], [5] * 90, [0.5] * 90):
        with pytest.raises(ValueError, match="labels must"):
            recalibration.fit(probs, wrong)
    with pytest.raises(ValueError, match="pass probabilities, not logits"):
        recalibration.fit(np.log(probs), labels)
    assert np.array_equal(recalibration.transform(probs), before)


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_several_blocks_are_the_rows_of_each(method):
    fitted = method().fit(*data(11))
    probs = np.tile(data(12)[0], (500, 1))  # 200,000 rows
    expected = fitted.transform(probs[:400])
    assert np.allclose(fitted.transform(probs), np.tile(expected, (500, 1)), rtol=0, atol=1e-14)


# --- temperature


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("true_temperature", [0.3, 1.0, 4.0])
def test_temperature_is_the_minimum_that_a_search_finds(seed, true_temperature):
    probs, labels = data(seed, temperature=true_temperature)
    logs = np.log(probs)

    def loss(log_temperature):
        scaled = log_softmax(logs / math.exp(log_temperature), axis=1)
        return -scaled[np.arange(len(labels)), labels].mean()

    grid = np.linspace(math.log(0.05), math.log(100.0), 400)
    nearest = min(range(400), key=lambda k: loss(grid[k]))
    best = minimize_scalar(
        loss,
        bounds=(grid[max(nearest - 1, 0)], grid[min(nearest + 1, 399)]),
        method="bounded",
        options={"xatol": 1e-10},
    )
    found = TemperatureScaling().fit(probs, labels).temperature_
    assert found == pytest.approx(math.exp(best.x), rel=1e-6)
    # The derivative by 1/T: mean log-probability expected, minus found.
    scaled = softmax(logs / found, axis=1)
    slope = (scaled * logs).sum(axis=1).mean() - logs[np.arange(len(labels)), labels].mean()
    assert abs(slope) < 1e-9


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its probabilities."""

    def fit(self, inputs, labels):
        self.classes_ = np.unique(labels)
        return self

    def predict_proba(self, inputs):
        return inputs

    def predict(self, inputs):
        return inputs.argmax(axis=1)


def test_temperature_equals_scikit_learn():
    probs, labels = data(13, num_inputs=1000)
    theirs = CalibratedClassifierCV(
        FrozenEstimator(Given().fit(probs, labels)), method="temperature", ensemble=False
    ).fit(probs, labels)
    ours = TemperatureScaling().fit(probs, labels)
    assert np.allclose(ours.transform(probs), theirs.predict_proba(probs), rtol=0, atol=1e-6)


def test_finds_the_temperature_that_made_the_labels():
    probs, labels = data(14, num_inputs=40_000, temperature=2.5)
    # The error of 1/T is 1/sqrt(N var), with var the mean variance of ln p under the true labels.
    scaled, logs = softmax(np.log(probs) / 2.5, axis=1), np.log(probs)
    mean = (scaled * logs).sum(axis=1, keepdims=True)
    error = 1.0 / math.sqrt((scaled * (logs - mean) ** 2).sum())
    found = TemperatureScaling().fit(probs, labels).temperature_
    assert abs(1.0 / found - 1.0 / 2.5) < 3.0 * error


def test_order_and_zeros_are_kept_at_every_temperature():
    generator = np.random.default_rng(15)
    probs = generator.dirichlet(np.full(5, 0.1), 500)
    probs[probs < 1e-3] = 0.0
    probs /= probs.sum(axis=1, keepdims=True)
    for labels in (probs.argmax(axis=1), draw(generator, probs), probs.argsort(axis=1)[:, -2]):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".* labels have probability 0")
            scaling = TemperatureScaling().fit(probs, labels)
        result = scaling.transform(probs)
        assert np.array_equal(result.argmax(axis=1), probs.argmax(axis=1))
        assert np.all(result[probs == 0.0] == 0.0)


def test_stops_at_its_bounds():
    probs, _ = data(16)
    assert TemperatureScaling().fit(probs, probs.argmax(axis=1)).temperature_ == 0.05
    scaling = TemperatureScaling().fit(probs, probs.argmin(axis=1))
    assert scaling.temperature_ == pytest.approx(100.0)
    # Where every temperature does the same it stays 1.
    uniform = np.full((12, 4), 0.25)
    assert TemperatureScaling().fit(uniform, [0, 1, 2] * 4).temperature_ == 1.0
    assert TemperatureScaling().fit(np.eye(3)[[0, 1, 2] * 4], [0, 1, 2] * 4).temperature_ == 1.0


def test_labels_of_probability_zero_are_left_out_with_a_warning():
    probs, labels = data(17, num_inputs=200)
    impossible = np.tile([[0.6, 0.4, 0.0]], (7, 1))
    with pytest.warns(UserWarning, match=r"7 of 207 labels have probability 0"):
        scaling = TemperatureScaling().fit(
            np.append(probs, impossible, axis=0), [*labels, *[2] * 7]
        )
    assert scaling.temperature_ == TemperatureScaling().fit(probs, labels).temperature_
    with pytest.raises(ValueError, match="got 0 for each of them"):
        TemperatureScaling().fit(np.tile(impossible, (2, 1)), [2] * 14)
    # 9 that count and 7 that do not are too few.
    with pytest.raises(ValueError, match=r"at least 10 inputs .* got 9"):
        TemperatureScaling().fit(np.append(probs[:9], impossible, axis=0), [*labels[:9], *[2] * 7])


def test_probabilities_near_zero_are_no_trouble():
    generator = np.random.default_rng(18)
    logits = 100.0 * generator.normal(size=(300, 4))  # down to 1e-200
    labels = draw(generator, softmax(logits / 50.0, axis=1))
    scaling = TemperatureScaling().fit(softmax(logits, axis=1), labels)
    assert scaling.temperature_ == pytest.approx(50.0, rel=0.3)
    result = scaling.transform(softmax(logits, axis=1))
    assert nll(result, labels) < math.log(4)


# --- vector scaling and Dirichlet calibration


def plain_objective(probs, labels, weights, intercepts, off_diagonal=0.0, intercept=0.0):
    """The docstrings' objectives, written out."""
    size = len(intercepts)
    logs = np.log(np.maximum(probs, 1e-12))
    scores = log_softmax(logs @ weights.T + intercepts, axis=1)
    loss = -scores[np.arange(len(labels)), labels].mean()
    prior = ((weights - np.eye(size)) ** 2).sum() + (intercepts**2).sum()
    outside = weights - np.diag(np.diag(weights))
    return (
        loss
        + prior / (2 * len(labels))
        + off_diagonal * (outside**2).sum() / (size * (size - 1))
        + intercept * (intercepts**2).sum() / size
    )


@pytest.mark.parametrize("seed", range(2))
def test_vector_scaling_equals_nelder_mead(seed):
    probs, labels = confused_data(seed, num_inputs=200)

    def objective(theta):
        return plain_objective(probs, labels, np.diag(theta[:3]), theta[3:])

    best = minimize(
        objective,
        [1.0, 1.0, 1.0, 0.0, 0.0, 0.0],
        method="Nelder-Mead",
        options={"maxiter": 5000, "maxfev": 5000, "xatol": 1e-7, "fatol": 1e-12, "adaptive": True},
    )
    scaling = VectorScaling().fit(probs, labels)
    ours = np.concatenate([scaling.weights_, scaling.intercepts_])
    assert objective(ours) <= best.fun + 1e-9
    assert np.allclose(ours, best.x, rtol=0, atol=1e-3)
    assert scaling.intercepts_.sum() == pytest.approx(0.0, abs=1e-4)
    expected = softmax(np.log(probs) * scaling.weights_ + scaling.intercepts_, axis=1)
    assert np.allclose(scaling.transform(probs), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("off_diagonal", "intercept"), [(0.0, 0.0), (0.3, 2.0), (5.0, 0.0)])
def test_dirichlet_calibration_equals_a_search_without_gradients(off_diagonal, intercept):
    probs, labels = confused_data(19, num_inputs=300)

    def objective(theta):
        weights, intercepts = theta[:9].reshape(3, 3), theta[9:]
        return plain_objective(probs, labels, weights, intercepts, off_diagonal, intercept)

    best = minimize(objective, np.append(np.eye(3).ravel(), np.zeros(3)), method="BFGS")
    calibration = DirichletCalibration(
        off_diagonal_penalty=off_diagonal, intercept_penalty=intercept
    ).fit(probs, labels)
    ours = np.append(calibration.weights_.ravel(), calibration.intercepts_)
    assert objective(ours) <= best.fun + 1e-8
    assert np.allclose(ours, best.x, rtol=0, atol=3e-3)
    scores = np.log(probs) @ calibration.weights_.T + calibration.intercepts_
    assert np.allclose(calibration.transform(probs), softmax(scores, axis=1), rtol=0, atol=1e-14)


def test_dirichlet_calibration_without_penalties_is_logistic_regression():
    probs, labels = confused_data(20, num_inputs=20_000)
    regression = LogisticRegression(C=np.inf, tol=1e-8, max_iter=2000)
    expected = regression.fit(np.log(probs), labels).predict_proba(np.log(probs))
    calibration = DirichletCalibration(off_diagonal_penalty=0.0).fit(probs, labels)
    # All but the prior, which is worth one input in 20,000.
    assert np.abs(calibration.transform(probs) - expected).max() < 2e-3


def test_recovers_the_map_that_made_the_labels():
    probs, labels = confused_data(21, num_inputs=50_000)
    calibration = DirichletCalibration(off_diagonal_penalty=0.0).fit(probs, labels)
    expected = softmax(np.log(probs) @ CONFUSION.T + SHIFT, axis=1)
    # 8 free parameters: the mean square error of log-probabilities is about 8/N.
    assert np.abs(calibration.transform(probs) - expected).mean() < 3.0 * math.sqrt(8 / 50_000)


def test_a_strong_penalty_leaves_the_diagonal():
    probs, labels = confused_data(22)
    calibration = DirichletCalibration(off_diagonal_penalty=1e7, intercept_penalty=0.0)
    result = calibration.fit(probs, labels).transform(probs)
    assert np.allclose(result, VectorScaling().fit(probs, labels).transform(probs), atol=1e-4)


def test_the_penalty_is_chosen_by_what_the_data_need():
    confused = DirichletCalibration().fit(*confused_data(23, num_inputs=3000))
    assert confused.off_diagonal_penalty_ <= 1.0
    separate = DirichletCalibration().fit(*data(24, num_inputs=300))
    assert separate.off_diagonal_penalty_ >= 10.0
    assert DirichletCalibration(off_diagonal_penalty=3).fit(*data(24)).off_diagonal_penalty_ == 3.0


def test_the_penalty_is_the_best_of_five_folds():
    probs, labels = confused_data(25, num_inputs=150)
    folds = np.random.default_rng(4).permutation(150).reshape(30, 5).T
    losses = {}
    for penalty in (1e3, 1e2, 1e1, 1e0, 1e-1, 1e-2):
        losses[penalty] = 0.0
        for fold in folds:
            rest = np.setdiff1d(np.arange(150), fold)
            fitted = DirichletCalibration(off_diagonal_penalty=penalty, intercept_penalty=0.5)
            fitted.fit(probs[rest], labels[rest])
            losses[penalty] += nll(fitted.transform(probs[fold]), labels[fold])
    chosen = DirichletCalibration(intercept_penalty=0.5, seed=4).fit(probs, labels)
    assert chosen.off_diagonal_penalty_ == min(losses, key=losses.get)


def test_penalties_are_checked():
    with pytest.raises(ValueError, match="off_diagonal_penalty must be at least 0"):
        DirichletCalibration(off_diagonal_penalty=-1.0)
    with pytest.raises(TypeError, match="intercept_penalty must be a number"):
        DirichletCalibration(intercept_penalty="auto")


@pytest.mark.parametrize("method", [VectorScaling, DirichletCalibration])
def test_labels_without_an_error_or_of_probability_zero_leave_finite_parameters(method):
    sure = np.eye(3)[[0, 1, 2] * 20]
    for labels in ([0, 1, 2] * 20, [1, 2, 0] * 20):
        fitted = method().fit(sure, labels)
        assert np.abs(fitted.weights_).max() < 5.0
        assert np.abs(fitted.intercepts_).max() < 5.0
        assert math.isfinite(nll(fitted.transform(sure), labels))


# --- isotonic calibration


def isotonic_reference(probs, labels, new_probs):
    """Scikit-learn class by class, then normalised."""
    columns = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        .fit(probs[:, number], labels == number)
        .predict(new_probs[:, number])
        for number in range(probs.shape[1])
    ]
    result = np.stack(columns, axis=1)
    total = result.sum(axis=1, keepdims=True)
    return np.where(total > 0, result / np.where(total > 0, total, 1.0), new_probs)


@pytest.mark.parametrize("make", [data, confused_data])
def test_isotonic_calibration_mixes_scikit_learns_with_the_identity(make):
    (probs, labels), (new_probs, _) = make(26), make(27)
    calibration = IsotonicCalibration().fit(probs, labels)
    assert 0.5 < calibration.share_ < 1.0
    expected = isotonic_reference(probs, labels, new_probs)
    expected = calibration.share_ * expected + (1.0 - calibration.share_) * new_probs
    assert np.allclose(calibration.transform(new_probs), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_share_is_the_best_on_folds_but_no_better_than_on_the_split(seed):
    probs, labels = data(seed, num_inputs=100)
    folds = np.random.default_rng(7).permutation(100) % 5
    unseen = np.empty_like(probs)
    for fold in range(5):
        out = folds == fold
        unseen[out] = isotonic_reference(probs[~out], labels[~out], probs[out])
    shares = np.linspace(0.0, 1.0, 2001)

    def best(curved):
        with np.errstate(divide="ignore"):
            return shares[
                np.argmin([nll(share * curved + (1 - share) * probs, labels) for share in shares])
            ]

    expected = min(best(unseen), best(isotonic_reference(probs, labels, probs)), 100 / 101)
    assert IsotonicCalibration(seed=7).fit(probs, labels).share_ == pytest.approx(
        expected, abs=1e-3
    )


def test_what_isotonic_calibration_never_saw_keeps_a_probability():
    probs, _ = data(28)
    right = probs.argmax(axis=1)
    calibration = IsotonicCalibration().fit(probs, right)
    least = calibration.transform(probs).min(axis=1)
    assert np.all(least > 0.0)
    assert calibration.share_ <= 400 / 401


@pytest.mark.parametrize(("on_split", "on_folds"), [(0.2, 0.9), (0.9, 0.2)])
def test_the_lesser_of_the_two_shares_is_taken(on_split, on_folds, monkeypatch):
    # What guarantees that the fitting split does not lose: no data were found where it binds.
    shares = iter([on_split, on_folds])
    monkeypatch.setattr(isotonic, "_best_share", lambda curved, plain: next(shares))
    assert IsotonicCalibration().fit(*data(29)).share_ == 0.2


def test_a_row_that_all_curves_send_to_zero_stays_as_it_is():
    curves = ((np.array([0.0, 0.5]), np.array([0.0, 1.0])),) + ((np.zeros(1), np.zeros(1)),) * 2
    rows = np.array([[0.0, 0.3, 0.7], [0.25, 0.75, 0.0]])
    assert np.array_equal(isotonic._apply_curves(curves, rows), [[0.0, 0.3, 0.7], [1.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    "change",
    [
        {"share": 5},
        {"share": "x"},
        {"curves": [{"x": [1, 0], "y": [0, 1]}] * 2},
        {"curves": [{"x": [0, 1], "y": [0, 5]}] * 2},
        {"curves": [{"x": [0, 1], "y": [0]}] * 2},
        {"curves": [3, 4]},
        {"num_classes": None},
    ],
)
def test_damaged_values_of_an_isotonic_calibration_are_refused(change):
    probs = np.random.default_rng(0).dirichlet(np.ones(2), 60)
    values = IsotonicCalibration().fit(probs, [0, 1] * 30).to_dict()
    with pytest.raises(ValueError, match=r"pass what to_dict|must"):
        IsotonicCalibration.from_dict(values | change)
    with pytest.raises(ValueError, match="must be of method"):
        IsotonicCalibration.from_dict([])
