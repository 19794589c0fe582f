"""Predictions in parts that are kept on disk, for inputs beyond memory and runs that are stopped.

A part is a run of inputs of a size that depends on the shapes of inputs and model alone. Each is
predicted by all networks and added to files; a run that stopped goes on with the next part, and
ends with the same bits as one that did not stop.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from bbnn_uq import network_sums
from bbnn_uq.inference.engine import Engine
from bbnn_uq.inference.results import input_axis
from bbnn_uq.inference.settings import Options, Settings
from bbnn_uq.input_stream import InputStream
from bbnn_uq.inputs import normalise
from bbnn_uq.npz_file import GrowingArrays
from bbnn_uq.posterior import Posterior
from bbnn_uq.predictive import Predictive
from bbnn_uq.regression import RegressionPredictive

__all__ = ["LARGE_BYTES", "PART_BYTES", "InParts"]

PART_BYTES = 2**26
"""Of the inputs of a part and what is added up for them."""
LARGE_BYTES = 2**29
"""Results beyond which they stay on disk, and beyond which the sums by group are left out."""

_KINDS = {"classes": Predictive, "real": RegressionPredictive}


class InParts:
    """:func:`bbnn_uq.predict` part by part, for several sets of inputs and the same networks.

    Networks are drawn once and kept, as by :class:`bbnn_uq.Predictor`. Memory is that of the
    networks, of a part, and of results up to :data:`LARGE_BYTES`; larger ones are mapped from disk.

    Args:
        model: the architecture, as for :func:`bbnn_uq.predict`.
        posterior: whose names and shapes are those of the model.
        num_inputs: of all sets together.
        num_groups: groups of networks to keep sums of; they are left out, with
            :attr:`num_groups` 1, where all sets' sums would be more than :data:`LARGE_BYTES`.
        score_temperatures: as for :func:`bbnn_uq.predict`.
        batch_size: as there.
        settings: further ones as there: ``num_samples``, ``seed``, ``method``, ``precision``,
            ``device`` and ``memory_budget``.

    Raises:
        TypeError, ValueError: as :func:`bbnn_uq.predict`.

    Example:
        >>> import tempfile
        >>> from bbnn_uq import BernoulliPosterior
        >>> model = nn.Linear(2, 2, bias=False)
        >>> posterior = BernoulliPosterior({"weight": torch.tensor([[9.0, 0.0], [-9.0, 0.0]])})
        >>> parts = InParts(model, posterior, num_inputs=1, num_samples=4)
        >>> parts.predict(torch.tensor([[1.0, 0.0]]), tempfile.mkdtemp()).probs.round(3)
        array([[0.881, 0.119]])
    """

    def __init__(
        self,
        model: nn.Module,
        posterior: Posterior,
        *,
        num_inputs: int,
        num_groups: int = 1,
        score_temperatures: Sequence[float] = (1.0,),
        batch_size: int | None = None,
        num_samples: int = 32,
        seed: int = 0,
        method: str = "monte_carlo",
        precision: str = "auto",
        device: torch.device | str | None = None,
        memory_budget: int | None = None,
    ) -> None:
        self.settings = Settings.checked(
            posterior, num_samples=num_samples, seed=seed, method=method, precision=precision,
            device=device, memory_budget=memory_budget,
        )  # fmt: skip
        self._options: dict[str, Any] = {
            "score_temperatures": score_temperatures,
            "batch_size": batch_size,
        }
        Options.checked(**self._options)
        self._model = model
        self._posterior = posterior
        self._num_inputs = num_inputs
        self._wanted_groups = num_groups
        self._engine: Engine | None = None
        self.num_groups = num_groups

    @torch.no_grad()
    def predict(
        self, inputs: Any, folder: str | os.PathLike[str], *, progress: bool | str = False
    ) -> Predictive | RegressionPredictive:
        """The predictive of one set of inputs.

        Args:
            inputs: of known length, in any form that :func:`bbnn_uq.predict` takes.
            folder: where parts are kept; it goes on from those that are there, which have to be
                of the same inputs, networks and options.
            progress: whether to show a bar on a terminal, or its title.

        Raises:
            ValueError: what is in the folder is damaged or was computed in another precision.
        """
        stream = InputStream(inputs)
        if stream.length is None:
            raise ValueError("inputs must have a length; pass an array, a Dataset or a file")
        engine = self._ready(stream)
        kept = GrowingArrays(folder)
        if kept.rows:
            _check_precision(kept, engine.architecture.precision)
        if kept.rows < stream.length:
            most = self.part_size(stream, engine)
            options = Options.checked(**self._options, num_groups=self.num_groups)
            for part in engine.run(stream, options, progress=progress, start=kept.rows, most=most):
                _keep(part, kept)
        return _collected(kept)

    def part_size(self, stream: InputStream, engine: Engine) -> int:
        """Inputs of a part: as many as :data:`PART_BYTES` hold."""
        of_input = 12 * stream.first.numel()  # as read, less the mean, and over the deviation
        # A group's sums and what is made of them; twice more for the average over all networks.
        of_results = (2 * self.num_groups + 2) * self._result_bytes(engine)
        return max(1, PART_BYTES // (of_input + of_results))

    def _result_bytes(self, engine: Engine) -> int:
        """Of one input's sums over networks."""
        temperatures = {1.0, *self._options["score_temperatures"]}
        return 8 * network_sums.num_columns(max(2, engine.num_outputs), len(temperatures))

    def _ready(self, stream: InputStream) -> Engine:
        if self._engine is None:
            probe = normalise(stream.first, self._posterior.metadata.get("normalisation"))
            engine = Engine(self._model, self._posterior, self.settings, probe, keep=True)
            sums = self._wanted_groups * self._num_inputs * self._result_bytes(engine)
            self.num_groups = self._wanted_groups if sums <= LARGE_BYTES else 1
            self._engine = engine
        return self._engine


