"""BayesBiNNClassifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from bbnn_uq.likelihoods import Softmax
from bbnn_uq.predictive import Predictive
from bbnn_uq.sklearn_api.base import BayesBiNNEstimator, checked_weights, validated

__all__ = ["BayesBiNNClassifier"]


class BayesBiNNClassifier(ClassifierMixin, BayesBiNNEstimator):
    """A neural network with binary weights, drawn from a posterior, as a scikit-learn classifier.

    Trains :class:`bbnn_uq.models.TabularMLP` with :func:`bbnn_uq.fit` and predicts the average of
    ``num_samples`` networks with :func:`bbnn_uq.predict`.

    Args:
        hidden_layer_sizes: width of each hidden layer, or one number for one layer.
        dropout: probability in [0, 1) after each hidden layer, in training.
        epochs: passes over the data; ``auto`` makes it at least 20 passes and 1,500 steps.
        batch_size: inputs per step, at least 2; all of them when there are fewer.
        lr: step size of the binary weights at the start.
        real_lr: step size of the real-valued scales and shifts at the start.
        kl_weight: ρ ≥ 0 of the KL term; larger keeps more uncertainty.
        gradient_estimator: ``straight_through``, ``local`` or ``concrete``, as ``estimator`` of
            :func:`bbnn_uq.fit`.
        num_samples: networks that a prediction averages; given before ``fit``, which measures
            BatchNorm statistics for each of them.
        normalise: shift and scale inputs by the training set's mean and standard deviation.
        class_weight: class → factor of the weights of its inputs, ``balanced``, or None.
        device: where to train and predict; None takes a GPU when there is one.
        random_state: an integer makes training repeatable; None reads NumPy's global stream, as
            everywhere in scikit-learn. Predictions of a fitted estimator are never random.
        verbose: whether to show a progress bar on a terminal.

    Attributes:
        classes_: the labels, sorted, (C,).
        posterior_: the :class:`bbnn_uq.BernoulliPosterior`, which can be saved.
        model_: the architecture that goes with it.
        n_iter_: epochs that were run.
        n_features_in_: number of features.
        feature_names_in_: their names, where X had names of columns.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> x, y = load_iris(return_X_y=True, as_frame=True)
        >>> classifier = BayesBiNNClassifier((32, 32), epochs=50, random_state=0).fit(x, y)
        >>> classifier.score(x, y) > 0.93
        True
        >>> classifier.predict_uncertainty(x.iloc[:3]).mutual_information.shape
        (3,)
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (128, 128),
        *,
        dropout: Any = 0.0,
        epochs: Any = "auto",
        batch_size: Any = 64,
        lr: Any = 0.1,
        real_lr: Any = 0.03,
        kl_weight: Any = 1e-2,
        gradient_estimator: Any = "straight_through",
        num_samples: Any = 32,
        normalise: Any = True,
        class_weight: Any = None,
        device: Any = "cpu",
        random_state: Any = None,
        verbose: Any = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.real_lr = real_lr
        self.kl_weight = kl_weight
        self.gradient_estimator = gradient_estimator
        self.num_samples = num_samples
        self.normalise = normalise
        self.class_weight = class_weight
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> BayesBiNNClassifier:
        """Train the posterior.

        Args:
            X: inputs (N, F), N ≥ 2.
            y: labels of any type (N,), of at least two classes.
            sample_weight: ω_i ≥ 0 of each input (N,): 2 counts it twice and 0 leaves it out.
                Weights are not scaled: larger ones weigh more against the KL term.

        Returns:
            The estimator.

        Raises:
            TypeError, ValueError: an argument or a parameter is out of its range.
        """
        x, y = validated(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        weights = checked_weights(sample_weight, x)
        if self.class_weight is not None:
            factors = compute_sample_weight(self.class_weight, y)
            weights = checked_weights(weights * factors, x, "sample_weight times class_weight")
        if len(np.unique(labels[weights > 0])) < 2:
            raise ValueError(
                "y must hold at least 2 classes (with weights above zero), got 1 class; a "
                "classifier has nothing to learn there"
            )
        self.classes_ = classes
        # From the log frequencies of the classes, so that rare ones cost no steps to find that out.
        start = np.log(1.0 + np.bincount(labels, weights, minlength=len(classes)))
        self._fit(x, labels, weights, likelihood=Softmax(), start=start - start.mean())
        return self

    def predict_uncertainty(self, X: Any) -> Predictive:
        """The predictive: probabilities, entropies, mutual information, OOD scores.

        Args:
            X: inputs (N, F).

        Returns:
            A :class:`bbnn_uq.Predictive`; column c of ``probs`` is ``classes_[c]``, so that
            :func:`bbnn_uq.evaluate` takes ``np.searchsorted(classes_, y)`` as labels.
        """
        predictive = self._predictive(X)
        assert isinstance(predictive, Predictive)
        return predictive

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, C) in the order of ``classes_``."""
        return self.predict_uncertainty(X).probs

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each input (N,)."""
        probs = self.predict_proba(X)
        return self.classes_[probs.argmax(axis=1)]
