"""Predictions of Monte Carlo binary networks."""

from bbnn_uq.inference.engine import predict

__all__ = ["predict"]
