"""Predictions that were written to files: by ``bbnn-uq predict``, or by anything with NumPy."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bbnn_uq._checks import check_labels, check_probs
from bbnn_uq._files import as_text
from bbnn_uq.cli.options import DEMO_SCORES, score_names
from bbnn_uq.data import ArrayData
from bbnn_uq.npz_file import arrays_of_npz
from bbnn_uq.predictive import Predictive
from bbnn_uq.report import Report, evaluate

__all__ = ["Predictions", "evaluate_files", "read_predictions"]

_HOW_TO_WRITE = "write np.savez(path, probs=probs, labels=labels)"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a file holds.

    Args:
        predictive: of its N inputs.
        labels: (N,), where they were asked for.
        inputs: the inputs themselves, for pictures in the report.
        class_names: one for each class.
    """

    predictive: Predictive
    labels: np.ndarray | None
    inputs: np.ndarray | None
    class_names: tuple[str, ...] | None


def evaluate_files(
    predictions: Path, ood_predictions: Sequence[Path], scores: str | None, **options: Any
) -> Report:
    """The report of predictions in files; an OOD set is named after its file.

    Args:
        predictions: file of the ID set, with labels.
        ood_predictions: files of OOD sets.
        scores: names with commas between them; None for those of ``ood`` that all files offer.
        options: further ones of it.

    Raises:
        ValueError: a file is missing or does not hold what it should, or two OOD files share a
            name.
    """
    inside = read_predictions(predictions, labelled=True)
    outside: dict[str, Predictions] = {}
    for path in ood_predictions:
        name = as_text(path.stem)
        if name in outside:
            raise ValueError(
                f"--ood-predictions names two files called {name!r}; rename one of them"
            )
        outside[name] = read_predictions(path)
        if os.path.samefile(path, predictions):
            raise ValueError(
                f"--ood-predictions {str(path)!r} is the file of --predictions, and no score tells "
                "a set from itself; name another file"
            )
    every = [inside.predictive, *(each.predictive for each in outside.values())]
    wanted = _offered(every) if scores is None else score_names(scores)
    return evaluate(
        inside.predictive,
        inside.labels,
        ood={name: each.predictive for name, each in outside.items()},
        scores=wanted,
        inputs=inside.inputs,
        ood_inputs={n: each.inputs for n, each in outside.items() if each.inputs is not None},
        class_names=inside.class_names,
        **options,
    )


def _offered(predictives: Sequence[Predictive]) -> list[str]:
    """The scores that ``ood`` has by default, without those that need what a file lacks."""
    found = []
    for name in score_names(DEMO_SCORES):
        with suppress(ValueError):
            if all(np.isfinite(each.score(name)).all() for each in predictives):
                found.append(name)
    return found


def read_predictions(path: Path, *, labelled: bool = False) -> Predictions:
    """Read a file with ``probs`` (N, C) or ``samples`` (S, N, C), or one of ``bbnn-uq predict``.

    Arrays of an uncompressed file stay on disk where they can be used as they are.

    Args:
        path: of the file.
        labelled: whether to read labels, which then have to be there.

    Raises:
        ValueError: it is missing, damaged, or does not hold that. The message names the file.
    """
    file = repr(str(path))
    if path.is_dir():
        raise ValueError(f"{file} is a folder; name an .npz file with probs and labels")
    arrays = arrays_of_npz(path)
    try:
        predictive = _predictive(arrays, as_text(path.stem))
        shape = predictive.probs.shape
        labels = None
        if labelled:
            labels = check_labels(_labels(arrays), num_inputs=shape[0], num_classes=shape[1])
        inputs = arrays.get("x")
        if inputs is not None:
            predictive = _described(predictive, inputs, as_text(path.stem))
        return Predictions(predictive, labels, inputs, _class_names(arrays, shape[1]))
    except (KeyError, TypeError, ValueError) as error:
        text = str(error) if not isinstance(error, KeyError) else f"it has no {error}"
        raise ValueError(f"{file}: {text}") from None


def _predictive(arrays: dict[str, np.ndarray], name: str) -> Predictive:
    if "about" in arrays and "epistemic_std" in arrays:
        raise ValueError(
            "it holds predictions of real targets, and this report is for classes; "
            "RegressionPredictive.load and bbnn_uq.metrics measure them in Python"
        )
    stated = _about(arrays)
    if stated is not None and "probs" in arrays:
        whole = Predictive.from_arrays(arrays, stated)
        check_probs(whole.probs)
        return replace(whole, metadata={"dataset": name} | whole.metadata)
    about = {"dataset": name}
    if "samples" in arrays:
        found = Predictive.from_samples(arrays["samples"], metadata=about)
        if "probs" in arrays and not _same(arrays["probs"], found.probs):
            raise ValueError(
                "probs is not the mean of samples over its first axis; leave one of them out"
            )
        return found
    if "probs" in arrays:
        return Predictive.from_probs(arrays["probs"], metadata=about)
    remedy = f"save class probabilities (N, C) as probs: {_HOW_TO_WRITE}"
    if "logits" in arrays:
        remedy = "save softmax(logits), over the classes, as probs"
    elif "x" in arrays:
        remedy = "it looks like data, so bbnn-uq predict comes first; or " + remedy
    raise ValueError(f"it has no array 'probs' or 'samples', it holds {sorted(arrays)}; {remedy}")


def _about(arrays: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """What ``predict`` says in its files; an array of that name may be anybody's."""
    with suppress(KeyError, ValueError):
        values = json.loads(str(arrays["about"]))
        if isinstance(values, dict) and "num_samples" in values:
            return values
    return None


def _labels(arrays: dict[str, np.ndarray]) -> np.ndarray:
    if "labels" in arrays:
        return arrays["labels"]
    remedy = f"add the true class of each input, integers from 0: {_HOW_TO_WRITE}"
    if "y" in arrays:
        remedy = "if its array 'y' holds the true classes, rename it to 'labels'"
    raise ValueError(f"it has no array 'labels'; {remedy}")


def _same(probs: np.ndarray, mean: np.ndarray) -> bool:
    return probs.shape == mean.shape and np.allclose(probs, mean, atol=1e-3)


def _described(predictive: Predictive, inputs: np.ndarray, name: str) -> Predictive:
    """With the fingerprint of the inputs, by which runs can be compared pair by pair."""
    if inputs.dtype.kind not in "fiub" or inputs.ndim < 2 or len(inputs) != len(predictive.probs):
        raise ValueError(
            f"x has shape {inputs.shape} and dtype {inputs.dtype}; save the "
            f"{len(predictive.probs)} inputs in the order of probs, or leave x out"
        )
    fingerprint = {"fingerprint": ArrayData(name, inputs, None, None).fingerprint()}
    return replace(predictive, metadata=predictive.metadata | fingerprint)


def _class_names(arrays: dict[str, np.ndarray], num_classes: int) -> tuple[str, ...] | None:
    names = arrays.get("class_names")
    if names is None:
        return None
    if names.dtype.kind != "U" or names.shape != (num_classes,):
        raise ValueError(
            f"class_names has shape {names.shape} and dtype {names.dtype}; save {num_classes} "
            "strings, one for each class"
        )
    return tuple(as_text(name) for name in names.tolist())
