"""The arguments of a prediction, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bbnn_uq._checks import check_choice, check_count, check_real, check_seed
from bbnn_uq.inference.plan import DEFAULT_BUDGET
from bbnn_uq.inference.precision import check_precision
from bbnn_uq.inputs import check_device
from bbnn_uq.posterior import Posterior, PosteriorMixture

__all__ = ["Options", "Settings"]

METHODS = ("monte_carlo", "local", "mode")


@dataclass(frozen=True)
class Settings:
    """Which networks, and how they are computed: what a Predictor fixes."""

    num_samples: int | None
    seed: int
    method: str
    precision: str
    device: torch.device
    memory_budget: int

    @classmethod
    def checked(
        cls,
        posterior: Posterior,
        *,
        num_samples: int | str,
        seed: int,
        method: str,
        precision: str,
        device: torch.device | str | None,
        memory_budget: int | None,
    ) -> Settings:
        """The arguments of :func:`bbnn_uq.predict`, None for as many samples as needed."""
        check_choice(method, "method", METHODS)
        if isinstance(num_samples, str):
            check_choice(num_samples, "num_samples as a string", ("auto",))
            count = None
        else:
            count = check_count(num_samples, "num_samples")
        if method == "mode":
            count = len(posterior.posteriors) if isinstance(posterior, PosteriorMixture) else 1
        return cls(
            count,
            check_seed(seed),
            method,
            check_precision(precision),
            check_device(device),
            DEFAULT_BUDGET
            if memory_budget is None
            else check_count(memory_budget, "memory_budget"),
        )


@dataclass(frozen=True)
class Options:
    """What one call wants to know."""

    score_temperatures: tuple[float, ...] = (1.0,)
    batch_size: int | None = None
    keep_samples: bool = False
    num_groups: int = 1
    tolerance: float = 0.005

    @classmethod
    def checked(
        cls,
        *,
        score_temperatures: Sequence[float] = (1.0,),
        batch_size: int | None = None,
        keep_samples: bool = False,
        num_groups: int = 1,
        tolerance: float = 0.005,
    ) -> Options:
        """The arguments of :func:`bbnn_uq.predict`."""
        return cls(
            tuple(check_real(t, "score_temperatures", above=0.0) for t in score_temperatures),
            None if batch_size is None else check_count(batch_size, "batch_size"),
            keep_samples,
            check_count(num_groups, "num_groups"),
            check_real(tolerance, "tolerance", above=0.0),
        )
