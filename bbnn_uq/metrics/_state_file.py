"""Files of what an accumulator has kept: named arrays and whole numbers, without pickle."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from bbnn_uq._files import atomic_path

__all__ = ["check_arrays", "read_state", "write_state"]

_VERSION = 1
# NotImplementedError and RuntimeError are zipfile's, for a compression it does not know and for a
# password; OSError is that of a seek to nowhere; TypeError comes of a file with one array alone.
_FAULTS = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip


@runtime_checkable
class _Accumulator(Protocol):
    def add_state(self, state: Mapping[str, np.ndarray]) -> None: ...


A = TypeVar("A", bound=_Accumulator)


def write_state(
    path: str | os.PathLike[str],
    kind: str,
    settings: Mapping[str, int],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Write the state of a ``kind`` of accumulator, whole or not at all.

    Example:
        >>> import tempfile
        >>> from bbnn_uq.metrics.score_histogram import ScoreHistogram
        >>> path = f"{tempfile.mkdtemp()}/scores.npz"
        >>> empty = ScoreHistogram(mantissa_bits=7)
        >>> write_state(path, "ScoreHistogram", {"mantissa_bits": 7}, empty.state())
        >>> read_state(path, ScoreHistogram)
        ScoreHistogram(mantissa_bits=7): 0 scores in 0 bins
    """
    about = {"kind": np.array(kind), "version": np.array(_VERSION)}
    numbers = {f"setting/{name}": np.array(value) for name, value in settings.items()}
    members = {**about, **numbers, **{f"array/{name}": value for name, value in arrays.items()}}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **members)


def read_state(path: str | os.PathLike[str], make: Callable[..., A]) -> A:
    """An accumulator of the class ``make`` as it was when it was written.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, of something else, or of a newer version.
    """
    name, members = repr(os.fspath(path)), _read_members(path)
    if "kind" not in members or "version" not in members:
        raise ValueError(f"{name} is no file of {make.__name__}.save")
    if str(members["kind"]) != make.__name__:
        raise ValueError(
            f"{name} is a file of {members['kind']}; load it with {members['kind']}.load"
        )
    if members["version"].shape or not members["version"] >= 1:
        raise ValueError(f"{name} is damaged: its file version is {members['version']}")
    if int(members["version"]) > _VERSION:
        raise ValueError(
            f"{name} was written by a newer bbnn_uq (file version {members['version']}, this one "
            f"reads up to {_VERSION}); upgrade to read it"
        )
    try:
        accumulator = make(**_under(members, "setting/", int))
        accumulator.add_state(_under(members, "array/", np.asarray))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is damaged: {error}; write it again") from error
    return accumulator


def _under(members: Mapping[str, np.ndarray], prefix: str, read: Callable[..., Any]) -> dict:
    return {
        name.removeprefix(prefix): read(value)
        for name, value in members.items()
        if name.startswith(prefix)
    }


def _read_members(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    # np.load leaves a file of its own open when the file is damaged; this one closes.
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as loaded:
                return {name: loaded[name] for name in loaded.files}
        except _FAULTS as error:
            raise ValueError(
                f"{os.fspath(path)!r} is damaged or is no .npz file: {error}; write it again"
            ) from error


def check_arrays(
    state: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray], *, any_length: bool = False
) -> dict[str, np.ndarray]:
    """The arrays of ``state`` if they have the names, the dtypes and the shapes of ``own``."""
    if set(state) != set(own):
        raise ValueError(
            f"state must hold the arrays {', '.join(sorted(own))}, "
            f"got {', '.join(sorted(state)) or 'none'}"
        )
    arrays = {name: np.asarray(state[name]) for name in own}
    for name, like in own.items():
        got = arrays[name]
        fits = got.ndim == like.ndim if any_length else got.shape == like.shape
        if got.dtype != like.dtype or not fits:
            raise ValueError(
                f"state[{name!r}] must be a {like.ndim}-dimensional array of {like.dtype}"
                f"{'' if any_length else f' and of shape {like.shape}'}, "
                f"got shape {got.shape} of {got.dtype}"
            )
    return arrays
