"""docs/benchmarks/uncertainty.md from the JSON files that the benchmark wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

NAMES = {
    "published": "BayesBiNN `published`",
    "ste": "STE-Adam",
    "bop": "Bop",
    "full_precision": "full precision",
    "mc_dropout": "MC dropout, full precision",
    "ste_ensemble": "STE ensemble",
    "full_precision_ensemble": "full-precision ensemble",
    "straight_through": "BayesBiNN `straight_through`",
    "local": "BayesBiNN `local`",
    "concrete": "BayesBiNN `concrete`",
    "mixture": "mixture of `straight_through`",
}
MEMBERS = {
    "ste_ensemble": "ste",
    "full_precision_ensemble": "full_precision",
    "mixture": "straight_through",
}
OOD = ("mnist-5k", "noise", "rotated-90")


def write_tables(folder: Path) -> None:
    """Write ``uncertainty.md`` beside the JSON files; the text around the tables is kept."""
    page = folder / "uncertainty.md"
    text = page.read_text(encoding="utf-8") if page.exists() else "# Uncertainty benchmark\n"
    before, _, rest = text.partition("<!-- tables -->")
    _, _, after = rest.partition("<!-- end of tables -->")
    files = folder.glob("uncertainty-[0-9]*.json")
    files = sorted(files, key=lambda path: int(path.stem.split("-")[1]))
    measured = folder / "uncertainty-seconds.json"
    seconds = json.loads(measured.read_text(encoding="utf-8")) if measured.exists() else {}
    tables = [_budget(json.loads(file.read_text(encoding="utf-8")), seconds) for file in files]
    page.write_text(
        before + "<!-- tables -->\n" + "\n".join(tables) + "<!-- end of tables -->" + after,
        encoding="utf-8",
    )


def _budget(summary: dict[str, Any], seconds: dict[str, dict[str, float]]) -> str:
    rows = {name: summary["rows"][name] for name in NAMES if name in summary["rows"]}
    return (
        "\n".join(
            [
                *_means(summary, rows, seconds),
                *_aurocs(rows),
                *_differences(rows),
                *_between_ensembles(summary),
                *_tried(summary),
            ]
        )
        + "\n"
    )


Rows = dict[str, list[dict[str, Any]]]


def _means(summary: dict[str, Any], rows: Rows, seconds: dict[str, dict[str, float]]) -> list[str]:
    lines = [
        f"\n## {summary['epochs']} epochs, {summary['seeds']} seeds ({summary['machine']})\n",
        "| method | accuracy % | NLL | ECE % | ECE scaled % | bits/weight | storage bits/weight "
        "| training, seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in rows.items():
        cells = [
            _mean(runs, "accuracy", 100, 2),
            _mean(runs, "nll", 1, 4),
            _mean(runs, "ece", 100, 2),
            _mean(runs, "ece_scaled", 100, 2),
            _mean(runs, "bits_per_weight", 1, 3),
            f"{runs[0]['storage_bits']}",
            _training(name, summary, seconds),
        ]
        lines.append(f"| {NAMES[name]} | " + " | ".join(cells) + " |")
    return lines


def _aurocs(rows: Rows) -> list[str]:
    lines = [
        "\nAUROC; the best score of a row is the one with the highest mean AUROC on corrupted "
        "validation images.\n",
        "| method | " + " | ".join(f"{s}: H | MI | best" for s in OOD) + " | best score |",
        "|---|" + "---|" * (3 * len(OOD) + 1),
    ]
    for name, runs in rows.items():
        best = best_score(runs)
        cells = [
            _auroc(runs, set_, score)
            for set_ in OOD
            for score in ("entropy@1", "mutual_information@1", best)
        ]
        lines.append(f"| {NAMES[name]} | " + " | ".join(cells) + f" | {best} |")
    expected = [100 * run["ece_if_calibrated"] for runs in rows.values() for run in runs]
    return [
        *lines,
        f"\nA perfectly calibrated predictive with the probabilities of these rows has an ECE of "
        f"{min(expected):.2f} to {max(expected):.2f} % on average: the test set is finite.",
    ]


def _differences(rows: Rows) -> list[str]:
    lines = [
        "\nPaired differences over seeds, with 95 % t intervals.\n",
        "| difference | accuracy, points | NLL | AUROC mnist-5k, best scores |",
        "|---|---|---|---|",
    ]
    for one in ("straight_through", "local", "concrete", "published"):
        if one in rows:
            others = [name for name in ("ste", "full_precision", "mc_dropout") if name in rows]
            lines += [_paired(rows, one, other) for other in others]
            gain = [run["nll"] - run["nll_mode"] for run in rows[one]]
            points = [100 * (run["accuracy"] - run["accuracy_mode"]) for run in rows[one]]
            cells = f"{_interval(points, 2)} | {_interval(gain, 4)}, worst seed {max(gain):.4f}"
            lines.append(f"| {NAMES[one]}, mean − mode | {cells} | – |")
    return lines


def _between_ensembles(summary: dict[str, Any]) -> list[str]:
    lines = []
    if summary["paired"]:
        lines += [
            "\nBetween ensembles of all seeds, with 95 % bootstrap intervals over test inputs "
            "(trained once: the spread over trainings is not in them).\n",
            "| difference | accuracy, points | NLL | AUROC mnist-5k, best scores |",
            "|---|---|---|---|",
        ]
    for names, found in summary["paired"].items():
        one, other = (NAMES[name] for name in names.split(" − "))
        cells = [
            _bracketed([100 * value for value in found["accuracy"]], 2),
            _bracketed(found["nll"], 4),
            _bracketed(found["auroc"], 3),
        ]
        lines.append(f"| {one} − {other} | " + " | ".join(cells) + " |")
    return lines


def _tried(summary: dict[str, Any]) -> list[str]:
    lines = ["\nRecipes tried, by NLL on the validation split with seed 0; the first was taken:\n"]
    for name, tried in summary["tuning"].items():
        ranked = [f"{_recipe(config)}: {nll:.4f}" for config, nll in sorted(tried, key=_second)]
        lines.append(f"- {NAMES[name]}: " + "; ".join([f"**{ranked[0]}**", *ranked[1:]]))
    return lines


def best_score(runs: list[dict[str, Any]]) -> str:
    """The score with the highest mean AUROC on corrupted validation images."""
    kinds = runs[0]["corrupted"]
    scores = next(iter(kinds.values()))
    return max(
        scores, key=lambda s: np.mean([run["corrupted"][k][s] for run in runs for k in kinds])
    )


def _auroc(runs: list[dict[str, Any]], set_: str, score: str) -> str:
    values = [run["ood"][set_][score] for run in runs if score in run["ood"][set_]]
    return _interval(values, 3) if values else "–"


def _mean(runs: list[dict[str, Any]], key: str, factor: float, digits: int) -> str:
    values = [factor * run[key] for run in runs if key in run]
    return _interval(values, digits) if values else "–"


def _interval(values: list[float], digits: int) -> str:
    """Mean ± half-width of the t interval over seeds; the value alone where there is one."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def _paired(rows: dict[str, list[dict[str, Any]]], one: str, other: str) -> str:
    pairs = list(zip(rows[one], rows[other], strict=True))
    best = {name: best_score(rows[name]) for name in (one, other)}
    accuracy = [100 * (a["accuracy"] - b["accuracy"]) for a, b in pairs]
    nll = [a["nll"] - b["nll"] for a, b in pairs]
    auroc = [a["ood"]["mnist-5k"][best[one]] - b["ood"]["mnist-5k"][best[other]] for a, b in pairs]
    cells = [_interval(accuracy, 2), _interval(nll, 4), _interval(auroc, 3)]
    return f"| {NAMES[one]} − {NAMES[other]} | " + " | ".join(cells) + " |"


def _second(pair: list[Any]) -> float:
    return pair[1]


def _bracketed(values: list[float], digits: int) -> str:
    value, low, high = (f"{each:.{digits}f}" for each in values)
    return f"{value} [{low}, {high}]"


def _training(name: str, summary: dict[str, Any], seconds: dict[str, dict[str, float]]) -> str:
    """Seconds of training: what is done once, and the epochs, times the members."""
    measured = seconds.get(MEMBERS.get(name, name))
    if measured is None:
        return "–"
    members = summary["seeds"] if name in MEMBERS else 1
    return f"{members * (measured['once'] + summary['epochs'] * measured['epoch']):.0f}"


def _recipe(config: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in config.items())
