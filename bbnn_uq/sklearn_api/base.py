"""What both estimators share: training a network for tables, and its predictive."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state, validation

from bbnn_uq._checks import check_count, check_real_array
from bbnn_uq.inference import predict
from bbnn_uq.inputs import seeded_torch
from bbnn_uq.likelihoods import Likelihood
from bbnn_uq.models import TabularMLP
from bbnn_uq.predictive import Predictive
from bbnn_uq.regression import RegressionPredictive
from bbnn_uq.training import fit

__all__ = ["BayesBiNNEstimator", "checked_weights", "validated"]

AUTO_STEPS = 1500
AUTO_EPOCHS = 20


class BayesBiNNEstimator(BaseEstimator):
    """Trains a :class:`TabularMLP` and predicts with it; the parameters are the subclasses'."""

    hidden_layer_sizes: Any
    dropout: float
    epochs: int | str
    batch_size: int
    lr: float
    real_lr: float
    kl_weight: float
    gradient_estimator: str
    num_samples: int
    normalise: bool
    device: Any
    random_state: Any
    verbose: Any

    def _fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray,
        *,
        likelihood: Likelihood,
        start: np.ndarray,
    ) -> None:
        """Train; ``start`` is where the mean of each output starts."""
        kept = weights > 0
        if not kept.all():
            x, y, weights = x[kept], y[kept], weights[kept]
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        widths = self._widths()
        with seeded_torch(0, torch.device("cpu")):  # what it draws is not used
            self.model_ = TabularMLP(x.shape[1], widths, len(start), self.dropout)
        self.model_.get_parameter("output_norm.bias").data = torch.from_numpy(start).float()
        batch_size = check_count(self.batch_size, "batch_size", minimum=2)
        self.n_iter_ = self._epochs(max(1, len(x) // batch_size))
        posterior = fit(
            self.model_,
            (x, y),
            epochs=self.n_iter_,
            batch_size=batch_size,
            likelihood=likelihood,
            sample_weight=None if (weights == 1).all() else weights,
            estimator=self.gradient_estimator,
            lr=self.lr,
            real_lr=self.real_lr,
            kl_weight=self.kl_weight,
            normalise=self.normalise,
            batchnorm_networks=check_count(self.num_samples, "num_samples"),
            seed=seed,
            device=self.device,
            progress=bool(self.verbose),
        )
        architecture = {
            "model": "tabular:" + "-".join(map(str, widths)),
            "input_shape": [x.shape[1]],
            "num_outputs": len(start),
            "dropout": float(self.dropout),
        }  # from which the commands build the model of a saved posterior
        metadata = posterior.metadata | {"architecture": architecture}
        self.posterior_ = replace(posterior, metadata=metadata)

    def _widths(self) -> list[int]:
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if len(sizes) == 0:
            raise ValueError("hidden_layer_sizes must name at least one layer, got none")
        return [check_count(size, "every entry of hidden_layer_sizes") for size in sizes]

    def _epochs(self, steps_per_epoch: int) -> int:
        if not isinstance(self.epochs, str):
            return check_count(self.epochs, "epochs")
        if self.epochs != "auto":
            raise ValueError(f"epochs must be 'auto' or an integer, got {self.epochs!r}")
        return max(AUTO_EPOCHS, math.ceil(AUTO_STEPS / steps_per_epoch))

    def _predictive(self, X: Any) -> Predictive | RegressionPredictive:
        validation.check_is_fitted(self)
        x = validated(self, X, dtype=np.float64, reset=False)
        return predict(
            self.model_,
            self.posterior_,
            x,
            num_samples=self.num_samples,
            precision="float64",  # where no figure depends on the batch
            device=self.device,
        )


def validated(estimator: BaseEstimator, *args: Any, **options: Any) -> Any:
    """X, or X and y, checked as scikit-learn's own estimators do."""
    if hasattr(validation, "validate_data"):
        return validation.validate_data(estimator, *args, **options)
    return estimator._validate_data(*args, **options)  # pyright: ignore  # scikit-learn 1.5


def checked_weights(sample_weight: Any, x: np.ndarray, name: str = "sample_weight") -> np.ndarray:
    """The weights (N,), at least two of them above zero; ones when there are none."""
    if sample_weight is None:
        return np.ones(len(x))
    weights = check_real_array(sample_weight, name)
    if weights.shape != (len(x),):
        raise ValueError(f"{name} must have shape ({len(x)},), one per input, got {weights.shape}")
    if weights.min() < 0:
        raise ValueError(f"{name} must not be negative, got {weights.min():g}")
    if (weights > 0).sum() < 2:
        raise ValueError(
            f"{name} must be above zero for at least 2 inputs, got "
            f"{int((weights > 0).sum())} of {len(weights)}"
        )
    return weights
