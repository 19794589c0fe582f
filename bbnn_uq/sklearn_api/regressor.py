"""BayesBiNNRegressor."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin

from bbnn_uq.likelihoods import Gaussian
from bbnn_uq.regression import RegressionPredictive
from bbnn_uq.sklearn_api.base import BayesBiNNEstimator, checked_weights, validated

__all__ = ["BayesBiNNRegressor"]


class BayesBiNNRegressor(MultiOutputMixin, RegressorMixin, BayesBiNNEstimator):
    """A neural network with binary weights, drawn from a posterior, as a scikit-learn regressor.

    Trains :class:`bbnn_uq.models.TabularMLP` with a Gaussian likelihood and predicts the mixture
    of ``num_samples`` networks; targets may have several dimensions.

    Args:
        hidden_layer_sizes: width of each hidden layer, or one number for one layer.
        noise: standard deviation of the targets around a network's prediction: ``learned`` (one
            number for each dimension), ``predicted`` (by input), or a number > 0 in their units.
        dropout: as for :class:`BayesBiNNClassifier`, like all that follows.
        epochs: ``auto``, or passes over the data.
        batch_size: inputs per step.
        lr: step size of the binary weights at the start.
        real_lr: step size of all else at the start.
        kl_weight: ρ ≥ 0 of the KL term.
        gradient_estimator: ``straight_through``, ``local`` or ``concrete``.
        num_samples: networks that a prediction averages.
        normalise: shift and scale inputs and targets, both in the fitted estimator only.
        device: where to train and predict.
        random_state: an integer makes training repeatable.
        verbose: whether to show a progress bar on a terminal.

    Attributes:
        posterior_: the :class:`bbnn_uq.BernoulliPosterior`, which can be saved.
        model_: the architecture that goes with it.
        n_iter_: epochs that were run.
        n_features_in_: number of features.
        feature_names_in_: their names, where X had names of columns.

    Example:
        >>> x = np.linspace(-3, 3, 100)[:, None]
        >>> y = np.sin(x[:, 0])
        >>> regressor = BayesBiNNRegressor(epochs=300, random_state=0).fit(x, y)
        >>> mean, std = regressor.predict([[0.5], [9.0]], return_std=True)
        >>> bool(abs(mean[0] - np.sin(0.5)) < 3 * std[0] and std[1] > 2 * std[0])
        True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (128, 128),
        *,
        noise: Any = "learned",
        dropout: Any = 0.0,
        epochs: Any = "auto",
        batch_size: Any = 64,
        lr: Any = 0.1,
        real_lr: Any = 0.03,
        kl_weight: Any = 1e-2,
        gradient_estimator: Any = "straight_through",
        num_samples: Any = 32,
        normalise: Any = True,
        device: Any = "cpu",
        random_state: Any = None,
        verbose: Any = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.noise = noise
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.real_lr = real_lr
        self.kl_weight = kl_weight
        self.gradient_estimator = gradient_estimator
        self.num_samples = num_samples
        self.normalise = normalise
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> BayesBiNNRegressor:
        """Train the posterior.

        Args:
            X: inputs (N, F), N ≥ 2.
            y: targets (N,) or (N, D).
            sample_weight: ω_i ≥ 0 of each input (N,), as for :class:`BayesBiNNClassifier`.

        Returns:
            The estimator.

        Raises:
            TypeError, ValueError: an argument or a parameter is out of its range.
        """
        x, y = validated(
            self, X, y, dtype=np.float64, ensure_min_samples=2, y_numeric=True, multi_output=True
        )
        targets = np.asarray(y, dtype=np.float64)
        dimensions = 1 if targets.ndim == 1 else targets.shape[1]
        likelihood = Gaussian(self.noise)
        outputs = dimensions * (2 if likelihood.noise == "predicted" else 1)
        weights = checked_weights(sample_weight, x)
        self._fit(x, targets, weights, likelihood=likelihood, start=np.zeros(outputs))
        return self

    def predict_uncertainty(self, X: Any) -> RegressionPredictive:
        """The predictive: mean, and epistemic and aleatoric standard deviations.

        Args:
            X: inputs (N, F).

        Returns:
            A :class:`bbnn_uq.RegressionPredictive`, in the units of the targets.
        """
        predictive = self._predictive(X)
        assert isinstance(predictive, RegressionPredictive)
        return predictive

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean of the targets, and with ``return_std`` their standard deviation.

        Args:
            X: inputs (N, F).
            return_std: give a pair (mean, std), both of the targets' shape. The std is of a new
                target: networks' disagreement and noise together.
        """
        predictive = self.predict_uncertainty(X)
        return (predictive.mean, predictive.std) if return_std else predictive.mean
