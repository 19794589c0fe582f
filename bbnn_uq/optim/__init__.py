"""Optimizers over binary weights."""

from bbnn_uq.optim.bayesbinn import ESTIMATORS, BayesBiNN, bayesian_learning_rule_

__all__ = ["ESTIMATORS", "BayesBiNN", "bayesian_learning_rule_"]
