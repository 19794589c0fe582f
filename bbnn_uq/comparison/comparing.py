"""compare: from evaluation folders to a Comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from bbnn_uq._checks import check_choice, check_count, check_fraction, check_seed
from bbnn_uq._files import as_text
from bbnn_uq._progress import progress_bar
from bbnn_uq.comparison.measures import NUM_RESAMPLES, Settings
from bbnn_uq.comparison.rows import all_rows
from bbnn_uq.comparison.runs import Method, Run, default_names, read_run
from bbnn_uq.comparison.value import Comparison

__all__ = ["compare"]


def compare(
    folders: Any,
    *,
    baseline: Any = None,
    scores: Any = None,
    num_bins: Any = 15,
    confidence_level: Any = 0.95,
    seed: Any = 0,
    progress: bool = False,
) -> Comparison:
    """Compare evaluation folders: each number of each run, and its difference to a baseline's.

    Everything is computed anew from ``scores.npz``, so that reports made with other bins or levels
    compare. Differences are taken on the same inputs only: the same fingerprint where both reports
    state one, else the same number, and for the ID set the same labels in the same order. Where
    inputs differ, values stand side by side without a difference.

    Of two single runs, differences have paired bootstrap intervals over inputs, and tests of no
    difference: McNemar's exact test for accuracy, paired t tests of the losses by input for NLL and
    Brier score, DeLong's test for AUROC. These say nothing of another training seed. Several runs
    that differ by their training seed alone make one group; of two groups, differences are between
    means over runs, with Welch's intervals and t tests of the same four metrics, and say nothing
    of other inputs. A single run against a group gives a difference without either.

    Holm's correction is over all tests of the comparison; ``scores`` makes them fewer.

    Args:
        folders: evaluation folders, at least two; or name → folder, or folders of one group.
        baseline: name or folder of what the others are compared with; the first when not given.
        scores: names of the OOD scores to compare; all that some report has when not given.
        num_bins: bins of the ECE and of the class-wise ECE.
        confidence_level: of all intervals, in (0, 1).
        seed: of the bootstrap.
        progress: whether to show a bar on a terminal.

    Returns:
        The :class:`Comparison`.

    Raises:
        ValueError: fewer than two runs or groups, a folder that holds no usable report, a group
            whose runs were not measured on the same inputs, or an unknown baseline or score.
        TypeError: an argument of another kind.

    Example:
        >>> import tempfile
        >>> from bbnn_uq import Predictive, evaluate
        >>> folder = tempfile.mkdtemp()
        >>> for name, p in (("sure", 0.9), ("unsure", 0.6)):
        ...     report = evaluate(Predictive.from_probs([[p, 1 - p], [1 - p, p]]), [0, 1])
        ...     _ = report.save(f"{folder}/{name}")
        >>> comparison = compare([f"{folder}/sure", f"{folder}/unsure"])
        >>> row = comparison.to_frame().query("method == 'unsure' and metric == 'nll'").iloc[0]
        >>> f"{row['difference']:.4f}"
        '0.4055'
    """
    settings = Settings(
        num_bins=check_count(num_bins, "num_bins"),
        confidence_level=check_fraction(confidence_level, "confidence_level"),
        seed=check_seed(seed),
    )
    groups = _named_folders(folders)
    first = _baseline_name(baseline, groups)
    methods = [
        Method(name, tuple(read_run(folder) for folder in groups[name]))
        for name in [first, *(name for name in groups if name != first)]
    ]
    chosen = _chosen_scores(scores, methods)
    steps = len(methods) + sum(
        len([s for s in method.scores_of(set_) if chosen is None or s in chosen])
        for method in methods
        for set_ in method.sets
    )
    with progress_bar("compare", steps, enabled=progress) as advance:
        rows = all_rows(methods, settings, chosen, lambda note: advance(1, note))
    return Comparison(
        baseline=first,
        methods={method.name: _about(method, methods[0]) for method in methods},
        rows=rows,
        settings={
            "num_bins": settings.num_bins,
            "confidence_level": settings.confidence_level,
            "num_resamples": NUM_RESAMPLES,
            "seed": settings.seed,
            "scores": chosen,
        },
        notes=_notes(methods, settings),
    )


def _named_folders(folders: Any) -> dict[str, list[Any]]:
    """Method name → its folders."""
    if isinstance(folders, Mapping):
        groups = {
            as_text(_path(name)): [_path(p) for p in _listed(folder)]
            for name, folder in folders.items()
        }
    else:
        paths = [_path(folder) for folder in _listed(folders)]
        groups = {name: [path] for name, path in zip(default_names(paths), paths, strict=True)}
    for name, paths in groups.items():
        if not paths or not name:
            raise ValueError(f"folders[{name!r}] names no folder; give each a name and a folder")
        default_names(paths)  # none of them twice: it would pass for another seed
    if len(groups) < 2:
        raise ValueError(f"folders names {len(groups)} run or group; comparing takes at least two")
    return groups


def _listed(folders: Any) -> list[Any]:
    if isinstance(folders, (str, os.PathLike)):
        return [folders]
    if not isinstance(folders, Sequence):
        raise TypeError(
            "folders must be a list of evaluation folders or a dictionary name -> folder, got "
            f"{type(folders).__name__}"
        )
    return list(folders)


def _path(folder: Any) -> Any:
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(
            f"folders must hold paths of evaluation folders, got {type(folder).__name__}; "
            "Report.save writes one"
        )
    return folder


def _baseline_name(baseline: Any, groups: Mapping[str, Sequence[Any]]) -> str:
    if baseline is None:
        return next(iter(groups))
    if baseline in groups:
        return baseline
    if isinstance(baseline, (str, os.PathLike)):
        for name, paths in groups.items():
            if Path(baseline).absolute() in [Path(path).absolute() for path in paths]:
                return name
    return check_choice(baseline, "baseline", groups)


def _chosen_scores(scores: Any, methods: Sequence[Method]) -> list[str] | None:
    if scores is None:
        return None
    if isinstance(scores, str) or not isinstance(scores, Sequence):
        raise TypeError(f"scores must be a list of names, got {scores!r}")
    offered = dict.fromkeys(
        score for method in methods for set_ in method.sets for score in method.scores_of(set_)
    )
    if not offered:
        raise ValueError("scores cannot be chosen: none of the reports is against an OOD set")
    if not scores:
        raise ValueError(f"scores is empty; name at least one of {', '.join(offered)}")
    return list(dict.fromkeys(check_choice(score, "scores", offered) for score in scores))


def _about(method: Method, baseline: Method) -> dict[str, Any]:
    run = method.runs[0]
    return {
        "dataset": run.dataset,
        "n": len(run.labels),
        "num_classes": run.probs.shape[1],
        "fingerprint": run.facts["id"].get("fingerprint"),
        "other_inputs": run.other_inputs(baseline.runs[0]),
        "ood": {
            set_: len(next(iter(run.scores["ood/" + set_].values()), ())) for set_ in method.sets
        },
        "runs": [_about_run(each) for each in method.runs],
    }


def _about_run(run: Run) -> dict[str, Any]:
    inference = run.facts.get("inference")
    stated = inference if isinstance(inference, dict) else {}
    kinds = {"num_samples": int, "method": str, "precision": str, "seed": int}
    known = {key: stated.get(key) for key in kinds}
    return {"folder": run.folder} | {
        key: value if isinstance(value, kinds[key]) else None for key, value in known.items()
    }


def _notes(methods: Sequence[Method], settings: Settings) -> list[str]:
    """What to know before quoting a number."""
    level = f"{100 * settings.confidence_level:g} %"
    sizes = [len(method.runs) for method in methods]
    notes, tests = [], []
    if min(sizes) == 1:
        tests.append(
            "McNemar's exact test for accuracy, paired t tests of the losses by input for NLL and "
            "Brier score, DeLong's test for AUROC"
        )
        notes.append(
            f"Intervals ({level}) and tests of single runs are over test inputs. They say nothing "
            "of another training seed; for that, compare groups of runs, NAME=DIR,DIR,…."
        )
    if max(sizes) > 1:
        tests.append("Welch's t tests for accuracy, NLL, Brier score and AUROC of groups")
        notes.append(
            f"Intervals ({level}) and tests of groups are over runs, on the same test inputs. They "
            "say nothing of other inputs. What follows ± is the standard error over runs."
        )
    if min(sizes) == 1 < max(sizes):
        notes.append("Between a single run and a group there is no interval and no test.")
    return [
        *notes,
        f"Tests: {'; '.join(tests)}. p (Holm) is corrected over all tests of this comparison; "
        "intervals are not corrected for their number.",
        "Whatever was picked by looking at these numbers, be it a score, a metric or a run, is "
        "exploratory: its p-value is too small, corrected or not.",
        *_notes_on_inputs(methods),
        *_notes_on_settings(methods, settings),
    ]


def _notes_on_inputs(methods: Sequence[Method]) -> list[str]:
    runs = [run for method in methods for run in method.runs]
    notes = [
        f"{method.name} was not measured on the inputs of {methods[0].name} ({why}), so that its "
        "values stand without differences."
        for method in methods[1:]
        if (why := method.runs[0].other_inputs(methods[0].runs[0])) is not None
    ]
    notes += [
        f"Two runs of {method.name} predict the same to the last bit. If they had one training "
        "seed, they are no two runs."
        for method in methods
        if any(np.array_equal(a.probs, b.probs) for a, b in combinations(method.runs, 2))
    ]
    entries = [entry for run in runs for entry in (run.facts["id"], *run.facts["ood"].values())]
    if any(entry.get("fingerprint") is None for entry in entries):
        notes.append(
            "Some reports state no fingerprint of their inputs. Those count as the same inputs in "
            "the same order where their number and, of the ID set, their labels agree."
        )
    return notes


def _notes_on_settings(methods: Sequence[Method], settings: Settings) -> list[str]:
    ours = {"num_bins": settings.num_bins, "confidence_level": settings.confidence_level}
    theirs = [run.facts.get("settings") for method in methods for run in method.runs]
    if all(isinstance(each, dict) and ours.items() <= each.items() for each in theirs):
        return []
    return [
        "Some reports were made with another number of bins or another level. Here, everything "
        f"was computed anew with {settings.num_bins} bins at {100 * settings.confidence_level:g} %."
    ]
