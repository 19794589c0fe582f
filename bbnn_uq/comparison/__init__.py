"""Runs side by side: evaluation folders, paired differences, and tests of no difference."""

from bbnn_uq.comparison.comparing import compare
from bbnn_uq.comparison.rows import Difference, Row
from bbnn_uq.comparison.runs import default_names
from bbnn_uq.comparison.value import Comparison

__all__ = ["Comparison", "Difference", "Row", "compare", "default_names"]
