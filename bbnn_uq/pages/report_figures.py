"""The figures of the report page, each with its caption and how to read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bbnn_uq import metrics
from bbnn_uq.metrics import Interval, ReliabilityCurve
from bbnn_uq.monte_carlo import MetricCurve
from bbnn_uq.pages.rendering import interval_text, number_text, shown_name
from bbnn_uq.pages.svg import inline_svg
from bbnn_uq.verdict import METRIC_NAMES

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["PageFigure", "calibration_figures", "network_figures", "ood_figures"]

MOST_ROC_CURVES = 5
_LONGEST_LABEL = 28  # what fits above a figure


@dataclass(frozen=True)
class PageFigure:
    """A figure in a page.

    Args:
        svg: the element.
        title: what it shows.
        reading: how to read it, in a sentence.
    """

    svg: Markup
    title: str
    reading: str


def calibration_figures(
    reliability: ReliabilityCurve, probs: np.ndarray, labels: np.ndarray, *, ece: Interval
) -> list[PageFigure]:
    """The reliability diagram and the risk–coverage curve."""
    from bbnn_uq import plots

    risk = metrics.risk_coverage_curve(probs, labels)
    half = metrics.risk_at_coverage(probs, labels, 0.5)
    return [
        PageFigure(
            inline_svg(
                lambda ax: plots.reliability_diagram(reliability, ax, ece=ece),
                key="reliability",
                label=f"Reliability diagram: accuracy against confidence in "
                f"{int((reliability.count > 0).sum())} filled bins; ECE {_stated(ece)}",
                size=(4.0, 4.3),
            ),
            "Reliability diagram",
            "Points below the dashed line are overconfident bins, those above it underconfident "
            "ones; long bars have few inputs, whose number the lower panel shows.",
        ),
        PageFigure(
            inline_svg(
                lambda ax: plots.risk_coverage({"ranked by confidence": risk}, ax),
                key="risk-coverage",
                label=f"Risk–coverage curve: error rate {risk.risk[-1]:.4f} among all inputs and "
                f"{half:.4f} among the surer half",
                size=(4.0, 3.3),
            ),
            "Risk–coverage curve",
            "Error rate among the inputs that are kept, surest first: where confidence ranks "
            f"errors well it falls towards the left. Among all inputs it is {risk.risk[-1]:.2%}, "
            f"among the surer half {half:.2%}.".replace("%", " %"),
        ),
    ]


def ood_figures(
    inside: str,
    outside: str,
    *,
    id_scores: Mapping[str, np.ndarray],
    ood_scores: Mapping[str, np.ndarray],
    measured: Mapping[str, Mapping[str, Any]],
    key: str,
) -> tuple[list[PageFigure], list[PageFigure]]:
    """Of one OOD set: those to look at first, and the histograms of the other scores.

    First come the histograms of the first-named score and of the best of the others, and the ROC
    curves.

    Args:
        inside: name of the ID set.
        outside: name of the OOD set.
        id_scores: score name → (N,) of the ID set.
        ood_scores: the same of the OOD set.
        measured: score name → metric name → interval.
        key: of the set in the page.
    """
    ranked = sorted(measured, key=lambda score: -measured[score]["auroc"].value)
    first = next(iter(measured))
    order = list(dict.fromkeys([first, *ranked]))
    chosen = order[:2]
    names = _distinct(shown_name(inside, _LONGEST_LABEL), shown_name(outside, _LONGEST_LABEL))

    def histogram(score: str) -> PageFigure:
        auroc = measured[score]["auroc"]
        sets = dict(zip(names, (id_scores[score], ood_scores[score]), strict=True))
        from bbnn_uq import plots

        medians = " and ".join(f"{np.median(v):.3g} on {name}" for name, v in sets.items())
        return PageFigure(
            inline_svg(
                lambda ax: plots.ood_histograms(sets, ax, score=score, auroc=auroc),
                key=f"{key}-{score}",
                label=f"Histograms of {score}: medians {medians}; AUROC {_stated(auroc)}",
            ),
            score + (_roles(score, first, ranked) if score in chosen else ""),
            "The less the two overlap, with OOD on the right, the better the score.",
        )

    figures = [histogram(score) for score in chosen]
    figures.append(_roc_figure(order[:MOST_ROC_CURVES], id_scores, ood_scores, measured, key=key))
    return figures, [histogram(score) for score in measured if score not in chosen]


def _roc_figure(
    shown: Iterable[str],
    id_scores: Mapping[str, np.ndarray],
    ood_scores: Mapping[str, np.ndarray],
    measured: Mapping[str, Mapping[str, Any]],
    *,
    key: str,
) -> PageFigure:
    from bbnn_uq import plots

    aurocs = {score: number_text(measured[score]["auroc"].value, 3) for score in shown}
    curves = {
        f"{score} ({auroc})": metrics.roc_curve(id_scores[score], ood_scores[score])
        for score, auroc in aurocs.items()
    }
    described = ", ".join(f"{score} {auroc}" for score, auroc in aurocs.items())
    some = (
        f" Shown are the first-named score and the {len(aurocs) - 1} best others."
        if len(aurocs) < len(measured)
        else ""
    )
    return PageFigure(
        inline_svg(
            lambda ax: plots.roc_curves(curves, ax),
            key=f"{key}-roc",
            label=f"ROC curves, with AUROC: {described}",
            size=(3.9, 3.7),
        ),
        "ROC curves (AUROC)",
        "What each threshold catches and what it flags by mistake: better towards the upper left; "
        "the dashed line is chance." + some,
    )


def network_figures(curves: Mapping[str, MetricCurve]) -> list[PageFigure]:
    """Each metric against the number of networks."""
    from bbnn_uq import plots

    figures = []
    for number, (name, curve) in enumerate(curves.items()):
        title = (
            f"AUROC on {shown_name(name.removeprefix('ood/'), _LONGEST_LABEL)}"
            if name.startswith("ood/")
            else METRIC_NAMES.get(name, name)
        )
        first, last = curve.num_networks[0], curve.num_networks[-1]
        figures.append(
            PageFigure(
                inline_svg(
                    lambda ax, curve=curve, title=title: plots.metric_against_networks(
                        curve, ax, ylabel=title.partition(" on ")[0]
                    ),
                    key=f"networks-{number}",
                    label=f"{title} against the number of networks: "
                    f"{number_text(float(curve.mean[0]))} with {first:.3g}, "
                    f"{number_text(float(curve.mean[-1]))} with {last:.3g}",
                    size=(3.7, 2.8),
                ),
                title[:1].upper() + title[1:],
                "",
            )
        )
    return figures


def _roles(score: str, first: str, ranked: Sequence[str]) -> str:
    if len(ranked) == 1:
        return ""
    roles = ["named first"] if score == first else []
    roles += [f"best of {len(ranked)} here"] if score == ranked[0] else []
    return f" ({', '.join(roles)})" if roles else ""


def _distinct(inside: str, outside: str) -> tuple[str, str]:
    return inside, outside + (" (OOD)" if outside == inside else "")


def _stated(interval: Interval) -> str:
    return f"{number_text(interval.value, 3)} {interval_text(interval, 3)}"
