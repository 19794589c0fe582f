"""Predict named data into a file, and say in a few numbers what came out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from bbnn_uq import metrics
from bbnn_uq.cli.evaluation import NUM_GROUPS, of_real_targets, predict_set, temperatures_of
from bbnn_uq.data import ArrayData
from bbnn_uq.inference.parts import InParts
from bbnn_uq.npz_file import write_npz
from bbnn_uq.posterior import Posterior
from bbnn_uq.predictive import Predictive
from bbnn_uq.regression import SCORES as REAL_SCORES
from bbnn_uq.regression import RegressionPredictive

__all__ = ["predict_to_file", "summary"]


def predict_to_file(
    model: nn.Module,
    posterior: Posterior,
    data: ArrayData,
    path: Path,
    *,
    scores: Sequence[str],
    progress: bool,
    **options: Any,
) -> dict[str, Any]:
    """Predict, write everything that ``bbnn-uq evaluate`` reads, and return :func:`summary`.

    Args:
        model: the architecture.
        posterior: of its weights.
        data: the inputs; their labels and class names go into the file where they are those of
            the posterior's classes.
        path: of the ``.npz`` file.
        scores: names whose temperatures are accumulated; not used with real targets.
        progress: whether to show a bar on a terminal.
        options: as :func:`bbnn_uq.predict` takes them.
    """
    if of_real_targets(posterior):
        scores = REAL_SCORES
    else:
        options["score_temperatures"] = temperatures_of(scores)
    groups = NUM_GROUPS if options.get("method") != "mode" else 1
    parts = InParts(model, posterior, num_inputs=len(data.x), num_groups=groups, **options)
    # Beside the file, which may need all the room that there is on its disk.
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=f".{path.stem[:40]}.", ignore_cleanup_errors=True
    ) as folder:
        result = predict_set(parts, data, Path(folder), data.name if progress else False)
        further = _labels(result, data)
        write_npz(path, result.to_arrays() | further, result.about())
        return summary(result, scores, further.get("labels"))


def _labels(result: Predictive | RegressionPredictive, data: ArrayData) -> dict[str, np.ndarray]:
    """Labels and names, unless they are of other classes, as those of an OOD set may be."""
    if not isinstance(result, Predictive) or data.y is None:
        return {}
    classes = result.probs.shape[1]
    found = {"labels": data.y} if data.y.max() < classes else {}
    if data.class_names is not None and len(data.class_names) == classes:
        found["class_names"] = np.array(data.class_names)
    return found


def summary(
    result: Predictive | RegressionPredictive, scores: Sequence[str], labels: np.ndarray | None
) -> dict[str, Any]:
    """JSON values: what was predicted and how, metrics where labels are known, and scores.

    Scores that this predictive does not have are left out, such as those of one network.
    """
    facts = result.metadata
    about = {
        "dataset": facts["dataset"],
        "fingerprint": facts["fingerprint"],
        "n": len(result.probs if isinstance(result, Predictive) else result.mean),
        "num_samples": result.num_samples,
        "seed": result.seed,
        "method": result.method,
        **{key: facts[key] for key in ("precision", "device", "seconds")},
    }
    if isinstance(result, Predictive):
        about["num_classes"] = result.probs.shape[1]
    if isinstance(result, Predictive) and labels is not None:
        about |= {
            name: getattr(metrics, name)(result.probs, labels)
            for name in ("accuracy", "nll", "ece")
        }
    found = {}
    for name in scores:
        with suppress(ValueError):
            found[name] = _spread(result.score(name))
    return about | {"scores": found}


def _spread(values: np.ndarray) -> dict[str, float]:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return {"q05": float(low), "median": float(middle), "q95": float(high)}
