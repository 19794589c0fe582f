"""One module a command; importing it registers it, and ``--help`` lists them in this order."""

from bbnn_uq.cli.commands import demo, train, predict, ood, evaluate, compare, inspect  # isort: skip

__all__ = ["compare", "demo", "evaluate", "inspect", "ood", "predict", "train"]
