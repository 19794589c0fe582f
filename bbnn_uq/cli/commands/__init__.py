"""One module a command; importing it registers it, and ``--help`` lists them in this order."""

from bbnn_uq.cli.commands import demo, train, ood, inspect  # isort: skip

__all__ = ["demo", "inspect", "ood", "train"]
