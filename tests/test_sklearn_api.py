"""scikit-learn estimators: its own checks, and what they add to them."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from bbnn_uq import Predictive, Predictor, RegressionPredictive, load, models, predict
from bbnn_uq.sklearn_api import BayesBiNNClassifier, BayesBiNNRegressor

SMALL = {"hidden_layer_sizes": 16, "epochs": 30, "num_samples": 4, "real_lr": 0.1}
CHECKED = SMALL | {"epochs": 20, "num_samples": 2}
WEIGHTS = "a batch of weighted inputs has other BatchNorm statistics than one of repeated inputs"
EXPECTED = {"check_sample_weight_equivalence_on_dense_data": WEIGHTS}


def iris():
    return load_iris(return_X_y=True)


def classifier(**options):
    return BayesBiNNClassifier(**({"random_state": 0} | SMALL | options))


def regressor(**options):
    return BayesBiNNRegressor(**({"random_state": 0} | SMALL | options))


@pytest.fixture(scope="module")
def fitted():
    return classifier().fit(*iris())


@parametrize_with_checks(
    [BayesBiNNClassifier(**CHECKED), BayesBiNNRegressor(**(CHECKED | {"epochs": 50}))],
    expected_failed_checks=lambda estimator: EXPECTED,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_probabilities_are_those_of_predict(fitted):
    x, y = iris()
    expected = predict(fitted.model_, fitted.posterior_, x, num_samples=4, device="cpu").probs
    np.testing.assert_allclose(fitted.predict_proba(x), expected, rtol=1e-12)
    assert (fitted.predict(x) == expected.argmax(axis=1)).all()
    assert fitted.score(x, y) == np.mean(expected.argmax(axis=1) == y) > 0.9
    predictive = fitted.predict_uncertainty(x)
    assert isinstance(predictive, Predictive)
    assert predictive.num_samples == 4
    assert (predictive.score("mutual_information") >= 0).all()


def test_labels_of_any_type_keep_their_order():
    x, y = iris()
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)
    numbered = classifier().fit(x, y)
    named = classifier().fit(x, names[y])
    assert list(named.classes_) == list(names)
    assert (named.predict(x) == names[numbered.predict(x)]).all()
    backwards = classifier().fit(x, -y)
    assert list(backwards.classes_) == [-2, -1, 0]
    assert np.mean(backwards.predict(x) == -y) > 0.9


def test_two_classes():
    x, y = make_blobs(60, centers=2, random_state=0)
    model = classifier().fit(x, y == 1)
    assert model.predict_proba(x).shape == (60, 2)
    assert list(model.classes_) == [False, True]
    assert model.score(x, y == 1) > 0.9


def test_random_state_is_as_scikit_learn_has_it():
    x, y = iris()

    def probs(random_state):
        return classifier(epochs=3, random_state=random_state).fit(x, y).predict_proba(x)

    assert (probs(1) == probs(1)).all()
    assert (probs(1) != probs(2)).any()
    assert (probs(np.random.RandomState(1)) == probs(1)).all()
    stream = np.random.RandomState(1)
    assert (probs(stream) != probs(stream)).any()
    np.random.seed(1)  # noqa: NPY002  None reads the global stream
    assert (probs(None) == probs(1)).all()


def test_global_streams_are_left_alone():
    torch.manual_seed(0)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    classifier(epochs=2, dropout=0.1).fit(*iris()).predict(iris()[0])
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002


def test_pipelines_searches_and_scores():
    x, y = iris()
    steps = make_pipeline(StandardScaler(), classifier(normalise=False))
    assert cross_val_score(steps, x, y, cv=3).mean() > 0.9
    grid = {"bayesbinnclassifier__kl_weight": [0.01, 5.0]}
    search = GridSearchCV(steps, grid, cv=2, n_jobs=2, scoring="neg_log_loss").fit(x, y)
    assert search.best_params_ == {"bayesbinnclassifier__kl_weight": 0.01}
    alone = GridSearchCV(steps, grid, cv=2, scoring="neg_log_loss").fit(x, y)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"], rtol=1e-6
    )


def test_threads_do_not_disturb_each_other():
    x, y = iris()
    with joblib.parallel_backend("threading", n_jobs=3):
        many = joblib.Parallel()(joblib.delayed(classifier(epochs=5).fit)(x, y) for _ in range(3))
    alone = classifier(epochs=5).fit(x, y).predict_proba(x)
    for each in many:
        np.testing.assert_allclose(each.predict_proba(x), alone, rtol=1e-12)


def test_normalisation_is_that_of_a_scaler():
    x, y = iris()
    inside = classifier().fit(x, y)
    scaled = StandardScaler().fit_transform(x)
    outside = classifier(normalise=False).fit(scaled, y)
    np.testing.assert_allclose(inside.predict_proba(x), outside.predict_proba(scaled), atol=1e-3)
    mean = inside.posterior_.metadata["normalisation"]["mean"]
    np.testing.assert_allclose(mean, x.mean(axis=0))
    assert "normalisation" not in outside.posterior_.metadata


def test_frames_keep_their_names():
    frame, y = load_iris(return_X_y=True, as_frame=True)
    model = classifier().fit(frame, y)
    assert list(model.feature_names_in_) == list(frame.columns)
    assert model.n_features_in_ == 4
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[frame.columns[::-1]])
    expected = model.predict_proba(frame)
    as_float32 = model.predict_proba(frame.astype(np.float32))
    np.testing.assert_allclose(as_float32, expected, atol=1e-5)


def test_files_and_copies(fitted, tmp_path):
    x, _ = iris()
    expected = fitted.predict_proba(x)
    joblib.dump(fitted, tmp_path / "model.joblib")
    for again in (joblib.load(tmp_path / "model.joblib"), pickle.loads(pickle.dumps(fitted))):
        assert (again.predict_proba(x) == expected).all()
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(x)


def test_a_saved_posterior_needs_no_estimator(fitted, tmp_path):
    x, _ = iris()
    fitted.posterior_.save(tmp_path / "posterior.safetensors")
    posterior = load(tmp_path / "posterior.safetensors")
    stated = posterior.metadata["architecture"]
    model = models.build(
        stated["model"], stated["input_shape"], stated["num_outputs"], dropout=stated["dropout"]
    )
    kept = Predictor(model, posterior, num_samples=4, precision="float64", device="cpu")
    np.testing.assert_allclose(kept.predict(x).probs, fitted.predict_proba(x), rtol=1e-12)


def test_every_batch_gives_the_same_probabilities(fitted):
    x, _ = iris()
    one_by_one = np.concatenate([fitted.predict_proba(x[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(one_by_one, fitted.predict_proba(x)[:20], rtol=1e-9)


def test_html_shows_the_parameters():
    assert "BayesBiNNClassifier" in classifier(kl_weight=0.5)._repr_html_()
    assert repr(BayesBiNNClassifier(lr=0.3)) == "BayesBiNNClassifier(lr=0.3)"


def test_a_weight_of_zero_leaves_an_input_out():
    x, y = iris()
    weights = np.tile([1.0, 1.0, 0.0], 50)
    out = classifier().fit(x[weights > 0], y[weights > 0]).predict_proba(x)
    zero = classifier().fit(x, y, sample_weight=weights).predict_proba(x)
    assert (zero == out).all()
    spoiled = np.where(weights[:, None] > 0, x, 1e6)
    assert (classifier().fit(spoiled, y, weights).predict_proba(x) == out).all()


def test_equal_weights_change_the_weight_of_the_prior():
    # Weights of 5 are five copies: the same as a fifth of the KL term at five times the step.
    x, y = iris()
    copies = classifier(epochs=5, real_lr=1e-9).fit(x, y, sample_weight=np.full(150, 5.0))
    other = classifier(epochs=5, real_lr=1e-9, lr=0.5, kl_weight=0.002).fit(x, y)
    start = dict.fromkeys(copies.posterior_.natural_param)
    for name in start:
        torch.testing.assert_close(
            copies.posterior_.natural_param[name], other.posterior_.natural_param[name]
        )


def test_class_weights_are_sample_weights():
    x, y = iris()
    weights = {0: 1.0, 1: 5.0, 2: 0.5}
    by_class = classifier(class_weight=weights).fit(x, y).predict_proba(x)
    by_input = classifier().fit(x, y, np.vectorize(weights.get)(y)).predict_proba(x)
    assert (by_class == by_input).all()
    assert by_class[:, 1].mean() > classifier().fit(x, y).predict_proba(x)[:, 1].mean() + 0.01


def test_rare_classes_start_from_their_frequency():
    # Noise alone, and no step that could move anything: what is left are the frequencies.
    x = np.random.default_rng(0).normal(size=(1000, 5))
    y = np.arange(1000) < 30
    frozen = classifier(epochs=1, lr=1e-9, real_lr=1e-9).fit(x, y)
    logits = frozen.model_.get_parameter("output_norm.bias").detach().numpy()
    shares = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(shares, [971 / 1002, 31 / 1002], rtol=1e-5)


def wave(count=200, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.uniform(-2, 2, size=(count, 1))
    noise = 0.3 * (x[:, 0] > 0) + 0.05
    return x, 50 + 10 * np.sin(2 * x[:, 0]) + 10 * noise * generator.normal(size=count)


def test_regression_and_its_spread():
    x, y = wave()
    model = regressor(hidden_layer_sizes=(32, 32), epochs=150).fit(x, y)
    mean, std = model.predict(x, return_std=True)
    predictive = model.predict_uncertainty(x)
    assert isinstance(predictive, RegressionPredictive)
    assert (mean == predictive.mean).all()
    np.testing.assert_allclose(
        std, np.sqrt(predictive.epistemic_std**2 + predictive.aleatoric_std**2)
    )
    assert model.score(x, y) == pytest.approx(r2_score(y, mean), rel=1e-12)
    assert model.score(x, y) > 0.8
    assert mean.mean() == pytest.approx(y.mean(), abs=1.0)
    far = model.predict_uncertainty([[20.0]])
    assert far.epistemic_std > 2 * predictive.epistemic_std.mean()


def test_noise_of_each_kind():
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, size=(500, 1))
    loud = x[:, 0] > 0
    y = np.where(loud, 3.0, 0.3) * generator.normal(size=500)
    fixed = regressor(noise=2.5).fit(x, y).predict_uncertainty(x)
    np.testing.assert_allclose(fixed.aleatoric_std, 2.5, rtol=1e-5)
    learned = regressor(noise="learned").fit(x, y).predict_uncertainty(x)
    assert np.ptp(learned.aleatoric_std) < 1e-6
    predicted = regressor(noise="predicted").fit(x, y).predict_uncertainty(x)
    assert predicted.aleatoric_std[loud].mean() > 2 * predicted.aleatoric_std[~loud].mean()


def test_several_targets():
    x, y = wave()
    both = np.stack([y, -3 * y + 1], axis=1)
    options = {"hidden_layer_sizes": (32, 32), "epochs": 80}
    model = regressor(**options).fit(x, both)
    mean, std = model.predict(x, return_std=True)
    assert mean.shape == std.shape == both.shape
    assert r2_score(both, mean, multioutput="raw_values").min() > 0.7
    assert regressor(**options).fit(x, both[:, :1]).predict(x).shape == (200, 1)
    frame = pd.DataFrame(both, columns=["up", "down"])
    assert (regressor(**options).fit(x, frame).predict(x) == mean).all()


def test_two_inputs_are_enough():
    assert regressor().fit([[0.0], [1.0]], [0.0, 1.0]).predict([[0.0], [1.0]]).shape == (2,)
    assert classifier().fit([[0.0], [1.0]], ["a", "b"]).predict([[0.0]]).shape == (1,)


def test_epochs_follow_the_size_of_the_data():
    # 1,500 steps, or 20 epochs where that is more; training that long would test nothing else.
    assert regressor(epochs="auto")._epochs(2) == 750
    assert regressor(epochs="auto")._epochs(1000) == 20
    assert regressor(epochs=3)._epochs(1000) == 3
    assert regressor(epochs=3).fit(*wave()).n_iter_ == 3


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"hidden_layer_sizes": ()}, ValueError, "hidden_layer_sizes must name at least one"),
        ({"hidden_layer_sizes": (4, 0)}, ValueError, "every entry of hidden_layer_sizes must be"),
        ({"hidden_layer_sizes": "8x8"}, TypeError, "hidden_layer_sizes must be an integer"),
        ({"dropout": 1.0}, ValueError, r"dropout must lie in \[0, 1\)"),
        ({"epochs": "many"}, ValueError, "epochs must be 'auto' or an integer, got 'many'"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1"),
        ({"batch_size": 1}, ValueError, "batch_size must be at least 2"),
        ({"lr": -1.0}, ValueError, "lr must be at least 0"),
        ({"real_lr": 0.0}, ValueError, "real_lr must be greater than 0"),
        ({"kl_weight": -1.0}, ValueError, "kl_weight must be at least 0"),
        ({"gradient_estimator": "locl"}, ValueError, "did you mean 'local'"),
        ({"num_samples": 0}, ValueError, "num_samples must be at least 1"),
        ({"class_weight": "equal"}, ValueError, "class_weight"),
        ({"device": "nowhere"}, ValueError, "device 'nowhere' cannot be used here"),
        ({"random_state": "x"}, ValueError, "cannot be used to seed"),
    ],
)
def test_parameters_out_of_range_are_refused_in_fit(options, error, match):
    model = classifier(**options)
    with pytest.raises(error, match=match):
        model.fit(*iris())


@pytest.mark.parametrize(
    ("weights", "error", "match"),
    [
        (np.ones(3), ValueError, r"sample_weight must have shape \(150,\), one per input"),
        (np.full(150, -1.0), ValueError, "sample_weight must not be negative, got -1"),
        (np.eye(150)[0], ValueError, "above zero for at least 2 inputs, got 1 of 150"),
        (np.arange(150) < 50, ValueError, "y must hold at least 2 classes .* got 1 class"),
        (["a"] * 150, TypeError, "sample_weight must hold real numbers"),
    ],
)
def test_bad_sample_weights_are_refused_by_the_estimator(weights, error, match):
    with pytest.raises(error, match=match):
        classifier().fit(*iris(), sample_weight=weights)


def test_noise_out_of_range_is_refused():
    with pytest.raises(ValueError, match="noise must be one of learned, predicted"):
        regressor(noise="lerned").fit(*wave())


def test_the_architecture_is_that_of_a_table(fitted):
    assert isinstance(fitted.model_, models.TabularMLP)
    real = fitted.posterior_.real_state
    assert not torch.equal(real["input_scale.scale"], torch.ones(4))
    binary = [m for m in fitted.model_.modules() if isinstance(m, nn.Linear)]
    assert len(fitted.posterior_.natural_param) == len(binary) == 2
