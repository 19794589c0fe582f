"""scikit-learn estimators: BayesBiNN for tables, in pipelines, searches and cross-validation.

Meng, Bachmann, Khan, "Training Binary Neural Networks using the Bayesian Learning Rule", ICML
2020, arXiv 2002.10778.
"""

from bbnn_uq.sklearn_api.classifier import BayesBiNNClassifier
from bbnn_uq.sklearn_api.regressor import BayesBiNNRegressor

__all__ = ["BayesBiNNClassifier", "BayesBiNNRegressor"]
