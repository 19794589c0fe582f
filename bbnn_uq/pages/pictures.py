"""Inputs as pictures: PNG files within the page."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np

__all__ = ["MOST_PIXELS", "picture_uris"]

MOST_PIXELS = 112
"""Longest side of a picture in the page, in pixels; larger inputs are scaled down to it."""

_LEAST_PIXELS = 4  # a side shorter than this is rather a table of features than a picture


def picture_uris(inputs: Sequence[np.ndarray]) -> list[str] | None:
    """Each input as the ``data:`` address of a PNG, or None when they are not pictures.

    Pictures are grey (H, W), (1, H, W) or (H, W, 1), or in colour (3, H, W) or (H, W, 3), with
    sides of at least 4 pixels. All are shown on one scale, so that they can be compared: [0, 1]
    where all values lie in it, [0, 255] for bytes, and otherwise from the lowest value (0 when
    none is negative) to the highest.

    Args:
        inputs: of one set; values that are not finite are shown as the lowest.

    Example:
        >>> grey = np.linspace(0, 1, 64).reshape(1, 8, 8)
        >>> picture_uris([grey])[0][:22]
        'data:image/png;base64,'
        >>> picture_uris([np.zeros(20)]) is None
        True
    """
    pixels = [_as_pixels(each) for each in inputs]
    if not pixels or any(each is None for each in pixels):
        return None
    known = [each for each in pixels if each is not None]
    low, high = _scale(known, inputs[0].dtype)
    return [_png(each, low, high) for each in known]


def _as_pixels(array: np.ndarray) -> np.ndarray | None:
    """Rows × columns, or rows × columns × 3, in float64; None for anything else."""
    if array.dtype.kind not in "fiub":
        return None
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    colour = array.ndim == 3 and array.shape[2] == 3
    if not (colour or array.ndim == 2) or min(array.shape[:2]) < _LEAST_PIXELS:
        return None
    return array.astype(np.float64)


def _scale(pixels: Sequence[np.ndarray], dtype: np.dtype) -> tuple[float, float]:
    if dtype == np.uint8:
        return 0.0, 255.0
    finite = [each[np.isfinite(each)] for each in pixels]
    low = min((float(each.min()) for each in finite if each.size), default=0.0)
    high = max((float(each.max()) for each in finite if each.size), default=1.0)
    if low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return min(low, 0.0), high


def _png(pixels: np.ndarray, low: float, high: float) -> str:
    from PIL import Image

    span = high - low if high > low else 1.0
    shown = np.nan_to_num((pixels - low) / span, nan=0.0, posinf=0.0, neginf=0.0)
    image = Image.fromarray(np.rint(255.0 * np.clip(shown, 0.0, 1.0)).astype(np.uint8))
    shrink = MOST_PIXELS / max(image.size)
    if shrink < 1.0:
        width, height = (max(1, math.floor(shrink * side)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    buffer = BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
