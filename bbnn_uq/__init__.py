"""bbnn-uq: uncertainty estimation for neural networks with binary weights.

Names are loaded when they are first used, so that importing the package is instant and the
command line can show its help without loading torch.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bbnn_uq import (
        augment,
        conformal,
        continual,
        data,
        likelihoods,
        metrics,
        models,
        ood_scores,
        plots,
        recalibration,
    )
    from bbnn_uq.calibrated import Calibration
    from bbnn_uq.comparison import Comparison, compare
    from bbnn_uq.inference import (
        Predictor,
        feature_scores,
        network_features,
        predict,
        refresh_batchnorm,
    )
    from bbnn_uq.monte_carlo import metric_curve, monte_carlo_error
    from bbnn_uq.networks import draw
    from bbnn_uq.optim import BayesBiNN
    from bbnn_uq.posterior import (
        BernoulliPosterior,
        CollapsedPosteriorWarning,
        PosteriorFormatError,
        PosteriorMixture,
        load,
    )
    from bbnn_uq.predictive import Predictive
    from bbnn_uq.regression import RegressionPredictive
    from bbnn_uq.report import Report, evaluate
    from bbnn_uq.sklearn_api import BayesBiNNClassifier, BayesBiNNRegressor
    from bbnn_uq.training import fit

__all__ = [
    "BayesBiNN",
    "BayesBiNNClassifier",
    "BayesBiNNRegressor",
    "BernoulliPosterior",
    "Calibration",
    "CollapsedPosteriorWarning",
    "Comparison",
    "PosteriorFormatError",
    "PosteriorMixture",
    "Predictive",
    "Predictor",
    "RegressionPredictive",
    "Report",
    "augment",
    "compare",
    "conformal",
    "continual",
    "data",
    "draw",
    "evaluate",
    "feature_scores",
    "fit",
    "likelihoods",
    "load",
    "metric_curve",
    "metrics",
    "models",
    "monte_carlo_error",
    "network_features",
    "ood_scores",
    "plots",
    "predict",
    "recalibration",
    "refresh_batchnorm",
]

__version__ = importlib.metadata.version("bbnn-uq")

_HOMES = {
    "BayesBiNN": "optim",
    "BayesBiNNClassifier": "sklearn_api",
    "BayesBiNNRegressor": "sklearn_api",
    "BernoulliPosterior": "posterior",
    "Calibration": "calibrated",
    "CollapsedPosteriorWarning": "posterior",
    "Comparison": "comparison",
    "PosteriorFormatError": "posterior",
    "PosteriorMixture": "posterior",
    "Predictive": "predictive",
    "Predictor": "inference",
    "RegressionPredictive": "regression",
    "Report": "report",
    "compare": "comparison",
    "draw": "networks",
    "evaluate": "report",
    "feature_scores": "inference",
    "fit": "training",
    "load": "posterior",
    "metric_curve": "monte_carlo",
    "monte_carlo_error": "monte_carlo",
    "network_features": "inference",
    "predict": "inference",
    "refresh_batchnorm": "inference",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"bbnn_uq.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"bbnn_uq.{name}")
    raise AttributeError(f"module 'bbnn_uq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
