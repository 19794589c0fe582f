"""Continual learning by prior chaining: what one task has taught is the next task's prior.

Meng, Bachmann, Khan, "Training Binary Neural Networks using the Bayesian Learning Rule", ICML
2020, arXiv 2002.10778, section 3.5.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from bbnn_uq import metrics
from bbnn_uq._checks import check_choice, check_count, check_real, check_seed
from bbnn_uq.inference import predict, refresh_batchnorm
from bbnn_uq.inputs import labelled_data
from bbnn_uq.likelihoods import Classification, Likelihood, as_likelihood
from bbnn_uq.posterior import BernoulliPosterior
from bbnn_uq.predictive import Predictive
from bbnn_uq.training import fit

__all__ = [
    "ContinualResult",
    "permute_pixels",
    "permuted_pixels",
    "pixel_permutations",
    "train_tasks",
]

_Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class ContinualResult:
    """What training on T tasks in turn has left, after each of them.

    Args:
        posteriors: the posterior after each task.
        accuracy: a_ji, accuracy on the test set of task i after training on task j, in [0, 1];
            NaN for i > j, tasks not seen by then.
        weight_entropy: parameter name → mean entropy of its weights after each task, in bits: 1
            for fair coins, 0 for a point mass (Meng, Bachmann, Khan 2020, figure 4).

    Raises:
        ValueError: ``accuracy`` is not square.

    Example:
        >>> result = ContinualResult((), np.array([[0.9, np.nan], [0.5, 0.8]]), {})
        >>> result.mean_accuracy, round(result.forgetting, 3)
        (array([0.9 , 0.65]), 0.4)
    """

    posteriors: tuple[BernoulliPosterior, ...]
    accuracy: Float64[np.ndarray, "trained tested"]
    weight_entropy: dict[str, Float64[np.ndarray, "trained"]]

    def __post_init__(self) -> None:
        rows, columns = self.accuracy.shape
        if rows != columns or rows == 0:
            raise ValueError(
                f"accuracy must have shape (T, T) for T tasks, got {self.accuracy.shape}"
            )

    @property
    def num_tasks(self) -> int:
        """Number of tasks T."""
        return len(self.accuracy)

    @property
    def mean_accuracy(self) -> Float64[np.ndarray, "trained"]:
        """Mean accuracy over the tasks seen so far after each task, (T,)."""
        return np.array([self.accuracy[j, : j + 1].mean() for j in range(self.num_tasks)])

    @property
    def backward_transfer_by_task(self) -> Float64[np.ndarray, "earlier"]:
        """What later tasks did to each task but the last, a_Ti − a_ii, (T − 1,); mostly below 0."""
        return self.accuracy[-1, :-1] - self.accuracy.diagonal()[:-1]

    @property
    def backward_transfer(self) -> float:
        """Mean over i < T of a_Ti − a_ii (Lopez-Paz, Ranzato 2017); NaN at T = 1."""
        return _mean(self.backward_transfer_by_task)

    @property
    def forgetting_by_task(self) -> Float64[np.ndarray, "earlier"]:
        """How far each task but the last fell from its best, max_{j < T} a_ji − a_Ti, (T − 1,)."""
        return np.array(
            [self.accuracy[i:-1, i].max() - self.accuracy[-1, i] for i in range(self.num_tasks - 1)]
        )

    @property
    def forgetting(self) -> float:
        """Mean over i < T of max_{j < T} a_ji − a_Ti (Chaudhry et al. 2018); NaN at T = 1.

        Only j ≥ i count: before a task is trained on, it is not evaluated.
        """
        return _mean(self.forgetting_by_task)


def train_tasks(
    model: nn.Module,
    tasks: Iterable[Any],
    *,
    epochs: int,
    chain_prior: bool = True,
    kl_weight: float = 1.0,
    prior_weight: float | None = None,
    batchnorm: str = "last",
    test_networks: int = 8,
    seed: int = 0,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    device: torch.device | str | None = None,
    **fit_options: Any,
) -> ContinualResult:
    """Train on one task after another, each with the previous posterior as its prior.

    Task t minimises E_q[Σ ℓ_t] + ρ KL(q ‖ q_{t−1}), so the Bayesian learning rule becomes

        λ ← (1 − α ρ) λ − α {∇_μ E_q[Σ ℓ_t] − ρ λ_{t−1}}

    (Meng, Bachmann, Khan 2020, equations 20 and 21, where ρ = 1). The first task has the uniform
    prior. Later ones start from λ_{t−1}, and real-valued parameters and buffers are carried over.

    Args:
        model: returns logits (N, C) for all tasks: they share its outputs, and nothing tells it
            which task an input is from. It is left unchanged.
        tasks: of pairs ((x_train, y_train), (x_test, y_test)) of tensors or arrays, inputs of the
            same shape. An iterator is read one task at a time; of a list, all tasks are
            checked before the first is trained on.
        epochs: passes over each task's training set.
        chain_prior: without it, the later tasks still start from λ_{t−1}, but the prior stays
            uniform, whose pull is towards λ = 0: the paper's baseline.
        kl_weight: ρ of the first task; 1 is the untempered posterior, which the paper has. The
            pull of the prior takes about 1 / (α ρ) steps to be felt: with the small ρ that is
            good for one task alone, little is remembered.
        prior_weight: ρ of the later tasks, ``kl_weight`` when not given. A larger one remembers
            more and learns less; together with a smaller ``kl_weight`` it keeps more of the
            accuracy on the first task.
        batchnorm: which statistics of BatchNorm the test of an earlier task uses. ``last``: those
            of the task trained on last, as the authors' code does, so that a test needs no
            task number. ``task``: measured anew for the current posterior on the training inputs
            of the task under test (:func:`bbnn_uq.refresh_batchnorm`), which have to be kept,
            and the task's number has to be known at test time.
        test_networks: how many drawn networks are averaged in tests.
        seed: of everything random in training. Each task has a seed of its own, made from it.
        checkpoint_dir: where an interrupted run goes on, as in :func:`bbnn_uq.fit`; with a
            folder ``task-0``, ``task-1``, … for each task.
        device: where to compute; a GPU when there is one and none is named.
        **fit_options: everything else but ``prior`` goes to :func:`bbnn_uq.fit`.

    Returns:
        Posteriors, accuracies on the tasks seen so far, and entropies of weights, after each task.

    Raises:
        TypeError, ValueError: an argument is out of its range, there is no task, or tasks differ
            in the shape of their inputs.

    Example:
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> tasks = [((z, y), (z, y)) for z in permuted_pixels(x, 2)]
        >>> model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.BatchNorm1d(2))
        >>> result = train_tasks(model, tasks, epochs=20, batch_size=50)
        >>> result.accuracy.shape, bool(result.accuracy[0, 0] > 0.8)
        ((2, 2), True)
        >>> result.posteriors[1].metadata["recipe"]["kl_weight"]
        1.0
    """
    check_choice(batchnorm, "batchnorm", ("last", "task"))
    check_count(test_networks, "test_networks")
    check_seed(seed)
    later_weight = _later_weight(chain_prior, kl_weight, prior_weight)
    options = {"epochs": epochs, "batchnorm_networks": max(32, test_networks), "device": device}
    options |= fit_options
    work = copy.deepcopy(model)
    posteriors: list[BernoulliPosterior] = []
    seen: list[tuple[Tensor | None, _Pair]] = []
    rows: list[list[float]] = []
    likelihood = as_likelihood(fit_options.get("likelihood"))
    for number, (train, test) in enumerate(_checked(tasks, likelihood)):
        posterior = fit(
            work,
            train,
            prior=posteriors[-1] if posteriors and chain_prior else None,
            init=posteriors[-1] if posteriors else None,
            kl_weight=later_weight if posteriors else kl_weight,
            seed=_task_seed(seed, number),
            checkpoint_dir=checkpoint_dir and Path(checkpoint_dir, f"task-{number}"),
            **options,
        )
        _set_state(work, posterior.real_state)
        posteriors.append(posterior)
        seen.append((train[0] if batchnorm == "task" else None, test))
        rows.append([_accuracy(work, posterior, *task, test_networks, device) for task in seen])
    if not rows:
        raise ValueError("tasks is empty; pass at least one ((x_train, y_train), (x_test, y_test))")
    return ContinualResult(tuple(posteriors), _lower_triangle(rows), _weight_entropy(posteriors))


def pixel_permutations(
    num_pixels: int, num_tasks: int, *, seed: int = 0
) -> Int64[np.ndarray, "tasks pixels"]:
    """Random permutations of pixels, one for each task; the first is the identity.

    Task 0 is then the data set as it stands. The code of Meng, Bachmann, Khan permutes the first
    task as well, which makes no difference to a multilayer perceptron.

    Args:
        num_pixels: length of a permutation.
        num_tasks: how many; a larger number adds permutations and changes none.
        seed: of the permutations.

    Returns:
        (num_tasks, num_pixels); pixel k of task t is pixel ``permutations[t, k]`` of the data.

    Raises:
        TypeError, ValueError: an argument is no integer or out of its range.

    Example:
        >>> pixel_permutations(4, 2)
        array([[0, 1, 2, 3],
               [2, 0, 1, 3]])
    """
    pixels = np.arange(check_count(num_pixels, "num_pixels"))
    generator = np.random.default_rng(check_seed(seed))
    later = [generator.permutation(pixels) for _ in range(check_count(num_tasks, "num_tasks") - 1)]
    return np.stack([pixels, *later])


def permute_pixels(x: Any, permutation: Any) -> Any:
    """Reorder the pixels of images, the same way in all images and channels.

    Args:
        x: features (N, F) or images (N, H, W) or (N, C, H, W): a tensor or an array.
        permutation: of the F features or H·W pixels.

    Returns:
        As ``x``: its kind, shape and dtype, and for a tensor its device.

    Raises:
        ValueError: ``permutation`` is none, or not of as many pixels as ``x`` has.

    Example:
        >>> permute_pixels(np.array([[[0, 1], [2, 3]]]), [3, 0, 1, 2])
        array([[[3, 0],
                [1, 2]]])
    """
    pixels = _num_pixels(x)
    order = np.asarray(permutation)
    if order.shape != (pixels,) or not np.array_equal(np.sort(order), np.arange(pixels)):
        raise ValueError(
            f"permutation must hold each of 0 … {pixels - 1} once for x of shape "
            f"{tuple(x.shape)}, got shape {order.shape}; pixel_permutations({pixels}, …) makes some"
        )
    flat = x.reshape(*x.shape[: 2 if x.ndim == 4 else 1], pixels)
    index = torch.from_numpy(order).to(x.device) if isinstance(x, Tensor) else order
    return flat[..., index].reshape(x.shape)


def permuted_pixels(x: Any, num_tasks: int, *, seed: int = 0) -> Iterator[Any]:
    """The same inputs as seen by each task: with pixels in an order of its own, the first as is.

    The order depends on the number of pixels and the seed alone, so a second call permutes the
    test set alike. One task's inputs are made at a time.

    Args:
        x: features (N, F) or images (N, H, W) or (N, C, H, W): a tensor or an array.
        num_tasks: number of tasks, at least 1.
        seed: of the permutations.

    Yields:
        The permuted inputs of each task, as ``x``: its kind, shape and dtype.

    Raises:
        TypeError, ValueError: an argument is out of its range.

    Example:
        >>> first, second = permuted_pixels(np.array([[5, 6, 7, 8]]), 2)
        >>> first, second
        (array([[5, 6, 7, 8]]), array([[7, 5, 6, 8]]))
    """
    permutations = pixel_permutations(_num_pixels(x), num_tasks, seed=seed)
    return (permute_pixels(x, permutation) for permutation in permutations)


def _num_pixels(x: Any) -> int:
    if not isinstance(x, (np.ndarray, Tensor)):
        raise TypeError(f"x must be an array or a tensor, got {type(x).__name__}")
    if not 2 <= x.ndim <= 4:
        raise ValueError(
            f"x must have shape (N, F), (N, H, W) or (N, C, H, W), got {tuple(x.shape)}"
        )
    return math.prod(x.shape[2:] if x.ndim == 4 else x.shape[1:])


def _mean(values: Float64[np.ndarray, "values"]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _later_weight(chain_prior: bool, kl_weight: float, prior_weight: float | None) -> float:
    """ρ of all tasks but the first."""
    check_real(kl_weight, "kl_weight", minimum=0.0)
    if prior_weight is None:
        return kl_weight
    if not chain_prior:
        raise ValueError("prior_weight weighs the chained prior; leave it out, or chain_prior=True")
    return check_real(prior_weight, "prior_weight", minimum=0.0)


def _task_seed(seed: int, number: int) -> int:
    # Consecutive seeds for consecutive tasks would make runs of consecutive seeds share streams.
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _checked(tasks: Iterable[Any], likelihood: Likelihood) -> Iterator[tuple[_Pair, _Pair]]:
    """Each task as tensors; all of them are looked at first where that is possible."""
    if not isinstance(likelihood, Classification):
        raise ValueError(
            f"likelihood must be of classes, since tasks are measured by accuracy, got "
            f"{likelihood.name!r}"
        )
    if isinstance(tasks, Sequence):
        for _ in _converted(tasks, likelihood):
            pass
    return _converted(tasks, likelihood)


def _converted(tasks: Iterable[Any], likelihood: Likelihood) -> Iterator[tuple[_Pair, _Pair]]:
    shape = None
    for number, task in enumerate(tasks):
        if not isinstance(task, (tuple, list)) or len(task) != 2:
            raise TypeError(
                f"tasks[{number}] must be a pair ((x_train, y_train), (x_test, y_test)), got "
                f"{type(task).__name__}"
            )
        pairs = []
        for split, data in zip(("training", "test"), task, strict=True):
            name = f"tasks[{number}] {split} data"
            pair = labelled_data(data, likelihood, name)
            if not isinstance(pair, tuple):
                raise TypeError(f"{name} must be a pair (x, y), got {type(data).__name__}")
            shape = shape or pair[0].shape[1:]
            if pair[0].shape[1:] != shape:
                raise ValueError(
                    f"{name} has inputs of shape {tuple(pair[0].shape[1:])}, earlier ones are "
                    f"{tuple(shape)}; all tasks go through one model, so pad or resize them"
                )
            pairs.append(pair)
        yield pairs[0], pairs[1]


@torch.no_grad()
def _set_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Real-valued parameters and buffers for the next task to start from."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, value in state.items():
        tensors[name].copy_(value)


def _accuracy(
    model: nn.Module,
    posterior: BernoulliPosterior,
    own_inputs: Tensor | None,
    test: _Pair,
    networks: int,
    device: torch.device | str | None,
) -> float:
    """Accuracy on one task's test set, with BatchNorm statistics of its own inputs if given."""
    if own_inputs is not None:
        posterior = refresh_batchnorm(
            model, posterior, own_inputs, num_samples=networks, device=device
        )
    x, y = test
    predictive = predict(model, posterior, x, num_samples=networks, device=device)
    assert isinstance(predictive, Predictive)
    return metrics.accuracy(predictive.probs, y)


def _lower_triangle(rows: list[list[float]]) -> Float64[np.ndarray, "tasks tasks"]:
    return np.array([row + [math.nan] * (len(rows) - len(row)) for row in rows])


def _weight_entropy(
    posteriors: list[BernoulliPosterior],
) -> dict[str, Float64[np.ndarray, "tasks"]]:
    layers = [posterior.summary()["layers"] for posterior in posteriors]
    return {
        name: np.array([layer[name]["bits_per_weight"] for layer in layers]) for name in layers[0]
    }
