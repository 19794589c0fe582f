"""Calibration of a predictive, and what a Predictor makes of it."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from bbnn_uq import Calibration, PosteriorMixture, Predictive, Predictor, fit, metrics
from bbnn_uq.conformal import ConformalClassifier
from bbnn_uq.recalibration import TemperatureScaling

ALPHA = 0.2


def overconfident(seed, num_inputs=400, num_classes=4):
    """Three networks' probabilities, too sharp, and labels drawn from softer ones."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(num_inputs, num_classes))
    samples = np.exp(2 * (logits + 0.5 * generator.normal(size=(3, num_inputs, num_classes))))
    samples /= samples.sum(axis=2, keepdims=True)
    softer = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (generator.random((num_inputs, 1)) > softer.cumsum(axis=1)).sum(axis=1)
    return Predictive.from_samples(samples), labels.clip(max=num_classes - 1)


def test_each_part_is_fitted_on_the_inputs_that_it_may_see():
    predictive, labels = overconfident(0)
    calibration = Calibration.fit(
        predictive, labels, score="entropy", retention=0.9, conformal="aps", seed=3
    )
    order = np.random.default_rng(3).permutation(400)
    first, second = order[:200], order[200:]
    temperature = TemperatureScaling().fit(predictive.probs[first], labels[first])
    assert calibration.temperature.temperature_ == temperature.temperature_ > 1.2
    calibrated = temperature.transform(predictive.probs)
    np.testing.assert_array_equal(calibration.probs(predictive), calibrated)
    sets = ConformalClassifier("aps", 3).fit(calibrated[second], labels[second])
    np.testing.assert_array_equal(
        calibration.prediction_sets(predictive, ALPHA), sets.predict_sets(calibrated, ALPHA)
    )
    # 361 = ceil(0.9 * 401) of the sorted scores.
    assert calibration.threshold == np.sort(predictive.score("entropy"))[360]
    np.testing.assert_array_equal(
        calibration.is_ood(predictive), predictive.score("entropy") > calibration.threshold
    )
    assert calibration.is_ood(predictive).sum() == 39


def test_sets_and_threshold_keep_their_promise_on_new_inputs():
    covered, retained, runs = [], [], 150
    for seed in range(runs):
        predictive, labels = overconfident(seed, 200)
        calibration = Calibration.fit(predictive, labels, score="entropy")
        new, truth = overconfident(10_000 + seed, 200)
        sets = calibration.prediction_sets(new, ALPHA)
        covered.append(sets[np.arange(200), truth].mean())
        retained.append(1 - calibration.is_ood(new).mean())
    # In [promise, promise + 1 / (n + 1)] on average, within 4 standard errors of the mean.
    for values, promise, n in ((covered, 1 - ALPHA, 100), (retained, 0.95, 200)):
        error = 4 * np.std(values) / math.sqrt(runs)
        assert promise - error < np.mean(values) < promise + 1 / (n + 1) + error


def test_calibration_lowers_nll_and_ece_of_new_inputs():
    predictive, labels = overconfident(0)
    new, truth = overconfident(1)
    probs = Calibration.fit(predictive, labels, score="entropy").probs(new)
    assert metrics.nll(probs, truth) < metrics.nll(new.probs, truth) - 0.01
    assert metrics.ece(probs, truth) < metrics.ece(new.probs, truth) - 0.03
    assert metrics.accuracy(probs, truth) == metrics.accuracy(new.probs, truth)


