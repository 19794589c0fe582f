"""Optimizers over binary weights: BayesBiNN, and the point estimates to compare it with."""

from bbnn_uq.optim.bayesbinn import ESTIMATORS, BayesBiNN, bayesian_learning_rule_
from bbnn_uq.optim.bop import Bop
from bbnn_uq.optim.ste import STEAdam

__all__ = ["ESTIMATORS", "BayesBiNN", "Bop", "STEAdam", "bayesian_learning_rule_"]
