"""Likelihoods: what a model's outputs f say about its targets y, as p(y | f)."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bbnn_uq._checks import check_choice, check_real

__all__ = ["Binary", "Classification", "Gaussian", "Likelihood", "Softmax", "as_likelihood"]

_BOUND = 3.0  # of predicted log noise, around its offset
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Likelihood(nn.Module, ABC):
    """p(y | f). As a module it may hold parameters of its own, which are trained with the rest.

    ``forward(outputs, targets, weights=None)`` is −log p(y | f), times the weight of each input
    where there are weights (N,), averaged over the inputs and summed over the parts of a target.
    """

    name: ClassVar[str]
    quality_name: ClassVar[str]

    @property
    def spec(self) -> Any:
        """What names this likelihood in a recipe, a JSON value."""
        return self.name

    def to_metadata(self) -> dict[str, Any]:
        """JSON values from which :func:`as_likelihood` makes it again."""
        return {"name": self.name}

    @abstractmethod
    def check_targets(self, targets: Tensor, num_inputs: int, name: str) -> Tensor:
        """Targets in the type that training wants.

        Raises:
            TypeError, ValueError: they are of another type, shape or range.
        """

    @abstractmethod
    def fit_targets(self, targets: Tensor, *, normalise: bool) -> None:
        """Take shape, and with ``normalise`` scale, from the training targets."""

    @abstractmethod
    def check_outputs(self, outputs: Tensor, num_inputs: int) -> None:
        """Raises ValueError when the model's outputs are not of the wanted shape."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """What one network predicts: class logits, or mean and std, each (N, …)."""

    @abstractmethod
    def quality(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over inputs of what people look at in training: ``quality_name``."""


class Classification(Likelihood):
    """A likelihood over C classes."""

    quality_name = "accuracy"

    @abstractmethod
    def logits(self, outputs: Tensor) -> Float[Tensor, "inputs classes"]:
        """Class logits of the model's outputs."""

    def predict(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """The class logits (N, C)."""
        return (self.logits(outputs),)

    def fit_targets(self, targets: Tensor, *, normalise: bool) -> None:
        """Nothing to take: classes have no scale."""

    def quality(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Accuracy."""
        return (self.logits(outputs).argmax(dim=1) == targets).double().mean()

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """−log p(y | f), weighted and averaged over the inputs."""
        self._check_classes(outputs, targets)
        logits = self.logits(outputs)
        if weights is None:
            return nn.functional.cross_entropy(logits, targets)
        return (weights * nn.functional.cross_entropy(logits, targets, reduction="none")).mean()

    def check_targets(self, targets: Tensor, num_inputs: int, name: str) -> Tensor:
        """Class numbers as int64 (N,)."""
        if targets.is_floating_point() or targets.is_complex() or targets.dtype is torch.bool:
            raise TypeError(
                f"{name} must hold integer class numbers, got {targets.dtype}; for real-valued "
                "targets fit with likelihood='gaussian'"
            )
        y = targets.long()  # torch has no arithmetic for some unsigned types
        if y.ndim != 1 or len(y) != num_inputs:
            raise ValueError(
                f"{name} must have shape ({num_inputs},), one label per input, got {tuple(y.shape)}"
            )
        if int(y.min()) < 0:
            raise ValueError(f"{name} must hold class numbers from 0 on, got {int(y.min())}")
        return y

    def _check_classes(self, outputs: Tensor, targets: Tensor) -> None:
        self.check_outputs(outputs, len(targets))
        classes = self.num_classes(outputs)
        if int(targets.max()) >= classes:
            raise ValueError(
                f"data has label {int(targets.max())}, but the model's outputs are for classes 0 "
                f"to {classes - 1}"
            )

    @abstractmethod
    def num_classes(self, outputs: Tensor) -> int:
        """C."""


class Softmax(Classification):
    """p(y = c | f) = softmax(f)_c for outputs f of shape (N, C) and class numbers y.

    Example:
        >>> Softmax()(torch.zeros(2, 4), torch.tensor([0, 3]))  # ln 4
        tensor(1.3863)
    """

    name = "softmax"

    def logits(self, outputs: Tensor) -> Float[Tensor, "inputs classes"]:
        """The outputs themselves."""
        return outputs

    def num_classes(self, outputs: Tensor) -> int:
        """Number of outputs."""
        return outputs.shape[1]

    def check_outputs(self, outputs: Tensor, num_inputs: int) -> None:
        """(N, C) with C ≥ 2."""
        if outputs.ndim != 2 or outputs.shape[0] != num_inputs or outputs.shape[1] < 2:
            raise ValueError(
                f"model must return logits of shape ({num_inputs}, C) with C >= 2 for "
                f"{num_inputs} inputs, got {tuple(outputs.shape)}"
            )


class Binary(Classification):
    """p(y = 1 | f) = σ(f) for one output per input, (N,) or (N, 1), and classes y ∈ {0, 1}.

    The logits of the two classes are (0, f), whose softmax is (1 − σ(f), σ(f)).

    Example:
        >>> Binary().logits(torch.tensor([[2.0]]))
        tensor([[0., 2.]])
    """

    name = "binary"

    def logits(self, outputs: Tensor) -> Float[Tensor, "inputs 2"]:
        """(0, f)."""
        f = outputs.reshape(len(outputs))
        return torch.stack([torch.zeros_like(f), f], dim=1)

    def num_classes(self, outputs: Tensor) -> int:
        """Two."""
        del outputs
        return 2

    def check_outputs(self, outputs: Tensor, num_inputs: int) -> None:
        """(N,) or (N, 1)."""
        if tuple(outputs.shape) not in ((num_inputs,), (num_inputs, 1)):
            raise ValueError(
                f"model must return one logit per input, ({num_inputs},) or ({num_inputs}, 1), "
                f"with the binary likelihood, got {tuple(outputs.shape)}"
            )


class Gaussian(Likelihood):
    """p(y | f) = ∏_d N(y_d; mean_d, std_d²) for real targets y of shape (N,) or (N, D).

    mean = shift + scale · f, with shift and scale the training targets' mean and standard
    deviation when :func:`bbnn_uq.fit` normalises, else 0 and 1. The noise is homoscedastic
    (the same std for all inputs, given or learned) or heteroscedastic (Nix, Weigend 1994): then
    the model has 2 D outputs, and std = scale · exp(b + 3 tanh(f_{D+d} / 3)) with a learned offset
    b. The bound, a factor of 20 to each side, is for networks as they are drawn at first: one that
    is sure and wrong would have a gradient that no later one makes up for.

    Args:
        noise: std > 0 in the targets' units, the same for all; or ``learned``, one by target
            dimension; or ``predicted``, by the model's second half of outputs.

    Raises:
        TypeError, ValueError: ``noise`` is none of these.

    Example:
        >>> gaussian = Gaussian(noise=2.0)
        >>> gaussian.fit_targets(torch.zeros(3), normalise=False)
        >>> mean, std = gaussian.moments(torch.tensor([[0.5]]))
        >>> mean.tolist(), std.tolist()
        ([[0.5]], [[2.0]])
    """

    name = "gaussian"
    quality_name = "mse"
    shift: Tensor
    scale: Tensor
    log_noise: Tensor

    def __init__(self, noise: float | str = "learned") -> None:
        super().__init__()
        if isinstance(noise, str):
            self.noise: float | str = check_choice(noise, "noise", ("learned", "predicted"))
        else:
            self.noise = check_real(noise, "noise", above=0.0)
        self.vector = False  # whether targets have an axis of their own
        self._set(torch.zeros(1).double(), torch.ones(1).double(), torch.zeros(1))

    def _set(self, shift: Tensor, scale: Tensor, log_noise: Tensor) -> None:
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self.log_noise = nn.Parameter(log_noise, requires_grad=isinstance(self.noise, str))

    @property
    def spec(self) -> Any:
        """Name and noise."""
        return {"name": self.name, "noise": self.noise}

    def to_metadata(self) -> dict[str, Any]:
        """With what training has found."""
        tensors = {"shift": self.shift, "scale": self.scale, "log_noise": self.log_noise}
        found = {key: value.detach().cpu().tolist() for key, value in tensors.items()}
        return {"name": self.name, "noise": self.noise, "vector": self.vector, **found}

    def check_targets(self, targets: Tensor, num_inputs: int, name: str) -> Tensor:
        """Finite float64 (N,) or (N, D): a large offset would eat the digits of float32."""
        if targets.is_complex() or targets.dtype is torch.bool:
            raise TypeError(f"{name} must hold real numbers, got {targets.dtype}")
        if targets.ndim not in (1, 2) or len(targets) != num_inputs or targets.numel() == 0:
            raise ValueError(
                f"{name} must have shape ({num_inputs},) or ({num_inputs}, D), one target per "
                f"input, got {tuple(targets.shape)}"
            )
        bad = int((~torch.isfinite(targets)).sum())
        if bad:
            raise ValueError(f"{name} must be finite, got {bad} NaN or infinite values")
        return targets.double()

    def fit_targets(self, targets: Tensor, *, normalise: bool) -> None:
        """Dimension D of the targets and, with ``normalise``, their shift and scale."""
        self.vector = targets.ndim == 2
        y = targets.double().reshape(len(targets), -1)
        shift, scale = y.new_zeros(y.shape[1]), y.new_ones(y.shape[1])
        if normalise:
            shift, scale = y.mean(dim=0), y.std(dim=0, correction=0)
            scale = torch.where(scale > 0, scale, 1.0)
        # In units of scale, so that learning starts at the targets' own spread.
        log_noise = torch.zeros_like(scale)
        if not isinstance(self.noise, str):
            log_noise = math.log(self.noise) - scale.log()
        self._set(shift, scale, log_noise.float())

    def check_outputs(self, outputs: Tensor, num_inputs: int) -> None:
        """(N, D), or (N, 2 D) with predicted noise; (N,) will do for one output."""
        wanted = len(self.shift) * (2 if self.noise == "predicted" else 1)
        single = wanted == 1 and tuple(outputs.shape) == (num_inputs,)
        if tuple(outputs.shape) != (num_inputs, wanted) and not single:
            what = "means and log noise" if self.noise == "predicted" else "means"
            raise ValueError(
                f"model must return {what} of shape ({num_inputs}, {wanted}) for {num_inputs} "
                f"inputs, got {tuple(outputs.shape)}"
            )

    def predict(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """Mean and std, each (N, D)."""
        return self.moments(outputs)

    def moments(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std of p(y | f), each (N, D), in the targets' units."""
        f = outputs.reshape(len(outputs), -1)
        dimensions = len(self.shift)
        mean = self.shift + self.scale * f[:, :dimensions]
        log_noise = self.log_noise.expand_as(mean)
        if self.noise == "predicted":
            log_noise = log_noise + _BOUND * torch.tanh(f[:, dimensions:] / _BOUND)
        return mean, self.scale * torch.exp(log_noise)

    def quality(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error, in the targets' units, averaged over dimensions."""
        mean, _ = self.moments(outputs)
        return (mean - targets.reshape(mean.shape)).double().square().mean()

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """−log p(y | f), weighted and averaged over the inputs."""
        self.check_outputs(outputs, len(targets))
        mean, std = self.moments(outputs)
        residual = (targets.reshape(mean.shape) - mean) / std
        losses = (0.5 * residual.square() + std.log() + _HALF_LOG_TWO_PI).sum(dim=1)
        return (losses if weights is None else weights * losses).mean()


_BY_NAME: dict[str, type[Likelihood]] = {
    "softmax": Softmax,
    "binary": Binary,
    "gaussian": Gaussian,
}


def as_likelihood(value: Any) -> Likelihood:
    """A likelihood of one's own from its name, an object, or what a posterior's metadata says.

    Args:
        value: ``softmax``, ``binary``, ``gaussian`` (with learned noise), an object of these three
            classes, which is copied, a dictionary of :meth:`Likelihood.to_metadata`, or None for
            softmax.

    Raises:
        TypeError, ValueError: it is none of these.

    Example:
        >>> as_likelihood("gaussian").noise
        'learned'
        >>> as_likelihood(as_likelihood("binary").to_metadata()).name
        'binary'
    """
    if value is None:
        return Softmax()
    if isinstance(value, Likelihood):
        if type(value) not in _BY_NAME.values():
            raise TypeError(
                f"likelihood must be a Softmax, Binary or Gaussian itself, got "
                f"{type(value).__name__}: a posterior's file could not name it"
            )
        return copy.deepcopy(value)
    if isinstance(value, Mapping):
        return _from_metadata(value)
    if not isinstance(value, str):
        raise TypeError(f"likelihood must be a name or a Likelihood, got {value!r}")
    return _BY_NAME[check_choice(value, "likelihood", _BY_NAME)]()


def _from_metadata(facts: Mapping[str, Any]) -> Likelihood:
    kind = check_choice(facts.get("name"), "likelihood in the metadata", _BY_NAME)
    if kind != "gaussian":
        return _BY_NAME[kind]()
    try:
        likelihood = Gaussian(facts["noise"])
        likelihood.vector = bool(facts["vector"])
        shift, scale, log_noise = (
            torch.tensor(facts[key], dtype=torch.float64) for key in ("shift", "scale", "log_noise")
        )
        if not shift.ndim == 1 or not shift.shape == scale.shape == log_noise.shape:
            raise TypeError("shift, scale and log_noise must be lists of one length")
        likelihood._set(shift, scale, log_noise.float())
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"likelihood in the metadata is damaged: {error!r}") from None
    return likelihood