def test_a_file_gives_the_same_answers(tmp_path):
    predictive, labels = overconfident(0)
    calibration = Calibration.fit(predictive, labels, score="mutual_information", conformal="raps")
    calibration.save(tmp_path / "calibration.json")
    loaded = Calibration.load(tmp_path / "calibration.json")
    new, _ = overconfident(1)
    np.testing.assert_array_equal(loaded.probs(new), calibration.probs(new))
    np.testing.assert_array_equal(
        loaded.prediction_sets(new, ALPHA), calibration.prediction_sets(new, ALPHA)
    )
    np.testing.assert_array_equal(loaded.is_ood(new), calibration.is_ood(new))
    assert loaded.to_dict() == calibration.to_dict()


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("threshold"),
        lambda values: values.update(format=2),
        lambda values: values.update(threshold="high"),
        lambda values: values["temperature"].update(method="another"),
        lambda values: values["conformal"].pop("scores"),
        lambda values: values.update(source=3),
        lambda values: values["source"].pop("seed"),
        lambda values: values.update(source={}),
        lambda values: values.update(threshold=math.nan),
        lambda values: values.update(threshold=True),
        lambda values: values.update(retention=-1),
        lambda values: values.update(num_inputs=math.inf),
        lambda values: values.update(score="entropi"),
        lambda values: values.update(format=True),
    ],
)
def test_damaged_files_are_refused(change, tmp_path):
    predictive, labels = overconfident(0)
    values = Calibration.fit(predictive, labels, score="entropy").to_dict()
    change(values)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match=r"calibration\.json' holds no calibration"):
        Calibration.load(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "null"])
def test_files_of_something_else_are_refused(text, tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"calibration\.json' holds no calibration"):
        Calibration.load(path)


def test_a_score_that_tells_nothing_apart_is_refused():
    predictive, labels = overconfident(0)
    same = Predictive.from_samples(np.repeat(predictive.probs[None], 3, axis=0))
    with pytest.raises(ValueError, match=r"is 0 for every validation input.*take 'entropy'"):
        Calibration.fit(same, labels, score="mutual_information")


def test_a_split_without_an_error_is_warned_of():
    predictive, _ = overconfident(0)
    with pytest.warns(UserWarning, match="the 200 validation inputs .* hold no error"):
        calibration = Calibration.fit(predictive, predictive.probs.argmax(axis=1), score="entropy")
    assert calibration.temperature.temperature_ < 0.5


def test_other_networks_are_refused():
    predictive, labels = overconfident(0)
    calibration = Calibration.fit(predictive, labels, score="entropy")
    fewer = Predictive.from_samples(predictive.samples[:2])
    with pytest.raises(ValueError, match=r"another num_samples than .* \(2, not 3\)"):
        calibration.is_ood(fewer)
    other = dataclasses.replace(predictive, metadata={"posterior": {"num_weights": 3}})
    with pytest.raises(ValueError, match="another posterior than"):
        calibration.probs(other)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"score": "entropi"}, "score must be one of"),
        ({"score": "energy"}, "score 'energy' needs logits"),
        ({"score": "entropy", "retention": 1.5}, "retention must"),
        ({"score": "entropy", "conformal": "lacc"}, "score must be one of lac, aps, raps"),
        ({"score": "entropy", "seed": -1}, "seed must be at least 0"),
    ],
)
def test_invalid_options_are_named(options, match):
    predictive, labels = overconfident(0)
    with pytest.raises(ValueError, match=match):
        Calibration.fit(predictive, labels, **options)


def test_labels_are_checked():
    predictive, labels = overconfident(0)
    with pytest.raises(ValueError, match=r"labels must have shape \(400,\)"):
        Calibration.fit(predictive, labels[:3], score="entropy")


