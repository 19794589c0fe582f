"""Writes the intersphinx inventories beside this file, so that pages build without a network.

    .venv/bin/python docs/inventories/make.py

They hold the names of other projects that the reference mentions, and where those projects'
own inventories have them. A base class goes by the module that defines it.
"""

import zlib
from pathlib import Path

INVENTORIES = {
    "python": {
        "abc.ABC": "library/abc.html#abc.ABC",
    },
    "sklearn": {
        "sklearn.base.BaseEstimator": (
            "modules/generated/sklearn.base.BaseEstimator.html#sklearn.base.BaseEstimator"
        ),
    },
    "torch": {
        f"torch.{module}.{name}": f"{page}#torch.{module.split('.')[0]}.{name}"
        for module, name, page in (
            ("nn.modules.container", "Sequential", "generated/torch.nn.Sequential.html"),
            ("nn.modules.module", "Module", "generated/torch.nn.Module.html"),
            ("optim.optimizer", "Optimizer", "optim.html"),
        )
    },
}


def inventory(project: str, places: dict[str, str]) -> bytes:
    """Version 2 of Sphinx's format: four lines, then the names, compressed."""
    header = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
    header += "# The remainder of this file is compressed using zlib.\n"
    names = "".join(f"{name} py:class 1 {place} -\n" for name, place in places.items())
    return header.encode() + zlib.compress(names.encode(), 9)


if __name__ == "__main__":
    for project, places in INVENTORIES.items():
        (Path(__file__).parent / f"{project}.inv").write_bytes(inventory(project, places))
