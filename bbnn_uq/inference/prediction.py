"""predict: the engine behind one function."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bbnn_uq.inference.distributed import Shard
from bbnn_uq.inference.engine import Engine
from bbnn_uq.inference.results import collected
from bbnn_uq.inference.settings import Options, Settings
from bbnn_uq.input_stream import InputStream
from bbnn_uq.inputs import normalise
from bbnn_uq.posterior import Posterior
from bbnn_uq.predictive import Predictive
from bbnn_uq.regression import RegressionPredictive

__all__ = ["predict"]


@torch.no_grad()
def predict(
    model: nn.Module,
    posterior: Posterior,
    inputs: Any,
    *,
    num_samples: int | str = 32,
    seed: int = 0,
    method: str = "monte_carlo",
    precision: str = "auto",
    score_temperatures: Sequence[float] = (1.0,),
    device: torch.device | str | None = None,
    batch_size: int | None = None,
    memory_budget: int | None = None,
    keep_samples: bool = False,
    num_groups: int = 1,
    tolerance: float = 0.005,
    out: str | os.PathLike[str] | None = None,
    process_group: Any = None,
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
        inputs: (N, ...) as a tensor, array, Dataset or DataLoader (labels are ignored), or read
            from disk in blocks: a memory-mapped array, or the path of a ``.npy`` file or of an
            uncompressed ``.npz`` file with an array ``x``. The posterior's normalisation, when it
            has one, is applied to them.
        num_samples: number of networks S; or ``auto``: 16 more until the standard error of the
            mean is within ``tolerance``, 1,024 at most. Not used at ``method="mode"``.
        seed: which sequence of networks, in [0, 2⁶⁴).
        method: ``monte_carlo`` (drawn networks); ``local`` (local reparameterisation:
            pre-activations are drawn, and no network is, which is quick for a few inputs;
            :mod:`bbnn_uq.inference.local` says what is approximate); or ``mode`` (the one network
            sign λ; of a mixture, one for each member).
        precision: ``float64``, ``float32``, ``bfloat16``, ``int8`` or ``auto``, which depends on
            the model and the device alone: float64 for models of up to 2²⁰ binary weights on a
            CPU; for larger ones of classes the fastest that the device has, int8 on a CPU with
            instructions for it and bfloat16 on a GPU; else float32.
            :mod:`bbnn_uq.inference.products` says what is rounded.
        score_temperatures: logit temperatures T > 0 for scores such as ``mutual_information@3``;
            of classification only.
        device: where to compute; a GPU when there is one and none is named.
        batch_size: most inputs of one forward pass; it changes no figure but by rounding.
        memory_budget: bytes that the prediction may take over the model, the posterior and
            inputs that are in memory already, 2 GiB unless given.
        keep_samples: keep what every network predicts, float32: probabilities (S, N, C), or
            means (S, N) or (S, N, D).
        num_groups: with 2 or more, sums are kept for so many groups of networks, from which
            :func:`bbnn_uq.monte_carlo.monte_carlo_error` finds the error of any figure.
        tolerance: of ``num_samples="auto"``: root mean square over inputs and classes of the
            standard error of the averaged probability, in (0, 1); for real targets that of the
            mean, relative to the predictive standard deviation.
        out: an ``.npz`` file that the results are written to block by block, so that they need
            not fit in memory; what is returned then reads from it.
        process_group: ``world``, or a group of ``torch.distributed``, whose processes share the
            work; each gets the same result.
        progress: show a bar on a terminal.

    Returns:
        The :class:`Predictive` of the N inputs; of real targets the
        :class:`~bbnn_uq.regression.RegressionPredictive`.

    Warns:
        UserWarning: some networks have no BatchNorm statistics of their own while others have;
            or 1,024 networks do not reach the tolerance.

    Raises:
        TypeError, ValueError: an argument is out of its range, the posterior does not fit the
            model, the budget is too small, or the model's outputs are not finite or not of the
            shape that the likelihood takes.

    Example:
        >>> from bbnn_uq import BernoulliPosterior
        >>> model = nn.Linear(2, 2, bias=False)
        >>> posterior = BernoulliPosterior({"weight": torch.tensor([[9.0, 0.0], [-9.0, 0.0]])})
        >>> predict(model, posterior, torch.tensor([[1.0, 0.0]]), num_samples=4).probs.round(3)
        array([[0.881, 0.119]])
    """
    settings = Settings.checked(
        posterior, num_samples=num_samples, seed=seed, method=method, precision=precision,
        device=device, memory_budget=memory_budget,
    )  # fmt: skip
    options = Options.checked(
        score_temperatures=score_temperatures, batch_size=batch_size, keep_samples=keep_samples,
        num_groups=num_groups, tolerance=tolerance,
    )  # fmt: skip
    shard = Shard.alone() if process_group is None else Shard.of(process_group)
    if shard.count > 1 and keep_samples:
        raise ValueError("keep_samples needs every network in one process; leave out process_group")
    stream = InputStream(inputs)
    probe = normalise(stream.first, posterior.metadata.get("normalisation"))
    engine = Engine(model, posterior, settings, probe)
    return collected(engine.run(stream, options, shard=shard, progress=progress), out)
