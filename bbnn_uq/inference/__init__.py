"""Predictions of Monte Carlo binary networks."""

from bbnn_uq.inference.batchnorm import batchnorm_disagreement, refresh_batchnorm
from bbnn_uq.inference.features import feature_scores, network_features
from bbnn_uq.inference.prediction import predict
from bbnn_uq.inference.predictor import Predictor

__all__ = [
    "Predictor",
    "batchnorm_disagreement",
    "feature_scores",
    "network_features",
    "predict",
    "refresh_batchnorm",
]
