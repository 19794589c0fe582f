"""Evaluation folders as they are read back: what a run was measured on, and what it predicted."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bbnn_uq import metrics
from bbnn_uq._checks import check_labels, check_probs, check_scores
from bbnn_uq._files import as_text
from bbnn_uq.npz_file import map_npz
from bbnn_uq.report_files import safe_names

__all__ = ["Method", "Run", "default_names", "read_run"]

_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Run:
    """One evaluation folder: ``report.json``, and the arrays of ``scores.npz`` left on disk.

    Args:
        folder: where it was read from.
        facts: ``report.json``.
        probs: (N, C) of the ID set.
        labels: (N,) of the ID set.
        scores: ``id`` or ``ood/NAME`` → score name → (N,), in the order of the report.
    """

    folder: str
    facts: dict[str, Any]
    probs: Float64[np.ndarray, "inputs classes"]
    labels: Int64[np.ndarray, "inputs"]
    scores: dict[str, dict[str, np.ndarray]]

    @property
    def dataset(self) -> str:
        """Name of the ID set."""
        return self.facts["id"]["dataset"]

    @property
    def sets(self) -> list[str]:
        """Names of the OOD sets."""
        return list(self.facts["ood"])

    def scores_of(self, set_: str) -> list[str]:
        """Names of the scores against an OOD set, in the order that they were asked for."""
        return list(self.scores["ood/" + set_])

    def mc_error(self, *path: str) -> float | None:
        """The Monte Carlo error that the report states of the number there, where it does."""
        entry: Any = self.facts
        for key in path:
            entry = entry.get(key) if isinstance(entry, dict) else None
        error = entry.get("mc_error") if isinstance(entry, dict) else None
        usable = isinstance(error, float) and math.isfinite(error)
        return error if usable else None

    def other_inputs(self, other: Run) -> str | None:
        """Why the ID inputs of the two are not the same; None when they are."""
        if self.probs.shape[1] != other.probs.shape[1]:
            return f"{self.probs.shape[1]} classes against {other.probs.shape[1]}"
        differ = _other_set(self.facts["id"], other.facts["id"])
        if differ is None and not np.array_equal(self.labels, other.labels):
            differ = "other labels"
        return differ

    def other_ood_inputs(self, other: Run, set_: str) -> str | None:
        """Why the inputs of an OOD set of both are not the same; None when they are."""
        return _other_set(self.facts["ood"][set_], other.facts["ood"][set_])


def _other_set(entry: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    if entry["n"] != other["n"]:
        return f"{entry['n']:,} inputs against {other['n']:,}"
    prints = entry.get("fingerprint"), other.get("fingerprint")
    # Without both, the count (and, of an ID set, the labels) has to do.
    return "other inputs" if None not in prints and prints[0] != prints[1] else None


@dataclass(frozen=True, eq=False)
class Method:
    """What is compared: one run, or several that differ by their training seed alone.

    Raises:
        ValueError: the runs were not measured on the same inputs.
    """

    name: str
    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        first = self.runs[0]
        for run in self.runs[1:]:
            sets = {set_: run.other_ood_inputs(first, set_) for set_ in self.sets}
            for set_, differ in {first.dataset: run.other_inputs(first), **sets}.items():
                if differ is not None:
                    raise ValueError(
                        f"the runs of {self.name!r} were not measured on the same {set_!r}: "
                        f"{run.folder!r} has {differ} of {first.folder!r}; a group holds runs "
                        "that differ by their training seed alone"
                    )

    @property
    def sets(self) -> list[str]:
        """Names of the OOD sets that all its runs have."""
        return [s for s in self.runs[0].sets if all(s in run.sets for run in self.runs)]

    def scores_of(self, set_: str) -> list[str]:
        """Names of the scores that all its runs have against an OOD set."""
        if set_ not in self.sets:
            return []
        first, *others = (run.scores_of(set_) for run in self.runs)
        return [score for score in first if all(score in names for names in others)]


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read an evaluation folder; large arrays stay on disk.

    Raises:
        ValueError: there is no such folder, it holds no report, or the files are damaged, of
            another schema or not of one report.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(_no_folder(path))
    facts = _read_facts(path)
    file = path / "scores.npz"
    try:
        arrays = map_npz(file)
        run = _run_of(as_text(folder), facts, arrays)
    except FileNotFoundError:
        raise ValueError(
            f"{str(path)!r} holds a report.json without scores.npz; evaluate again, or copy both"
        ) from None
    except KeyError as error:
        raise ValueError(
            f"{str(file)!r} lacks {error}, which report.json beside it names; evaluate again"
        ) from None
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"{str(file)!r} cannot be used: {error or 'it is too large'}; evaluate again"
        ) from None
    _check_one_report(run)
    return run


def _no_folder(path: Path) -> str:
    if path.exists():
        return f"{str(path)!r} is a file; name the evaluation folder that holds report.json"
    siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, siblings, n=1)
    hint = f"; did you mean {str(path.parent / near[0])!r}?" if near else "; check the path"
    return f"there is no folder {str(path)!r}{hint}"


def _read_facts(folder: Path) -> dict[str, Any]:
    file = folder / "report.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        json.dumps(facts, ensure_ascii=False).encode()  # half a character cannot be written again
    except FileNotFoundError:
        raise ValueError(
            f"{str(folder)!r} holds no report.json; bbnn-uq ood and evaluate write one, and "
            "Report.save"
        ) from None
    except (ValueError, RecursionError):  # UnicodeError and JSONDecodeError are ValueErrors
        raise ValueError(f"{str(file)!r} is damaged or is no JSON; evaluate again") from None
    schema = facts.get("schema") if isinstance(facts, dict) else None
    if schema != _SCHEMA:
        raise ValueError(
            f"{str(file)!r} has schema {schema!r}, and this version reads {_SCHEMA}; evaluate "
            "again, or install the version of bbnn-uq that wrote it"
        )
    if not _is_report(facts):
        raise ValueError(f"{str(file)!r} is no report of bbnn-uq; evaluate again")
    return facts


def _is_report(facts: dict[str, Any]) -> bool:
    """Whether all is there that is read from it without a further look."""
    inside, ood = facts.get("id"), facts.get("ood")
    if not isinstance(inside, dict) or not isinstance(ood, dict):
        return False
    entries = [inside, *ood.values()]
    return isinstance(inside.get("dataset"), str) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("n"), int)
        and isinstance(entry.get("fingerprint", ""), str | None)
        and (entry is inside or isinstance(entry.get("scores"), dict))
        for entry in entries
    )


def _run_of(folder: str, facts: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Run:
    def scores(prefix: str, names: Sequence[str], count: int) -> dict[str, np.ndarray]:
        found = {
            name: check_scores(arrays[f"{prefix}/{name}"], f"{prefix}/{name}") for name in names
        }
        for name, values in found.items():
            if len(values) != count:
                raise ValueError(f"{prefix}/{name} has {len(values)} entries, the report {count}")
        return found

    probs = check_probs(arrays["id/probs"], "id/probs")
    num_inputs, num_classes = probs.shape
    if num_inputs != facts["id"]["n"]:
        raise ValueError(f"id/probs has {num_inputs} inputs, the report {facts['id']['n']}")
    labels = check_labels(
        arrays["id/labels"], num_inputs=num_inputs, num_classes=num_classes, name="id/labels"
    )
    # A score of the report may be one that only some sets have.
    every = dict.fromkeys(name for entry in facts["ood"].values() for name in entry["scores"])
    table = {"id": scores("id", list(every), num_inputs)}
    for set_, safe in safe_names(facts["ood"]).items():
        entry = facts["ood"][set_]
        table["ood/" + set_] = scores(f"ood/{safe}", list(entry["scores"]), entry["n"])
    return Run(folder, facts, probs, labels, table)


def _check_one_report(run: Run) -> None:
    """Whether both files are of one report: copying or an interrupt may have mixed two."""
    stated = run.facts["id"].get("accuracy")
    value = stated.get("value") if isinstance(stated, dict) else None
    found = metrics.accuracy(run.probs, run.labels)
    if not isinstance(value, int | float) or abs(value - found) > 1e-9:
        raise ValueError(
            f"report.json and scores.npz of {run.folder!r} are not of one report: they have "
            f"accuracy {value!r} and {found!r}; evaluate again"
        )


def default_names(folders: Sequence[Any]) -> list[str]:
    """The last part of each path, and as many before it as tell the folders apart.

    Raises:
        ValueError: a folder stands there twice.

    Example:
        >>> default_names(["runs/a/ood", "runs/b/ood"])
        ['a/ood', 'b/ood']
    """
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    for place, each in enumerate(parts):
        if each in parts[:place]:
            raise ValueError(
                f"the folder {os.fspath(folders[place])!r} is given twice; name each run once"
            )
    names = []
    for each in parts:
        others = [other for other in parts if other != each]
        lengths = range(1, len(each) + 1)
        tail = next((n for n in lengths if all(o[-n:] != each[-n:] for o in others)), len(each))
        names.append(as_text("/".join(each[-tail:])))
    return names