def _keep(part: Predictive | RegressionPredictive, kept: GrowingArrays) -> None:
    """Add a part's arrays, with inputs on the first axis, and what is said about all parts."""
    arrays = part.to_arrays()
    axes = {key: input_axis(key) for key in arrays}
    rows = {
        key: np.moveaxis(arrays[key], axis, 0) for key, axis in axes.items() if axis is not None
    }
    about = part.about()
    earlier = kept.about["about"]["metadata"]["seconds"] if kept.rows else 0.0
    about["metadata"] = about["metadata"] | {"seconds": earlier + about["metadata"]["seconds"]}
    kept.append(
        rows,
        {
            "kind": "classes" if isinstance(part, Predictive) else "real",
            "about": about,
            "fixed": {key: arrays[key].tolist() for key, axis in axes.items() if axis is None},
        },
    )


def _collected(kept: GrowingArrays) -> Predictive | RegressionPredictive:
    arrays = kept.mapped()
    if sum(values.nbytes for values in arrays.values()) <= LARGE_BYTES:
        arrays = {key: np.array(values) for key, values in arrays.items()}
    whole = {
        key: values if (axis := input_axis(key)) == 0 else _inputs_at(values, axis)
        for key, values in arrays.items()
    }
    whole |= {key: np.array(values) for key, values in kept.about["fixed"].items()}
    return _KINDS[kept.about["kind"]].from_arrays(whole, kept.about["about"])


def _inputs_at(rows: np.ndarray, axis: int | None) -> np.ndarray:
    assert axis is not None
    return np.ascontiguousarray(np.moveaxis(rows, 0, axis))


def _check_precision(kept: GrowingArrays, precision: str) -> None:
    """``auto`` depends on the machine, and a run may be continued on another one."""
    before = kept.about["about"]["metadata"]["precision"]
    if before != precision:
        raise ValueError(
            f"what a stopped run left in {str(kept.folder)!r} was computed in {before}, and here "
            f"it would go on in {precision}; continue it on the machine where it began"
        )
