"""What a report says first: the numbers to look at, and what to beware of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from bbnn_uq._html import printable
from bbnn_uq.metrics import Interval, ReliabilityCurve
from bbnn_uq.monte_carlo import Measurement
from bbnn_uq.predictive import Predictive

__all__ = [
    "METRIC_NAMES",
    "PICKED",
    "average_name",
    "find_warnings",
    "listed",
    "quoted",
    "verdict",
]

METRIC_NAMES = {
    "accuracy": "accuracy",
    "nll": "NLL (nats)",
    "brier": "Brier score",
    "ece": "ECE",
    "aurc": "AURC",
    "classwise_ece": "class-wise ECE",
    "smooth_ece": "smooth ECE",
    "augrc": "AUGRC",
    "excess_aurc": "excess AURC",
    "auroc": "AUROC",
    "aupr_out": "AUPR out",
    "aupr_in": "AUPR in",
    "fpr95": "FPR95",
    "fpr95_in": "FPR95 in",
    "detection_error": "detection error",
}
"""How metrics are called where people read them."""

PICKED = "picked on these very inputs, so its value is optimistic"
"""What to say beside a score that was chosen because it is the best here."""

FEW_INPUTS = 100
FEW_MUTUAL_INFORMATION = 1e-3  # nats


def average_name(inference: Mapping[str, Any]) -> str:
    """What was evaluated, in words, from the ``inference`` of a report.

    Example:
        >>> average_name({"num_samples": 32, "method": "monte_carlo"})
        'mean of 32 networks'
    """
    count, method = inference["num_samples"], inference["method"]
    if method == "mode":
        return "mode"
    if count > 1:
        return f"mean of {count:,} networks"
    return "predictions" if method == "foreign" else "one network"


def verdict(
    id: Mapping[str, Any], ood: Mapping[str, Mapping[str, Any]], warnings: Sequence[str]
) -> dict[str, Any]:
    """The few numbers to look at first.

    The first-named score of an OOD set was chosen before anything was measured, so its AUROC and
    interval can be taken as they are. The best one was picked on the very inputs that its AUROC is
    measured on, which makes that optimistic: to report it, pick the score on other OOD sets.

    Args:
        id: of a report.
        ood: of a report.
        warnings: of a report.

    Returns:
        ``accuracy``, ``nll`` and ``ece``; ``ood``, a list of one dictionary for each set with its
        ``name``, ``n``, the first-named ``score`` and its ``auroc``, ``best_score`` and
        ``best_auroc``, and ``num_scores``, the number that the best one was picked from; and
        ``warnings``.
    """
    sets = []
    for name, entry in ood.items():
        aurocs = {score: numbers["auroc"] for score, numbers in entry["scores"].items()}
        first = next(iter(aurocs))
        best = max(aurocs, key=lambda score: aurocs[score].value)
        sets.append(
            {
                "name": name,
                "n": entry["n"],
                "score": first,
                "auroc": aurocs[first],
                "best_score": best,
                "best_auroc": aurocs[best],
                "num_scores": len(aurocs),
            }
        )
    numbers = {metric: id[metric] for metric in ("accuracy", "nll", "ece")}
    return {**numbers, "ood": sets, "warnings": list(warnings)}


def find_warnings(
    predictive: Predictive,
    others: Mapping[str, Predictive],
    *,
    id: Mapping[str, Any],
    ood: Mapping[str, Mapping[str, Any]],
    posterior: Mapping[str, Any] | None,
    per_class: Sequence[Mapping[str, Any]],
    reliability: ReliabilityCurve,
    confidence_level: float,
) -> tuple[str, ...]:
    """What a reader of the report should beware of, a sentence each.

    Args:
        predictive: of the ID set.
        others: OOD set name → predictive.
        id: of the report, as all that follows.
        ood: its OOD sets.
        posterior: its posterior.
        per_class: its classes.
        reliability: its curve.
        confidence_level: of its intervals.
    """
    return (
        *_of_networks(predictive, others, posterior),
        *_of_sets(id, ood),
        *_of_numbers(id, ood, reliability, confidence_level),
        *_of_classes(per_class),
    )


def _of_networks(
    predictive: Predictive,
    others: Mapping[str, Predictive],
    posterior: Mapping[str, Any] | None,
) -> Iterator[str]:
    if posterior is not None and posterior.get("collapsed"):
        yield (
            f"The posterior has collapsed ({posterior['bits_per_weight']:.2g} bits per weight): "
            "all drawn networks are nearly the same, and scores that compare them say little."
        )
    predictives = (predictive, *others.values())
    average = max(each.metadata.get("networks_on_averages", 0) for each in predictives)
    if average:
        yield (
            f"{average:,} of {predictive.num_samples:,} networks use averaged BatchNorm statistics "
            "and are usually worse than those with their own; cover them when training "
            "(--batchnorm-networks), or afterwards by refresh_batchnorm."
        )
    if predictive.expected_entropy is None:
        yield (
            "Only averaged probabilities are known: there is no score that compares networks and "
            "no error over networks."
        )
    elif predictive.num_samples == 1 and predictive.method != "mode":
        yield "These are the predictions of one network, so no score compares networks."
    elif predictive.num_samples > 1:
        known = [each.mutual_information for each in predictives]
        largest = max(float(np.max(values)) for values in known if values is not None)
        if largest < FEW_MUTUAL_INFORMATION:
            yield (
                f"The networks hardly disagree: the largest mutual information is {largest:.1g} "
                "nats, so averaging them changes little."
            )


def _of_sets(id: Mapping[str, Any], ood: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    sizes = {"the ID set": id["n"]} | {quoted(name): entry["n"] for name, entry in ood.items()}
    few = [f"{name} ({size})" for name, size in sizes.items() if size < FEW_INPUTS]
    if few:
        yield (
            f"Fewer than {FEW_INPUTS} inputs in {listed(few)}: intervals are rough, and a rate at "
            "95 % rests on fewer than 5 of them."
        )
    seen = {id.get("fingerprint"): "the ID set"}
    for name, entry in ood.items():
        fingerprint = entry.get("fingerprint")
        if fingerprint is not None and fingerprint in seen:
            yield f"OOD set {quoted(name)} has the same fingerprint as {seen[fingerprint]}."
        elif name == id["dataset"]:
            yield f"OOD set {quoted(name)} has the name of the ID set; check that they differ."
        seen.setdefault(fingerprint, quoted(name))


def _of_numbers(
    id: Mapping[str, Any],
    ood: Mapping[str, Mapping[str, Any]],
    reliability: ReliabilityCurve,
    confidence_level: float,
) -> Iterator[str]:
    if math.isinf(id["nll"].value):
        yield "The NLL is infinite: some true class has probability 0."
    by_chance = _ece_by_chance(reliability)
    if id["ece"].value <= by_chance:
        yield (
            f"An ECE of {id['ece'].value:.4f} cannot be told from 0: perfect calibration would "
            f"show up to about {by_chance:.4f} by chance here."
        )
    first = {name: next(iter(entry["scores"].items())) for name, entry in ood.items()}
    for name, (score, numbers) in first.items():
        if numbers["auroc"].high < 0.5:
            yield (
                f"{score} ranks {quoted(name)} below the ID set (AUROC "
                f"{numbers['auroc'].value:.3f}): worse than chance."
            )
    main = {METRIC_NAMES[metric]: id[metric] for metric in ("accuracy", "nll", "ece")}
    main |= {f"AUROC on {quoted(name)}": numbers["auroc"] for name, (_, numbers) in first.items()}
    doubtful = [n for n, number in main.items() if _too_few_networks(number, confidence_level)]
    if doubtful:
        yield (
            f"The error over networks exceeds that over inputs for {listed(doubtful)}; predict "
            "with more networks; a model with BatchNorm wants statistics for each of them (train "
            "with --batchnorm-networks 128, then draw --samples 128)."
        )


def _of_classes(per_class: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    empty = [
        str(entry["class"]) if entry["name"] is None else quoted(entry["name"])
        for entry in per_class
        if entry["n"] == 0
    ]
    if empty:
        yield f"No test input is of class {listed(empty)}."


def _ece_by_chance(curve: ReliabilityCurve) -> float:
    """A value that the ECE of a perfectly calibrated model exceeds in about one of 20 test sets.

    Then the accuracy of bin b is about normal around its confidence c with the variance
    v = c (1 − c) / n_b, and its distance from c has the mean √(2 v / π) and the variance
    (1 − 2 / π) v; the ECE is their sum weighted by n_b / n, and close to normal over many bins.
    """
    filled = curve.count > 0
    share = curve.count[filled] / curve.count.sum()
    confidence = curve.confidence[filled]
    variance = confidence * (1.0 - confidence) / curve.count[filled]
    mean = float((share * np.sqrt(2.0 / math.pi * variance)).sum())
    spread = math.sqrt(float((share**2 * (1.0 - 2.0 / math.pi) * variance).sum()))
    return mean + 1.645 * spread


def _too_few_networks(number: Interval, confidence_level: float) -> bool:
    error = number.mc_error if isinstance(number, Measurement) else None
    half = (number.high - number.low) / 2.0  # that many standard errors over inputs:
    return error is not None and error > half / float(ndtri(0.5 + confidence_level / 2.0))


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names with commas, and how many more there are.

    Example:
        >>> listed("abc", most=2)
        'a, b and 1 more'
    """
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def quoted(name: str) -> str:
    """A name that may come from a file, on one line, not too long, in quotes."""
    return f"'{printable(name, 60)}'"
