"""Running drawn networks over inputs: each drawn once, nothing kept but sums."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from bbnn_uq._checks import check_choice, check_count, check_real, check_seed
from bbnn_uq._progress import progress_bar
from bbnn_uq.inference.precision import PRECISIONS, resolve_precision
from bbnn_uq.inputs import all_inputs, check_device, normalise
from bbnn_uq.networks import draw
from bbnn_uq.posterior import BernoulliPosterior
from bbnn_uq.predictive import Predictive, PredictiveAccumulator

__all__ = ["predict"]

_State = dict[str, Tensor]
METHODS = ("monte_carlo", "mode")
DEFAULT_BATCH = 1000


@torch.no_grad()
def predict(
    model: nn.Module,
    posterior: BernoulliPosterior,
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
) -> Predictive:
    """Average the class probabilities of binary networks drawn from the posterior.

    p(y | x) ≈ (1 / S) Σ_s softmax(f(x; w_s)), w_s ~ q(w) (Meng, Bachmann, Khan 2020, equation
    18). Network s is :func:`bbnn_uq.draw` number s of ``seed``. It is drawn once and run over all
    inputs; memory does not grow with S unless samples are kept. BatchNorm uses the statistics
    stored in the posterior.

    Args:
        model: the architecture; its own weights are not used and it is left unchanged.
        posterior: whose names and shapes are those of the model.
        inputs: (N, ...) as a tensor, array, Dataset or DataLoader (labels are ignored). The
            posterior's normalisation, when it has one, is applied to them.
        num_samples: number of networks S; 1 network at ``method="mode"``.
        seed: which sequence of networks, in [0, 2⁶⁴).
        method: ``monte_carlo`` (drawn networks) or ``mode`` (the one network sign λ).
        precision: ``float32``, ``float64``, or ``auto``: float64 for models of up to 2²⁰ binary
            weights on a CPU, float32 otherwise.
        score_temperatures: logit temperatures T > 0 for scores such as ``mutual_information@3``.
        device: where to compute; a GPU when there is one and none is named.
        batch_size: inputs per forward pass, 1,000 unless given; it changes no figure but by
            rounding.
        keep_samples: keep softmax(z) of every network, float32 (S, N, C).
        progress: show a bar on a terminal.

    Returns:
        The :class:`Predictive` of the N inputs.

    Raises:
        TypeError, ValueError: an argument is out of its range, the posterior does not fit the
            model, or the model does not return finite logits (N, C).

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> posterior = BernoulliPosterior({"weight": torch.tensor([[9.0, 0.0], [-9.0, 0.0]])})
        >>> predict(model, posterior, torch.tensor([[1.0, 0.0]]), num_samples=4).probs.round(3)
        array([[0.881, 0.119]])
    """
    started = time.perf_counter()
    check_choice(method, "method", METHODS)
    count = 1 if method == "mode" else check_count(num_samples, "num_samples")
    seed = check_seed(seed)
    temperatures = [check_real(t, "score_temperatures", above=0.0) for t in score_temperatures]
    rows = check_count(DEFAULT_BATCH if batch_size is None else batch_size, "batch_size")
    place = check_device(device)
    x = normalise(all_inputs(inputs), posterior.metadata.get("normalisation"))
    network = _Network(model, posterior, x[:1], precision, place)

    accumulator, samples = None, []
    with progress_bar("drawing networks", count, enabled=progress) as advance:
        for index in range(count):
            weights = posterior.mode() if method == "mode" else draw(posterior, index, seed=seed)
            forward = network.with_weights(weights)
            kept = []
            for where, logits in _outputs(forward, x, rows):
                if accumulator is None:
                    accumulator = PredictiveAccumulator(
                        len(x), logits.shape[1], temperatures, place
                    )
                accumulator.add(where, logits)
                if keep_samples:
                    kept.append(torch.softmax(logits.double(), dim=1).float().cpu().numpy())
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
            "precision": network.precision,
            "device": str(place),
            "seconds": time.perf_counter() - started,
        },
    )


class _Network:
    """The model's architecture as a function of its weights, apart from the user's object."""

    def __init__(
        self,
        model: nn.Module,
        posterior: BernoulliPosterior,
        probe: Tensor,
        precision: str,
        device: torch.device,
    ) -> None:
        _check_fits(model, posterior)
        self._architecture = _skeleton(model)
        self._device = device
        self._real = posterior.real_state

        def accepts_float64() -> bool:
            self._dtype = torch.float64
            try:
                self.with_weights(posterior.mode())(probe)
            except (RuntimeError, TypeError, ValueError):
                return False
            return True

        self.precision = resolve_precision(
            precision,
            num_weights=posterior.num_weights,
            device=device,
            accepts_float64=precision == "auto" and accepts_float64(),
        )
        self._dtype = PRECISIONS[self.precision]

    def with_weights(self, weights: _State) -> Callable[[Tensor], Tensor]:
        """The forward pass with these binary weights."""
        state = {name: self._placed(value) for name, value in (self._real | weights).items()}
        return lambda x: functional_call(self._architecture, state, (self._placed(x),))

    def _placed(self, value: Tensor) -> Tensor:
        dtype = self._dtype if value.is_floating_point() else None
        return value.to(device=self._device, dtype=dtype)


def _outputs(
    forward: Callable[[Tensor], Tensor], x: Tensor, rows: int
) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(x), rows):
        where = slice(start, min(start + rows, len(x)))
        logits = forward(x[where])
        expected = where.stop - where.start
        if logits.ndim != 2 or logits.shape[0] != expected or logits.shape[1] < 2:
            raise ValueError(
                f"model must return logits of shape ({expected}, C) with C >= 2 for {expected} "
                f"inputs, got {tuple(logits.shape)}"
            )
        if not bool(torch.isfinite(logits).all()):
            raise ValueError("model returned NaN or infinite logits; check the inputs' range")
        yield where, logits


def _skeleton(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose parameters and buffers take no memory.

    Raises:
        ValueError: a BatchNorm layer keeps no statistics, and would use those of the inputs
            under test.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"model's BatchNorm {name!r} keeps no running statistics, so a prediction would "
                "depend on the other inputs of its batch; build it with track_running_stats=True"
            )
    placeholders: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False)
        for p in model.parameters()
    }
    placeholders |= {id(b): torch.empty_like(b, device="meta") for b in model.buffers()}
    return copy.deepcopy(model, placeholders).eval()


def _check_fits(model: nn.Module, posterior: BernoulliPosterior) -> None:
    wanted = {name: p.shape for name, p in [*model.named_parameters(), *model.named_buffers()]}
    found = {name: p.shape for name, p in (posterior.natural_param | posterior.real_state).items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            ours, theirs = (
                tuple(shapes[name]) if name in shapes else "missing" for shapes in (wanted, found)
            )
            raise ValueError(
                f"posterior does not fit the model: {name!r} is {ours} in the model and {theirs} "
                "in the posterior; build the model as it was when the posterior was fitted"
            )
