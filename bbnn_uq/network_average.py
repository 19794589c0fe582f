"""What all predictives have in common: networks in groups, and a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np

from bbnn_uq._html import html_block, html_table
from bbnn_uq.npz_file import reading_npz, write_npz

__all__ = ["NetworkAverage"]

_Average = TypeVar("_Average", bound="NetworkAverage")


class NetworkAverage:
    """An average over S networks, of which network s is in group s mod G when they are grouped.

    Subclasses are frozen dataclasses with the fields below, and say what their arrays are.
    """

    num_samples: int
    seed: int | None
    method: str
    metadata: dict[str, Any]
    group_sums: dict[str, np.ndarray]

    _ARRAYS: ClassVar[tuple[str, ...]]  # fields that are arrays, by their names in the file
    _REQUIRED: ClassVar[tuple[str, ...]]  # those that cannot be None

    @property
    def num_groups(self) -> int:
        """Number of groups G of networks; 0 when they were not grouped."""
        return next((len(values) for values in self.group_sums.values()), 0)

    def of_groups(self: _Average, groups: Iterable[int]) -> _Average:
        """The predictive of the networks of some groups alone, without kept samples.

        Args:
            groups: numbers in [0, G), at least one; the order does not matter.

        Raises:
            ValueError: there are no such groups.
        """
        raise NotImplementedError

    @cached_property
    def leave_out(self: _Average) -> tuple[_Average, ...]:
        """Number g is the predictive of all networks but those of group g; empty without groups."""
        every = range(self.num_groups)
        return tuple(self.of_groups(set(every) - {g}) for g in every)

    def _per_input(self) -> dict[str, np.ndarray]:
        """What :meth:`to_frame` of a subclass tabulates by name; inputs are the first axis."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """A notebook's display: how each number is distributed over the inputs."""
        rows = []
        for name, values in self._per_input().items():
            if "@" not in name:  # a table to look at; those at other temperatures are many
                low, median, high = np.quantile(values, (0.05, 0.5, 0.95))
                numbers = (float(values.mean()), low, median, high)
                rows.append([name, *(f"{number:.4g}" for number in numbers)])
        columns = ["over inputs", "mean", "5 %", "median", "95 %"]
        return html_block(html_table(self._headline(), columns, rows))

    def _headline(self) -> str:
        networks = "mode" if self.method == "mode" else f"{self.num_samples:,} networks"
        dataset = self.metadata.get("dataset")
        parts = [type(self).__name__, self._size(), networks, dataset]
        return ", ".join(str(part) for part in parts if part is not None)

    def _size(self) -> str:
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """What is no array, as JSON values."""
        return {
            "num_samples": self.num_samples,
            "seed": self.seed,
            "method": self.method,
            "metadata": self.metadata,
        }

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by their names in the file.

        Inputs are the first axis; the second of ``samples`` and of ``groups/…``, but for
        ``groups/num_networks``, which has none.
        """
        arrays = {key: getattr(self, key) for key in self._ARRAYS}
        arrays |= {f"groups/{name}": values for name, values in self.group_sums.items()}
        return {key: values for key, values in arrays.items() if values is not None}

    @classmethod
    def from_arrays(
        cls: type[_Average], arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]
    ) -> _Average:
        """From what :meth:`to_arrays` and :meth:`about` gave.

        Raises:
            KeyError: an array is missing.
        """
        fields: dict[str, Any] = {key: arrays.get(key) for key in cls._ARRAYS}
        fields |= {key: arrays[key] for key in cls._REQUIRED}
        groups = [key for key in arrays if key.startswith("groups/")]
        fields["group_sums"] = {key.removeprefix("groups/"): arrays[key] for key in groups}
        return cls(**fields, **cls._further_fields(arrays), **about)

    @classmethod
    def _further_fields(cls, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        del arrays
        return {}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to an ``.npz`` file, whole or not at all.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from bbnn_uq import Predictive
            >>> path = Path(tempfile.mkdtemp()) / "predictive.npz"
            >>> Predictive.from_probs([[0.25, 0.75]]).save(path)
            >>> Predictive.load(path).probs
            array([[0.25, 0.75]])
        """
        write_npz(path, self.to_arrays(), self.about())

    @classmethod
    def load(cls: type[_Average], path: str | os.PathLike[str]) -> _Average:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is truncated, or no file of :meth:`save`.
        """
        with reading_npz(path, f"{cls.__name__}.save") as (arrays, about):
            return cls.from_arrays(arrays, about)
