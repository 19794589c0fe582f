"""Running drawn networks over inputs: each drawn once, nothing kept but sums."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bbnn_uq._checks import check_choice, check_count, check_real, check_seed
from bbnn_uq._progress import progress_bar
from bbnn_uq.inference.architecture import Architecture
from bbnn_uq.inputs import all_inputs, check_device, normalise, outputs_of
from bbnn_uq.likelihoods import Gaussian, Likelihood, as_likelihood
from bbnn_uq.networks import draw
from bbnn_uq.posterior import Posterior, PosteriorMixture
from bbnn_uq.predictive import Predictive, PredictiveAccumulator
from bbnn_uq.regression import RegressionAccumulator, RegressionPredictive

__all__ = ["predict"]

METHODS = ("monte_carlo", "mode")
DEFAULT_BATCH = 1000


@torch.no_grad()
def predict(
    model: nn.Module,
    posterior: Posterior,
    inputs: Any,
    *,
    num_samples: int = 32,
    seed: int = 0,
    method: str = "monte_carlo",
    precision: str = "auto",
    score_temperatures: Sequence[float] = (1.0,),
    device: torch.device | str | None = None,
    batch_size: int | None = None,
    keep_samples: bool = False,
    progress: bool = False,
) -> Predictive | RegressionPredictive:
    """Average the predictions of binary networks drawn from the posterior.

    p(y | x) ≈ (1 / S) Σ_s p(y | f(x; w_s)), w_s ~ q(w) (Meng, Bachmann, Khan 2020, equation 18),
    with the likelihood that the posterior was fitted with: class probabilities, or the mean and
    the epistemic and aleatoric standard deviations of real targets. Network s is
    :func:`bbnn_uq.draw` number s of ``seed``. It is drawn once and run over all inputs; memory
    does not grow with S unless samples are kept. BatchNorm uses the network's own statistics
    where the posterior holds them (:func:`bbnn_uq.refresh_batchnorm`), and the posterior's
    averages elsewhere, with a warning.

    Args:
        model: the architecture; its own weights are not used and it is left unchanged.
        posterior: whose names and shapes are those of the model.
        inputs: (N, ...) as a tensor, array, Dataset or DataLoader (labels are ignored). The
            posterior's normalisation, when it has one, is applied to them.
        num_samples: number of networks S; not used at ``method="mode"``.
        seed: which sequence of networks, in [0, 2⁶⁴).
        method: ``monte_carlo`` (drawn networks) or ``mode`` (the one network sign λ; of a mixture,
            one for each member).
        precision: ``float32``, ``float64``, or ``auto``: float64 for models of up to 2²⁰ binary
            weights on a CPU, float32 otherwise.
        score_temperatures: logit temperatures T > 0 for scores such as ``mutual_information@3``;
            of classification only.
        device: where to compute; a GPU when there is one and none is named.
        batch_size: inputs per forward pass, 1,000 unless given; it changes no figure but by
            rounding.
        keep_samples: keep what every network predicts, float32: probabilities (S, N, C), or
            means (S, N) or (S, N, D).
        progress: show a bar on a terminal.

    Returns:
        The :class:`Predictive` of the N inputs; of real targets the
        :class:`~bbnn_uq.regression.RegressionPredictive`.

    Warns:
        UserWarning: some networks have no BatchNorm statistics of their own while others have.

    Raises:
        TypeError, ValueError: an argument is out of its range, the posterior does not fit the
            model, or the model's outputs are not finite or not of the shape that the likelihood
            takes.

    Example:
        >>> from bbnn_uq import BernoulliPosterior
        >>> model = nn.Linear(2, 2, bias=False)
        >>> posterior = BernoulliPosterior({"weight": torch.tensor([[9.0, 0.0], [-9.0, 0.0]])})
        >>> predict(model, posterior, torch.tensor([[1.0, 0.0]]), num_samples=4).probs.round(3)
        array([[0.881, 0.119]])
    """
    started = time.perf_counter()
    check_choice(method, "method", METHODS)
    count = check_count(num_samples, "num_samples")
    seed = check_seed(seed)
    temperatures = [check_real(t, "score_temperatures", above=0.0) for t in score_temperatures]
    rows = check_count(DEFAULT_BATCH if batch_size is None else batch_size, "batch_size")
    place = check_device(device)
    x = normalise(all_inputs(inputs), posterior.metadata.get("normalisation"))
    architecture = Architecture(model, posterior, x[:1], precision, place)
    if method == "mode":
        count = len(posterior.posteriors) if isinstance(posterior, PosteriorMixture) else 1
    else:
        _warn_if_not_covered(posterior, count, seed)

    accumulator, samples = None, []
    with progress_bar("drawing networks", count, enabled=progress) as advance:
        for index in range(count):
            member = posterior.member(index)
            likelihood = as_likelihood(member.metadata.get("likelihood")).to(place)
            if method == "mode":
                forward = architecture.forward(member.state_of(None) | member.mode())
            else:
                weights = draw(posterior, index, seed=seed)
                forward = architecture.forward(member.state_of(index, seed=seed) | weights)
            kept = []
            for where, outputs in _outputs(forward, x, rows, likelihood):
                parts = likelihood.predict(outputs)
                if accumulator is None:
                    accumulator = _accumulator(likelihood, len(x), parts, temperatures, place)
                accumulator.add(where, *parts)
                if keep_samples:
                    kept.append(accumulator.sample(*parts).float().cpu().numpy())
            if keep_samples:
                samples.append(np.concatenate(kept))
            advance(1, "")
    assert accumulator is not None
    return accumulator.finish(
        num_samples=count,
        seed=seed,
        method=method,
        samples=np.stack(samples) if keep_samples else None,
        metadata={
            "posterior": posterior.summary(),
            "precision": architecture.precision,
            "device": str(place),
            "seconds": time.perf_counter() - started,
        },
    )


def _accumulator(
    likelihood: Likelihood,
    num_inputs: int,
    parts: tuple[Tensor, ...],
    temperatures: list[float],
    device: torch.device,
) -> PredictiveAccumulator | RegressionAccumulator:
    if not isinstance(likelihood, Gaussian):
        return PredictiveAccumulator(num_inputs, parts[0].shape[1], temperatures, device)
    if temperatures != [1.0]:
        raise ValueError(
            f"score_temperatures soften class probabilities, and this posterior predicts real "
            f"targets; leave them out, got {temperatures}"
        )
    return RegressionAccumulator(num_inputs, parts[0].shape[1], device, vector=likelihood.vector)


def _warn_if_not_covered(posterior: Posterior, count: int, seed: int) -> None:
    for index in range(count):
        stored = posterior.member(index).batchnorm
        if stored is not None and not stored.covers(index, seed):
            warnings.warn(
                f"the posterior holds BatchNorm statistics of the networks 0 to "
                f"{stored.num_networks - 1} of seed {stored.seed}, and networks {index} to "
                f"{count - 1} of seed {seed} use averages; refresh_batchnorm(model, posterior, "
                f"training_data, num_samples={count}, seed={seed}) covers them, and so does "
                "training with more batchnorm_networks where the seed is 0",
                stacklevel=4,
            )
            return


def _outputs(
    forward: Callable[[Tensor], Tensor], x: Tensor, rows: int, likelihood: Likelihood
) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(x), rows):
        where = slice(start, min(start + rows, len(x)))
        outputs = outputs_of(forward, x[where])
        likelihood.check_outputs(outputs, where.stop - where.start)
        if not bool(torch.isfinite(outputs).all()):
            raise ValueError("model returned NaN or infinite outputs; check the inputs' range")
        yield where, outputs