@pytest.fixture(scope="module")
def problem():
    """A posterior of three clouds in the plane, and inputs far from all of them."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(600) % 3
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    x = centres[y] + torch.randn(600, 2, generator=generator)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 3))
    posterior = fit(model, (x[:300], y[:300]), epochs=5, seed=0)
    return model, posterior, x[300:], y[300:]


def test_a_predictor_answers_for_inputs_and_for_their_predictive(problem):
    model, posterior, x, y = problem
    predictor = Predictor(model, posterior, num_samples=8)
    before = predictor.predict(x[150:]).probs
    calibration = predictor.calibrate(x[:150], y[:150], score="mutual_information@3", retention=0.9)
    assert calibration.retention == 0.9
    predictive = predictor.predict(x[150:], score_temperatures=(3.0,))
    np.testing.assert_array_equal(predictive.probs, before)
    for answer in (
        predictor.calibrated_probs,
        predictor.is_ood,
        lambda x: predictor.prediction_sets(x, ALPHA),
    ):
        np.testing.assert_array_equal(answer(x[150:]), answer(predictive))
    sets = predictor.prediction_sets(x[150:], ALPHA)
    # 75 inputs fitted the sets and 150 test them: within 4 standard deviations of 0.8.
    coverage = sets[np.arange(150), y[150:]].mean()
    assert abs(coverage - 0.8) < 4 * math.sqrt(0.16 / 75 + 0.16 / 150)
    assert predictor.is_ood(x[150:]).mean() < 0.3


def test_a_predictive_without_the_score_s_temperature_says_what_to_do(problem):
    model, posterior, x, y = problem
    predictor = Predictor(model, posterior, num_samples=8)
    predictor.calibrate(x[:150], y[:150], score="entropy@3")
    with pytest.raises(ValueError, match=r"predict with\s+score_temperatures=\(1.0, 3\)"):
        predictor.is_ood(predictor.predict(x[150:]))


def test_a_calibration_serves_another_predictor_of_the_same_networks(problem):
    model, posterior, x, y = problem
    first = Predictor(model, posterior, num_samples=8)
    with pytest.raises(ValueError, match=r"not calibrated; call calibrate\(x_val, y_val\)"):
        first.is_ood(x)
    calibration = first.calibrate(x[:150], y[:150], score="entropy")
    second = Predictor(model, posterior, num_samples=8, calibration=calibration)
    np.testing.assert_array_equal(first.is_ood(x), second.is_ood(x))
    other = Predictor(model, posterior, num_samples=4, calibration=calibration)
    with pytest.raises(ValueError, match=r"another num_samples .* \(4, not 8\)"):
        other.prediction_sets(x)


def test_real_targets_have_no_classes_to_calibrate():
    x = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    posterior = fit(model, (x, x), epochs=1, seed=0, likelihood="gaussian")
    with pytest.raises(TypeError, match="predicts real targets"):
        Predictor(model, posterior).calibrate(x, x)


def changed(posterior, **sections):
    return dataclasses.replace(posterior, **sections)


def test_a_calibration_is_refused_by_a_posterior_of_the_same_summary(problem):
    """Turned signs and other biases leave every diagnostic as it is, and the promise does not."""
    model, posterior, x, y = problem
    calibration = Predictor(model, posterior, num_samples=8).calibrate(x[:150], y[:150])
    natural, real = posterior.natural_param, posterior.real_state
    name, bias = next(iter(natural)), next(n for n in real if n.endswith("bias"))
    others = [
        changed(posterior, natural_param=natural | {name: -natural[name]}),
        changed(posterior, real_state=real | {bias: real[bias] + 1.0}),
        PosteriorMixture([posterior, posterior]),
    ]
    for other in others:
        with pytest.raises(ValueError, match="fitted with another posterior"):
            Predictor(model, other, num_samples=8, calibration=calibration)


def test_a_mixture_can_be_calibrated(problem):
    model, posterior, x, y = problem
    mixture = PosteriorMixture([posterior, fit(model, (x, y), epochs=1, seed=1)])
    predictor = Predictor(model, mixture, num_samples=4)
    calibration = predictor.calibrate(x[:150], y[:150], score="entropy")
    again = Predictor(model, mixture, num_samples=4, calibration=calibration)
    np.testing.assert_array_equal(predictor.is_ood(x), again.is_ood(x))


def test_a_score_without_bound_on_some_input_is_refused():
    samples = np.full((2, 40, 2), 0.5)
    samples[0, 0] = [1.0, 0.0]
    with pytest.raises(ValueError, match="score 'pairwise_kl' is infinite for some"):
        Calibration.fit(Predictive.from_samples(samples), [0] * 40, score="pairwise_kl")
