"""fit: from a model and data to a Bernoulli posterior over its binary weights."""

from __future__ import annotations

import copy
import importlib.metadata
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from bbnn_uq import metrics
from bbnn_uq._checks import check_count, check_real, check_seed
from bbnn_uq._progress import progress_bar
from bbnn_uq.inference import predict, refresh_batchnorm
from bbnn_uq.inputs import (
    all_inputs,
    check_device,
    compute_normalisation,
    labelled_data,
    seeded_torch,
)
from bbnn_uq.inputs import normalise as normalise_inputs
from bbnn_uq.optim import BayesBiNN
from bbnn_uq.posterior import BernoulliPosterior, warn_if_collapsed

__all__ = ["binary_parameters", "fit"]

VALIDATION_NETWORKS = 8
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
    estimator: str = "straight_through",
    lr: float = 0.1,
    real_lr: float = 0.03,
    kl_weight: float = 3e-3,
    num_samples: int = 1,
    momentum: float = 0.9,
    temperature: float = 0.5,
    init_scale: float = 1.0,
    prior: BernoulliPosterior | Mapping[str, Tensor] | None = None,
    binary: Iterable[str] | None = None,
    num_data: int | None = None,
    normalise: bool = False,
    batchnorm_networks: int = 32,
    seed: int = 0,
    val: Any = None,
    device: torch.device | str | None = None,
    progress: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> BernoulliPosterior:
    """Train a Bernoulli posterior over the binary weights of a classifier.

    Minimises E_q[Σ ℓ] + ρ KL(q ‖ prior) (Meng, Bachmann, Khan 2020, equation 2) with ℓ the
    cross-entropy of the model's logits: :class:`bbnn_uq.BayesBiNN` for the binary weights, Adam
    for real-valued parameters, both step sizes falling to 0 along a cosine.

    Args:
        model: returns logits (N, C). It is left unchanged; its real-valued parameters and
            buffers are where training starts.
        data: a pair (x, y) of tensors or arrays with integer y, a Dataset of such pairs, or a
            DataLoader.
        epochs: passes over the data, at least 1.
        batch_size: inputs per step (a DataLoader brings its own).
        estimator: of ∇_μ: ``straight_through`` or ``concrete``.
        lr: α of the binary weights at the start.
        real_lr: Adam's step size at the start.
        kl_weight: ρ ≥ 0; larger keeps more uncertainty, 1 is the untempered posterior.
        num_samples: networks drawn per step.
        momentum: β in [0, 1).
        temperature: τ > 0 of ``concrete``.
        init_scale: |λ| at the start, when there is no prior.
        prior: λ₀ by name, or the posterior of a previous task; training starts from it.
        binary: names of the parameters that become binary; when not given, the weights (not
            biases) of all linear and convolution layers.
        num_data: N, when the training set is augmented or its length is unknown.
        normalise: shift and scale inputs by the training set's mean and standard deviation per
            channel or feature; stored in the posterior, and applied by :func:`bbnn_uq.predict`.
        batchnorm_networks: how many networks of seed 0 get BatchNorm statistics of their own at the
            end (:func:`bbnn_uq.refresh_batchnorm`); 0 keeps the running averages.
        seed: of initial signs, drawn weights, shuffling and dropout.
        val: labelled data evaluated after each epoch, for ``on_epoch`` and the progress bar.
        device: where to train; a GPU when there is one and none is named.
        progress: show a bar on a terminal.
        on_epoch: called after each epoch with a dictionary of JSON values: ``epoch``, ``loss``,
            ``accuracy`` (both of drawn networks on training batches), ``bits_per_weight``,
            ``flip_rate``, ``seconds``, and with ``val`` also ``val_nll`` and ``val_accuracy``.

    Returns:
        The posterior, with everything that the model needs and the recipe in its metadata.

    Raises:
        TypeError, ValueError: an argument is out of its range, or data and model do not fit.

    Warns:
        CollapsedPosteriorWarning: drawn networks are nearly all the same.

    Example:
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.BatchNorm1d(2))
        >>> posterior = fit(model, (x, y), epochs=20, batch_size=50)
        >>> posterior.mode()["0.weight"][:, 0]
        tensor([-1.,  1.])
    """
    check_count(epochs, "epochs")
    check_count(batch_size, "batch_size")
    check_count(batchnorm_networks, "batchnorm_networks", minimum=0)
    check_real(real_lr, "real_lr", above=0.0)
    place = check_device(device)
    train = labelled_data(data)
    held_out = None if val is None else _validation(val)
    normalisation = compute_normalisation(_inputs_of(train)) if normalise else None
    loader, size = _loader(train, batch_size, check_seed(seed))
    recipe = {
        "estimator": estimator,
        "lr": lr,
        "kl_weight": kl_weight,
        "num_samples": num_samples,
        "momentum": momentum,
        "temperature": temperature,
        "init_scale": init_scale,
        "num_data": size if num_data is None else num_data,
    }

    work = copy.deepcopy(model).to(place).train()
    names = binary_parameters(work) if binary is None else _named(work, binary)
    parameters = dict(work.named_parameters())
    real = [p for name, p in parameters.items() if name not in names]
    bayesbinn = BayesBiNN(
        [(name, parameters[name]) for name in names],
        prior=prior,
        generator=torch.Generator(place).manual_seed(seed),
        **recipe,
    )
    optimizers = [bayesbinn, *([torch.optim.Adam(real, lr=real_lr)] if real else [])]
    steps = epochs * len(loader)
    schedulers = [CosineAnnealingLR(optimizer, steps) for optimizer in optimizers]
    metadata = {
        "normalisation": normalisation,
        "recipe": recipe
        | {"epochs": epochs, "batch_size": batch_size, "real_lr": real_lr, "seed": seed},
        "versions": {name: importlib.metadata.version(name) for name in ("bbnn-uq", "torch")},
    }
    metadata = {key: value for key, value in metadata.items() if value is not None}

    def posterior() -> BernoulliPosterior:
        state = dict(work.named_buffers()) | dict(work.named_parameters())
        kept = {name: value for name, value in state.items() if name not in names}
        if not all(bool(value.isfinite().all()) for value in bayesbinn.natural_param.values()):
            raise ValueError("natural parameters became infinite in training; lower lr or real_lr")
        return BernoulliPosterior(bayesbinn.natural_param, kept, metadata)

    with seeded_torch(seed, place), progress_bar("training", epochs, enabled=progress) as advance:
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            loss, accuracy = _train_epoch(
                work, loader, bayesbinn, optimizers, schedulers, normalisation, place
            )
            now = posterior()
            record = {
                "epoch": epoch,
                "loss": loss,
                "accuracy": accuracy,
                "bits_per_weight": now.bits_per_weight(),
                "flip_rate": now.flip_rate(),
                "seconds": time.perf_counter() - started,
            }
            if held_out is not None:
                record |= _validate(work, now, held_out, seed, place)
            if on_epoch is not None:
                on_epoch(record)
            advance(1, f"loss {loss:.3f}, {now.bits_per_weight():.2f} bits per weight")
    fitted = posterior()
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


