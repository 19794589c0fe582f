"""All networks over one block of inputs: outputs are added up, and nothing else is kept."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bbnn_uq.inference.distributed import Shard, combine
from bbnn_uq.inference.plan import Plan
from bbnn_uq.inference.runners import Forward, Runner
from bbnn_uq.inference.settings import Options, Settings
from bbnn_uq.inputs import outputs_of
from bbnn_uq.likelihoods import Classification, Gaussian, Likelihood
from bbnn_uq.posterior import Posterior
from bbnn_uq.predictive import Predictive
from bbnn_uq.predictive_sums import PredictiveAccumulator
from bbnn_uq.regression import RegressionAccumulator, RegressionPredictive

__all__ = ["MOST_SAMPLES", "Block", "Job", "warn_if_not_covered"]

TOGETHER = 1000
"""Rows of outputs that are worth the overhead of adding them up."""
AT_A_TIME = 16
"""Networks after which ``num_samples="auto"`` looks at the error."""
MOST_SAMPLES = 1024


@dataclass(frozen=True)
class Job:
    """What all blocks of a prediction share."""

    settings: Settings
    options: Options
    plan: Plan
    shard: Shard
    runner: Runner
    posterior: Posterior
    likelihoods: Sequence[Likelihood]
    precision: str
    advance: Callable[[int, str], None]


class Block:
    """All networks over the inputs of one block.

    Args:
        job: what is to be done.
        x: the inputs, normalised.
        first: number of the first one among all inputs.
    """

    def __init__(self, job: Job, x: Tensor, first: int) -> None:
        self._started = time.perf_counter()
        self._job = job
        self._x = x
        self._first = first
        self._by_inputs = job.shard.takes_inputs(len(x), job.settings.num_samples)
        self._accumulator: PredictiveAccumulator | RegressionAccumulator | None = None
        self._samples: dict[int, np.ndarray] = {}

    def run(self) -> Predictive | RegressionPredictive:
        """The predictive of these inputs."""
        settings = self._job.settings
        if settings.num_samples is None:
            count = self._enough()
        else:
            count = settings.num_samples
            self._add(range(count))
        keep = self._job.options.keep_samples
        drawn = count if settings.method == "monte_carlo" else 0
        average = len(_on_averages(self._job.posterior, drawn, settings.seed))
        return self._sums().finish(
            num_samples=count,
            seed=settings.seed,
            method=settings.method,
            samples=np.stack([self._samples[i] for i in range(count)]) if keep else None,
            metadata={
                "posterior": self._job.posterior.summary(layers=False),
                "precision": self._job.precision,
                "device": str(settings.device),
                "plan": str(self._job.plan),
                "seconds": time.perf_counter() - self._started,
                **({"networks_on_averages": average} if average else {}),
            },
        )

    def _sums(self) -> PredictiveAccumulator | RegressionAccumulator:
        """What all processes have added up so far."""
        if self._accumulator is None or self._job.shard.count > 1:
            return combine(self._accumulator, self._new_accumulator, self._job.shard)
        return self._accumulator

    def _enough(self) -> int:
        """Networks until the error of the mean is within the tolerance."""
        tolerance, error = self._job.options.tolerance, float("inf")
        for count in range(AT_A_TIME, MOST_SAMPLES + 1, AT_A_TIME):
            self._add(range(count - AT_A_TIME, count))
            error = self._sums().standard_error(count)
            if error <= tolerance:
                warn_if_not_covered(self._job.posterior, count, self._job.settings.seed)
                return count
        warnings.warn(
            f"the standard error of the mean is {error:.2g} after {MOST_SAMPLES} networks, above "
            f"the tolerance of {tolerance:g}; allow a larger tolerance or name a num_samples",
            stacklevel=5,
        )
        return MOST_SAMPLES

    def _add(self, networks: range) -> None:
        """Run these networks, or this process's share of them, over the inputs."""
        own, shard = slice(0, len(self._x)), self._job.shard
        if self._by_inputs:
            own = shard.part(len(self._x))
        else:
            networks = networks[shard.rank :: shard.count]
        rows = self._job.plan.rows
        pending: list[tuple[range, Tensor]] = []
        for group, forward in self._job.runner.groups(networks, self._job.plan.group):
            for start in range(own.start, own.stop, rows):
                where = slice(start, min(start + rows, own.stop))
                outputs = self._outputs(forward, where)
                if pending and pending[-1][0][-1] + group.step != group[0]:
                    self._add_up(where, pending)
                pending.append((group, outputs))
                # Adding up takes as long for one row as for many.
                if own.stop - own.start > rows or _num_rows(pending) >= TOGETHER:
                    self._add_up(where, pending)
            self._job.advance(len(group) * (own.stop - own.start) * self._job.shard.count, "")
        if pending:
            self._add_up(own, pending)

    def _outputs(self, forward: Forward, where: slice) -> Tensor:
        x = self._x[where]
        outputs = outputs_of(lambda x: forward(x, self._first + where.start), x)
        self._job.likelihoods[0].check_outputs(outputs[0], len(x))
        if not bool(torch.isfinite(outputs).all()):
            raise ValueError("model returned NaN or infinite outputs; check the inputs' range")
        return outputs

    def _add_up(self, where: slice, pending: list[tuple[range, Tensor]]) -> None:
        (first, _), (last, _) = pending[0], pending[-1]
        networks = range(first[0], last[-1] + 1, first.step)
        outputs = torch.cat([each for _, each in pending])
        pending.clear()
        parts = self._parts(networks, outputs)
        if self._accumulator is None:
            self._accumulator = self._new_accumulator(parts[0].shape[-1])
        self._accumulator.add(where, networks, *parts)
        if self._job.options.keep_samples:
            kept = self._accumulator.sample(*parts).float().cpu().numpy()
            for index, sample in zip(networks, kept, strict=True):
                whole = self._samples.setdefault(
                    index, np.empty((len(self._x), *sample.shape[1:]), np.float32)
                )
                whole[where] = sample

    def _parts(self, networks: range, outputs: Tensor) -> tuple[Tensor, ...]:
        """What each network predicts: logits, or means and stds, each (g, n, …)."""
        likelihoods = self._job.likelihoods
        if isinstance(likelihoods[0], Classification):
            flat = likelihoods[0].predict(outputs.flatten(0, 1))
            return tuple(part.unflatten(0, outputs.shape[:2]) for part in flat)
        each = [
            likelihoods[index % len(likelihoods)].predict(own)
            for index, own in zip(networks, outputs, strict=True)
        ]
        return tuple(torch.stack(part) for part in zip(*each, strict=True))

    def _new_accumulator(self, width: int) -> PredictiveAccumulator | RegressionAccumulator:
        likelihood, options = self._job.likelihoods[0], self._job.options
        size, device = len(self._x), self._job.settings.device
        if not isinstance(likelihood, Gaussian):
            return PredictiveAccumulator(
                size, width, options.score_temperatures, device, num_groups=options.num_groups
            )
        if options.score_temperatures != (1.0,):
            raise ValueError(
                f"score_temperatures soften class probabilities, and this posterior predicts real "
                f"targets; leave them out, got {list(options.score_temperatures)}"
            )
        return RegressionAccumulator(
            size, width, device, vector=likelihood.vector, num_groups=options.num_groups
        )


def _num_rows(pending: list[tuple[range, Tensor]]) -> int:
    return sum(outputs.shape[0] * outputs.shape[1] for _, outputs in pending)


def warn_if_not_covered(posterior: Posterior, count: int, seed: int) -> None:
    """Warn when some networks have BatchNorm statistics of their own and others have not."""
    average = _on_averages(posterior, count, seed)
    if average:
        stored: Any = posterior.member(average[0]).batchnorm
        warnings.warn(
            f"the posterior holds BatchNorm statistics of the networks 0 to "
            f"{stored.num_networks - 1} of seed {stored.seed}, and networks {average[0]} to "
            f"{count - 1} of seed {seed} use averages; refresh_batchnorm(model, posterior, "
            f"training_data, num_samples={count}, seed={seed}) covers them, and so does "
            "training with more batchnorm_networks (train --batchnorm-networks) where the seed "
            "is 0",
            stacklevel=5,
        )


def _on_averages(posterior: Posterior, count: int, seed: int) -> list[int]:
    """Networks that use averaged statistics where others have their own."""
    stored = (posterior.member(index).batchnorm for index in range(count))
    return [
        index
        for index, statistics in enumerate(stored)
        if statistics is not None and not statistics.covers(index, seed)
    ]
