"""fit: from a model and data to a Bernoulli posterior over its binary weights."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bbnn_uq import metrics
from bbnn_uq._checks import check_count, check_real, check_real_array, check_seed
from bbnn_uq._progress import progress_bar
from bbnn_uq.checkpoint import load_checkpoint, save_checkpoint
from bbnn_uq.inference import predict, refresh_batchnorm
from bbnn_uq.inputs import (
    all_inputs,
    check_device,
    compute_normalisation,
    labelled_data,
    seeded_torch,
    training_batches,
    whole_data,
)
from bbnn_uq.likelihoods import Gaussian, Likelihood, as_likelihood
from bbnn_uq.posterior import BernoulliPosterior, warn_if_collapsed
from bbnn_uq.predictive import Predictive
from bbnn_uq.regression import RegressionPredictive
from bbnn_uq.trainer import Trainer

__all__ = ["binary_parameters", "fit"]

VALIDATION_NETWORKS = 8
CHECKPOINT = "checkpoint.safetensors"
_BINARY_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def fit(
    model: nn.Module,
    data: Any,
    *,
    epochs: int,
    batch_size: int = 128,
    likelihood: str | Likelihood = "softmax",
    sample_weight: Any = None,
    estimator: str = "straight_through",
    lr: float = 0.1,
    real_lr: float = 0.03,
    kl_weight: float = 1e-2,
    kl_warmup: float = 0.0,
    max_change: float | str | None = "auto",
    num_samples: int = 1,
    momentum: float = 0.9,
    temperature: float = 0.5,
    init_scale: float = 1.0,
    prior: BernoulliPosterior | Mapping[str, Tensor] | None = None,
    init: BernoulliPosterior | Mapping[str, Tensor] | None = None,
    binary: Iterable[str] | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    num_data: int | None = None,
    normalise: bool = False,
    batchnorm_networks: int = 32,
    seed: int = 0,
    val: Any = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> BernoulliPosterior:
    """Train a Bernoulli posterior over the binary weights of a model.

    Minimises E_q[Σ ℓ] + ρ KL(q ‖ prior) (Meng, Bachmann, Khan 2020, equation 2) with
    ℓ = −log p(y | f(x; w)), times the input's ``sample_weight`` when given:
    :class:`bbnn_uq.BayesBiNN` for the binary weights, Adam for real-valued parameters, both step
    sizes falling to 0 along a cosine.

    Args:
        model: returns what the likelihood takes: logits (N, C) for ``softmax``. It is left
            unchanged; its real-valued parameters and buffers are where training starts.
        data: a pair (x, y) of tensors or arrays, a Dataset of such pairs, or a DataLoader; y
            holds class numbers, or real numbers for a Gaussian likelihood.
        epochs: passes over the data, at least 1.
        batch_size: inputs per step (a DataLoader brings its own).
        likelihood: p(y | f): ``softmax``, ``binary`` (one logit), ``gaussian`` (learned noise), or
            an object of :mod:`bbnn_uq.likelihoods`, such as ``Gaussian(noise="predicted")``. It is
            stored in the posterior, and :func:`bbnn_uq.predict` reads it there.
        sample_weight: ω_i ≥ 0 of each input (N,), with arrays or tensors as ``data``: the sum
            above is Σ ω_i ℓ_i. Weights are not scaled to a mean of 1, and ``num_data`` stays the
            number of inputs: ω = 2 counts an input twice against the KL term. Normalisation and
            BatchNorm see every input once.
        estimator: of ∇_μ: ``straight_through``, ``local``, ``concrete`` or ``published``, as
            :class:`bbnn_uq.BayesBiNN` has them.
        lr: α of the binary weights at the start.
        real_lr: Adam's step size at the start.
        kl_weight: ρ ≥ 0; larger keeps more uncertainty, 1 is the untempered posterior.
        kl_warmup: share of training, in [0, 1], over which ρ rises linearly to ``kl_weight``.
        max_change: bound on how far one gradient may move a λ, α |∇_μ| ≤ ``max_change``, or None;
            ``auto`` is 1 for a Gaussian likelihood, whose gradient has no bound of its own and
            could settle a weight for good in one step, and none for classes.
        num_samples: networks drawn per step.
        momentum: β in [0, 1).
        temperature: τ > 0 of ``concrete``.
        init_scale: |λ| at the start, with random signs, without ``prior`` and ``init``.
        prior: λ₀ by name, or the posterior of a previous task; uniform when not given.
        init: λ at the start, likewise; the prior when not given.
        binary: names of the parameters that become binary; when not given, the weights (not
            biases) of all linear and convolution layers.
        augment: changes each training batch of inputs (N, ...), before they are normalised: from
            torch's global random stream, which is seeded here. See :mod:`bbnn_uq.augment`.
        num_data: N, when its length is unknown, or larger than the training set when that is
            augmented: the paper counts each image of CIFAR-10 ten times.
        normalise: shift and scale inputs by the training set's mean and standard deviation per
            channel or feature, and real-valued targets likewise; stored in the posterior, and
            applied or undone by :func:`bbnn_uq.predict`.
        batchnorm_networks: how many networks of seed 0 get BatchNorm statistics of their own at the
            end (:func:`bbnn_uq.refresh_batchnorm`); 0 keeps the running averages.
        seed: of initial signs, drawn weights, shuffling and dropout.
        val: labelled data evaluated after each epoch, for ``on_epoch`` and the progress bar.
        checkpoint_dir: folder of a checkpoint, written after each epoch. When it holds one of the
            same run, training continues there, and λ ends bit for bit as if it had never
            stopped (a DataLoader of your own needs a ``generator`` for that).
        device: where to train; a GPU when there is one and none is named.
        progress: show a bar on a terminal.
        on_epoch: called after each epoch with a dictionary of JSON values: ``epoch``, ``loss``
            (−log p, weighted), ``accuracy`` or, of a Gaussian, ``mse`` (both of drawn networks on
            training batches), ``bits_per_weight``, ``flip_rate``, ``seconds``, and with ``val``
            also ``val_nll`` and ``val_accuracy`` or ``val_mse``. A resumed run calls it for the
            earlier epochs first.

    Returns:
        The posterior, with everything that the model needs and the recipe in its metadata.

    Raises:
        TypeError, ValueError: an argument is out of its range, data and model do not fit, training
            diverges, or the checkpoint is of another run.

    Warns:
        CollapsedPosteriorWarning: drawn networks are nearly all the same.
        UserWarning: the model's outputs are probabilities, where logits are wanted.

    Example:
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.BatchNorm1d(2))
        >>> posterior = fit(model, (x, y), epochs=20, batch_size=50)
        >>> posterior.mode()["0.weight"][:, 0]
        tensor([-1.,  1.])
    """
    epochs, batch_size = check_count(epochs, "epochs"), check_count(batch_size, "batch_size")
    batchnorm_networks = check_count(batchnorm_networks, "batchnorm_networks", minimum=0)
    seed = check_seed(seed)
    check_real(real_lr, "real_lr", above=0.0)
    if not 0.0 <= check_real(kl_warmup, "kl_warmup") <= 1.0:
        raise ValueError(f"kl_warmup must lie in [0, 1], got {kl_warmup}")
    if augment is not None and (isinstance(augment, type) or not callable(augment)):
        raise TypeError(
            f"augment must be a function of a batch, such as RandomCropFlip(), got {augment!r}"
        )
    place = check_device(device)
    likelihood = as_likelihood(likelihood)
    train = labelled_data(data, likelihood)
    held_out = None if val is None else whole_data(val, likelihood)
    with seeded_torch(seed, place):  # a loader of the user's may shuffle from the global stream
        if isinstance(likelihood, Gaussian):
            targets = (train if isinstance(train, tuple) else whole_data(train, likelihood))[1]
            likelihood.fit_targets(targets, normalise=normalise)
            _check_same_shape(targets, held_out)
        moments = compute_normalisation(_inputs_of(train)) if normalise else None
    if sample_weight is not None:
        train = _weighted(train, sample_weight)
    loader, size = training_batches(train, batch_size, seed)
    if isinstance(max_change, str) and max_change == "auto":
        max_change = 1.0 if isinstance(likelihood, Gaussian) else None
    recipe = {
        "estimator": estimator,
        "lr": lr,
        "kl_weight": kl_weight,
        "max_change": max_change,
        "num_samples": num_samples,
        "momentum": momentum,
        "temperature": temperature,
        "init_scale": init_scale,
        "num_data": size if num_data is None else num_data,
    }
    work = copy.deepcopy(model).to(place).train()
    trainer = Trainer(
        work,
        loader,
        likelihood.to(place),
        binary_parameters(work) if binary is None else _named(work, binary),
        recipe={key: _plain(value) for key, value in recipe.items()},
        schedule={
            "epochs": epochs,
            "batch_size": batch_size,
            "real_lr": _plain(real_lr),
            "kl_warmup": _plain(kl_warmup),
            "normalise": bool(normalise),
            "prior": "uniform" if prior is None else "given",
            "likelihood": likelihood.spec,
            "augment": _described(augment),
            "seed": seed,
        },
        normalisation=moments,
        prior=prior,
        init=init,
        augment=augment,
        weighted=sample_weight is not None,
        device=place,
    )
    checkpoint = None
    if checkpoint_dir is not None:
        checkpoint = Path(checkpoint_dir) / CHECKPOINT
        trainer.fingerprint = _fingerprint(trainer, train)
    report = on_epoch or (lambda record: None)
    with (
        seeded_torch(seed, place),
        progress_bar("training", epochs, enabled=progress, unit="epochs") as advance,
    ):
        if checkpoint is not None and checkpoint.exists():
            trainer.restore(load_checkpoint(checkpoint))
            for record in trainer.history:
                report(record)
            advance(len(trainer.history), "resumed")
        while len(trainer.history) < epochs:
            record = _epoch(trainer, held_out)
            report(record)
            if checkpoint is not None:
                save_checkpoint(checkpoint, trainer.state())
            note = f"loss {record['loss']:.3f}, {record['bits_per_weight']:.2f} bits per weight"
            advance(1, note)
    fitted = trainer.posterior()
    warn_if_collapsed(fitted)
    if batchnorm_networks == 0:
        return fitted
    return refresh_batchnorm(work, fitted, train, num_samples=batchnorm_networks, device=place)


def binary_parameters(model: nn.Module) -> list[str]:
    """Names of the parameters that become binary: weights of linear and convolution layers.

    Raises:
        ValueError: the model has none.

    Example:
        >>> binary_parameters(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
        ['0.weight']
    """
    weights = {
        id(module.weight) for module in model.modules() if isinstance(module, _BINARY_LAYERS)
    }
    names = [name for name, p in model.named_parameters() if id(p) in weights]
    if not names:
        raise ValueError(
            "model has no linear or convolution layer whose weights could be binary; name the "
            "parameters with binary="
        )
    return names


def _named(model: nn.Module, names: Iterable[str]) -> list[str]:
    wanted = list(names)
    known = dict(model.named_parameters())
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ValueError(f"binary must name parameters of the model, got {unknown or wanted}")
    return wanted


def _epoch(trainer: Trainer, held_out: tuple[Tensor, Tensor] | None) -> dict[str, Any]:
    """Train for an epoch and enter what happened into the history."""
    started = time.perf_counter()
    loss, quality = trainer.train_epoch()
    quality_name = trainer.likelihood.quality_name
    now = trainer.posterior()
    record = {
        "epoch": len(trainer.history) + 1,
        "loss": loss,
        quality_name: quality,
        "bits_per_weight": now.bits_per_weight(),
        "flip_rate": now.flip_rate(),
        "seconds": time.perf_counter() - started,
    }
    if held_out is not None:
        x, y = held_out
        predictive = predict(
            trainer.model, now, x, num_samples=VALIDATION_NETWORKS, device=trainer.device
        )
        nll, held_out_quality = _measured(predictive, y)
        record |= {"val_nll": nll, f"val_{quality_name}": held_out_quality}
    trainer.history.append(record)
    return record


def _measured(predictive: Predictive | RegressionPredictive, y: Tensor) -> tuple[float, float]:
    """NLL, and accuracy or mean squared error."""
    if isinstance(predictive, Predictive):
        return metrics.nll(predictive.probs, y), metrics.accuracy(predictive.probs, y)
    targets = y.numpy()
    return (
        metrics.gaussian_nll(predictive.mean, predictive.std, targets),
        metrics.mse(predictive.mean, targets),
    )


def _fingerprint(trainer: Trainer, data: Any) -> str:
    """A hash of what the recipe does not say: λ at the start, the prior, real state and data."""
    tensors = list(data) if isinstance(data, tuple) else []
    for group in trainer.bayesbinn.param_groups:
        for parameter in group["params"]:
            state = trainer.bayesbinn.state[parameter]
            tensors += [value for value in state.values() if isinstance(value, Tensor)]
    tensors += trainer.real_state().values()
    tensors += trainer.likelihood.state_dict().values()
    digest = hashlib.blake2b(repr(trainer.normalisation).encode(), digest_size=16)
    for tensor in tensors:
        digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _described(augment: Callable[[Tensor], Tensor] | None) -> str | None:
    """What tells one augmentation from another in a recipe, without addresses in memory."""
    return None if augment is None else re.sub(r" at 0x[0-9a-fA-F]+", "", repr(augment))


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, which JSON takes."""
    return value.item() if isinstance(value, np.generic) else value


def _check_same_shape(targets: Tensor, held_out: tuple[Tensor, Tensor] | None) -> None:
    if held_out is not None and held_out[1].shape[1:] != targets.shape[1:]:
        raise ValueError(
            f"val y has shape {tuple(held_out[1].shape)} and data y {tuple(targets.shape)}; give "
            "targets of both the same dimensions"
        )


def _weighted(data: Any, sample_weight: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The pair (x, y) with a weight for each input, float32."""
    if not isinstance(data, tuple):
        raise TypeError(
            "sample_weight needs data as a pair (x, y) of arrays or tensors, got "
            f"{type(data).__name__}"
        )
    x, y = data
    weights = check_real_array(sample_weight, "sample_weight")
    if weights.shape != (len(x),):
        raise ValueError(
            f"sample_weight must have shape ({len(x)},), one per input, got {weights.shape}"
        )
    if weights.min() < 0 or weights.max() == 0:
        raise ValueError(
            "sample_weight must be at least 0, and above 0 for some input, got values from "
            f"{weights.min():g} to {weights.max():g}"
        )
    return x, y, torch.from_numpy(weights).float()


def _inputs_of(data: tuple[Tensor, Tensor] | Any) -> Tensor:
    return data[0] if isinstance(data, tuple) else all_inputs(data)
