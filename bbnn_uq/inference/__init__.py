"""Predictions of Monte Carlo binary networks."""

from bbnn_uq.inference.batchnorm import batchnorm_disagreement, refresh_batchnorm
from bbnn_uq.inference.engine import predict

__all__ = ["batchnorm_disagreement", "predict", "refresh_batchnorm"]
