"""Predict named data with a posterior, and measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from bbnn_uq.data import ArrayData, load_data
from bbnn_uq.inference import predict
from bbnn_uq.likelihoods import Gaussian, as_likelihood
from bbnn_uq.posterior import Posterior
from bbnn_uq.predictive import Predictive
from bbnn_uq.report import Report, evaluate
from bbnn_uq.scores import parse_score

__all__ = ["evaluate_posterior"]

NUM_GROUPS = 7
"""Groups of networks for errors over networks: prime, so that the members of a mixture mix."""


def evaluate_posterior(
    model: nn.Module,
    posterior: Posterior,
    *,
    id_data: str,
    ood_data: Sequence[str],
    scores: Sequence[str],
    **options: Any,
) -> Report:
    """Predict the ID set and every OOD set with the same networks, and measure."""
    if isinstance(as_likelihood(posterior.metadata.get("likelihood")), Gaussian):
        raise ValueError(
            "the posterior predicts real targets, and this report is for classes; use "
            "bbnn_uq.predict and the score epistemic_std in Python"
        )
    about = posterior.metadata.get("data")
    ends = about.get("value_range") if isinstance(about, dict) else None
    like: dict[str, Any] = {
        "input_shape": posterior.metadata["architecture"]["input_shape"],
        # Constant training data span no range to fill.
        "value_range": None if isinstance(ends, list) and len(set(ends)) == 1 else ends,
    }
    inside = load_data(id_data, split="test", **like)
    if inside.y is None:
        raise ValueError(f"--id {id_data!r} has no labels; accuracy and calibration need them")
    outside: dict[str, ArrayData] = {}
    for name in ood_data:
        data = load_data(name, split="test", **like)
        if data.name in outside:
            raise ValueError(
                f"--ood names two sets called {data.name!r}; name each set once, or rename a file"
            )
        outside[data.name] = data
    temperatures = sorted({parse_score(score)[1] for score in scores})

    def predictive(data: ArrayData, **changes: Any) -> Predictive:
        chosen: dict[str, Any] = {"score_temperatures": temperatures, "num_groups": NUM_GROUPS}
        chosen |= options | changes
        result = predict(model, posterior, data.x, **chosen)
        assert isinstance(result, Predictive)
        return replace(result, metadata=result.metadata | {"dataset": data.name})

    return evaluate(
        predictive(inside),
        inside.y,
        ood={name: predictive(data) for name, data in outside.items()},
        mode=None if options.get("method") == "mode" else predictive(inside, method="mode"),
        scores=scores,
    )