def _train_epoch(
    model: nn.Module,
    loader: Iterable[Any],
    bayesbinn: BayesBiNN,
    optimizers: list[Any],
    schedulers: list[Any],
    normalisation: dict[str, list[float]] | None,
    device: torch.device,
) -> tuple[float, float]:
    """One pass over the data; the mean loss and accuracy of the networks drawn on the way."""
    ordinary = optimizers[1:]
    total, correct, seen = 0.0, 0.0, 0
    for x, y in loader:
        inputs = normalise_inputs(x.to(device), normalisation)
        labels = y.to(device)
        hits = 0.0

        def closure(inputs: Tensor = inputs, labels: Tensor = labels) -> Tensor:
            nonlocal hits
            bayesbinn.zero_grad()
            logits = model(inputs)
            _check_logits(logits, labels)
            loss = nn.functional.cross_entropy(logits, labels)
            loss.backward()
            hits += float((logits.detach().argmax(1) == labels).sum())
            return loss.detach()

        # Real-valued gradients add up over the draws of a step and are averaged below.
        for optimizer in ordinary:
            optimizer.zero_grad()
        loss = float(bayesbinn.step(closure))
        if not math.isfinite(loss):
            raise ValueError(f"the training loss became {loss}; lower lr or real_lr")
        for optimizer in ordinary:
            _divide_gradients(optimizer, bayesbinn.num_samples)
            optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
        total += loss * len(y)
        correct += hits / bayesbinn.num_samples
        seen += len(y)
    return total / seen, correct / seen


def _divide_gradients(optimizer: torch.optim.Optimizer, count: int) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and count > 1:
                parameter.grad /= count


def _check_logits(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or logits.shape[0] != len(labels):
        raise ValueError(
            f"model must return logits of shape ({len(labels)}, C) for {len(labels)} inputs, "
            f"got {tuple(logits.shape)}"
        )
    if int(labels.max()) >= logits.shape[1]:
        raise ValueError(
            f"data has label {int(labels.max())}, but the model has {logits.shape[1]} outputs"
        )


def _inputs_of(data: tuple[Tensor, Tensor] | Any) -> Tensor:
    return data[0] if isinstance(data, tuple) else all_inputs(data)


def _loader(data: Any, batch_size: int, seed: int) -> tuple[DataLoader, int]:
    """Shuffled batches and the number of inputs."""
    if isinstance(data, DataLoader):
        return data, len(data.dataset)  # pyright: ignore[reportArgumentType]
    generator = torch.Generator().manual_seed(seed)
    # The last batch is dropped when it is not full: one input alone has no variance for
    # BatchNorm, and shuffling shows every input sooner or later.
    if not isinstance(data, tuple):
        size = len(data)
        return DataLoader(
            data, min(batch_size, size), shuffle=True, drop_last=True, generator=generator
        ), size
    dataset = TensorDataset(*data)
    size = len(dataset)
    # Tensors are indexed by a whole batch at once, where a plain loader would collate items.
    order = RandomSampler(dataset, generator=generator)
    batches = BatchSampler(order, min(batch_size, size), drop_last=True)
    return DataLoader(dataset, sampler=batches, batch_size=None, generator=generator), size


def _validation(val: Any) -> tuple[Tensor, Tensor]:
    data = labelled_data(val, "val")
    if isinstance(data, tuple):
        return data
    if not isinstance(data, DataLoader):
        # Even an unshuffled loader reads a seed: from here rather than from the global stream.
        data = DataLoader(data, 1000, generator=torch.Generator())
    batches = [(x, y) for x, y in data]
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def _validate(
    model: nn.Module,
    posterior: BernoulliPosterior,
    data: tuple[Tensor, Tensor],
    seed: int,
    device: torch.device,
) -> dict[str, float]:
    x, y = data
    probs = predict(
        model, posterior, x, num_samples=VALIDATION_NETWORKS, seed=seed, device=device
    ).probs
    return {"val_nll": metrics.nll(probs, y), "val_accuracy": metrics.accuracy(probs, y)}
