"""Corruptions of inputs, for studies of uncertainty under a shift that grows: ``corrupt``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32

from bbnn_uq._checks import check_choice, check_count, check_real_array, check_seed
from bbnn_uq.data.arrays import ArrayData, as_slice, check_range, checked_inputs

__all__ = ["CORRUPTIONS", "check_corruption", "corrupt", "corrupted", "range_of"]

CORRUPTIONS: dict[str, tuple[float, ...]] = {
    # Degrees. Ovadia et al. 2019 turn MNIST in steps of 15 degrees.
    "rotation": (15.0, 30.0, 45.0, 60.0, 75.0),
    # Standard deviation of the Gaussian as a share of the shorter side. Our choice: Hendrycks and
    # Dietterich give pixels, for two sizes (up to 1 of 32 and 6 of 224).
    "blur": (0.03, 0.06, 0.09, 0.12, 0.15),
    # Standard deviation as a share of the value range. Hendrycks and Dietterich, ImageNet-C.
    "noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    # What is left of every pixel's distance from the mean. The same source.
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
}
"""What ``corrupt`` can do: by kind, its parameter at severities 1 to 5."""

_BLOCK = 512
_Range = tuple[float, float]


def corrupt(
    x: Any,
    kind: Any,
    severity: Any,
    *,
    value_range: Any = (0.0, 1.0),
    seed: Any = 0,
    first_index: Any = 0,
) -> Float32[np.ndarray, "inputs ..."]:
    """Inputs turned, blurred, made noisy or paler, by one of five degrees.

    With p the parameter of ``CORRUPTIONS[kind]`` at the severity, and low and high the ends of the
    value range:

    - ``rotation``: each image is turned counterclockwise by p degrees about its middle, by linear
      interpolation; what comes in from outside is low.
    - ``blur``: a Gaussian of standard deviation p · min(H, W) pixels, mirrored at the edges.
    - ``noise``: x + p (high − low) z with z standard normal, drawn for each image from (seed,
      index) alone. One seed gives the same z at every severity.
    - ``contrast``: m + p (x − m) with m the mean of each channel of the image.

    Images are clipped to the value range in the end. The result for one image depends on that
    image, its index and the arguments, to the last bit: not on the others or their order.

    Source: D. Hendrycks, T. Dietterich, Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations (2019, arXiv 1903.12261); Y. Ovadia et al., Can You Trust Your
    Model's Uncertainty? (2019, arXiv 1906.02530). Where the parameters are from stands beside
    ``CORRUPTIONS``.

    Args:
        x: images (N, C, H, W). Inputs of any other shape (N, ...) can have ``noise``, which then
            is not clipped.
        kind: one of ``CORRUPTIONS``.
        severity: 1 (slight) to 5.
        value_range: (low, high) of the images, such as black and white.
        seed: of the noise.
        first_index: number of the first input in its data set, where ``x`` is a part of it.

    Returns:
        The corrupted inputs, a new array.

    Raises:
        ValueError: the kind is unknown or not for inputs of this shape, the severity is none, or
            inputs are not finite or lie far outside the value range.
        TypeError: an argument is of another type.

    Example:
        >>> edge = np.zeros((1, 1, 8, 8))
        >>> edge[..., 4:] = 1
        >>> corrupt(edge, "contrast", 3)[0, 0, 0]
        array([0.4, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.6], dtype=float32)
    """
    array = check_real_array(x, "x").astype(np.float32)
    if array.ndim < 2:
        raise ValueError(f"x must have shape (N, ...), one row per input, got {array.shape}")
    check_corruption(kind, severity)
    _check_shape(kind, array.shape, "x")
    indices = range(check_count(first_index, "first_index", minimum=0), first_index + len(array))
    ends = check_range(value_range)
    return _corrupt(array, kind, severity, ends, check_seed(seed), indices)


def check_corruption(kind: Any, severity: Any) -> None:
    """Raise the error of a corruption that is none."""
    check_choice(kind, "kind of corruption", CORRUPTIONS)
    if isinstance(severity, str) or check_count(severity, "severity") > 5:
        raise ValueError(f"severity must be an integer from 1 to 5, got {severity!r}")


def _check_shape(kind: str, shape: tuple[int, ...], what: str) -> None:
    if kind != "noise" and len(shape) != 4:
        raise ValueError(
            f"{kind} is for images (N, C, H, W), {what} has shape {shape}; use noise, or give "
            "grey images an axis for their one channel"
        )


def corrupted(
    data: ArrayData, kind: str, severity: int, *, value_range: _Range, seed: int
) -> ArrayData:
    """A data set whose inputs are corrupted: now where they are in memory, else as they are read.

    Args:
        data: the data set; labels and names of classes stay.
        kind: as for :func:`corrupt`.
        severity: as for :func:`corrupt`.
        value_range: as for :func:`corrupt`.
        seed: as for :func:`corrupt`.
    """
    check_corruption(kind, severity)
    _check_shape(kind, data.x.shape, data.name)
    name = f"{data.name}+{kind}@{severity}"
    read = partial(_read, data.x, data.name, kind, severity, value_range, seed)
    if isinstance(data.x, np.ndarray) and not isinstance(data.x, np.memmap):
        return replace(data, name=name, x=read(range(len(data.x))))
    from bbnn_uq.data.lazy import LazyInputs  # late: it loads torch

    return replace(data, name=name, x=LazyInputs(data.x.shape, read))


def range_of(x: Any) -> _Range:
    """Smallest and largest value of inputs, in one pass where they are not in memory."""
    blocks = (np.asarray(x[i : i + _BLOCK]) for i in range(0, len(x), _BLOCK))
    ends = [(float(block.min()), float(block.max())) for block in blocks]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _read(
    x: Any, name: str, kind: str, severity: int, ends: _Range, seed: int, rows: range
) -> Float32[np.ndarray, "inputs ..."]:
    where = f"{name}, from input {rows[0]} to {rows[-1]},"
    block = checked_inputs(np.asarray(x[as_slice(rows)]), where)
    return _corrupt(block, kind, severity, ends, seed, rows)


def _corrupt(
    x: Float32[np.ndarray, "inputs ..."],
    kind: str,
    severity: int,
    ends: _Range,
    seed: int,
    indices: range,
) -> Float32[np.ndarray, "inputs ..."]:
    """The corrupted inputs, one after the other: sums over several would round by their number."""
    low, high = ends
    images = x.ndim == 4
    if images and not (2 * low - high <= x.min() and x.max() <= 2 * high - low):
        raise ValueError(
            f"images have values from {x.min():g} to {x.max():g}, far outside value_range {ends}; "
            "name the range that they fill, or bring them to it"
        )
    change: Callable[..., np.ndarray] = _KINDS[kind]
    amount = CORRUPTIONS[kind][severity - 1]
    result = np.empty_like(x, order="C")
    for place, index in enumerate(indices):
        result[place] = change(np.ascontiguousarray(x[place]), amount, ends, (seed, index))
    return np.clip(result, low, high, out=result) if images else result


def _rotate(image: np.ndarray, degrees: float, ends: _Range, _key: Any) -> np.ndarray:
    from scipy.ndimage import rotate

    # "constant" would not interpolate across the border, and lose pixels that lie partly inside.
    return rotate(
        image, degrees, axes=(1, 2), reshape=False, order=1, mode="grid-constant", cval=ends[0]
    )


def _blur(image: np.ndarray, share: float, _ends: _Range, _key: Any) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    sigma = share * min(image.shape[1:])
    return gaussian_filter(image, (0.0, sigma, sigma), mode="reflect")


def _add_noise(x: np.ndarray, share: float, ends: _Range, key: tuple[int, int]) -> np.ndarray:
    normal = np.random.default_rng(key).standard_normal(x.shape)
    return x + share * (ends[1] - ends[0]) * normal


def _reduce_contrast(image: np.ndarray, share: float, _ends: _Range, _key: Any) -> np.ndarray:
    mean = image.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    return mean + share * (image - mean)


_KINDS = {"rotation": _rotate, "blur": _blur, "noise": _add_noise, "contrast": _reduce_contrast}
