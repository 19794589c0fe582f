"""The Bernoulli posterior over binary weights: a frozen value, its diagnostics and its file."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bbnn_uq import bernoulli
from bbnn_uq._files import atomic_path

__all__ = [
    "BernoulliPosterior",
    "CollapsedPosteriorWarning",
    "PosteriorFormatError",
    "load",
    "warn_if_collapsed",
]

FORMAT_VERSION = 1
COLLAPSED_FLIP_RATE = 1e-3
SATURATED_FLIP_PROBABILITY = 2.0**-24

_HEADER = "bbnn_uq"
_LAMBDA, _REAL = "natural_param/", "real_state/"


class PosteriorFormatError(ValueError):
    """A file is not a posterior that this version can read; the message says which and why."""


class CollapsedPosteriorWarning(UserWarning):
    """The posterior is a point mass for all practical purposes."""


@dataclass(frozen=True, eq=False)
class BernoulliPosterior:
    """A mean-field Bernoulli distribution over the binary weights of a network.

    q(w) = ∏ Bernoulli(w_i; p_i) with p_i = P(w_i = +1) = σ(2λ_i) (Meng, Bachmann, Khan 2020,
    section 3).

    Args:
        natural_param: parameter name → λ, of the parameter's shape and floating dtype. Copied to
            the CPU.
        real_state: name → tensor of everything else that the model needs: real-valued
            parameters and buffers. Copied to the CPU.
        metadata: JSON values about the model, the data and the recipe; may be empty.

    Raises:
        TypeError: λ is not floating-point, or the metadata is not JSON.
        ValueError: no λ, an empty one, a NaN or infinite one, or a name in both dictionaries.

    Example:
        >>> posterior = BernoulliPosterior({"weight": torch.tensor([[0.0, 1000.0]])}, {}, {})
        >>> posterior.num_weights, round(posterior.bits_per_weight(), 3)
        (2, 0.5)
        >>> posterior.mean()
        {'weight': tensor([[0., 1.]])}
    """

    natural_param: dict[str, Tensor]
    real_state: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.natural_param:
            raise ValueError("natural_param is empty; a posterior needs at least one binary weight")
        for name, value in self.natural_param.items():
            if not value.is_floating_point():
                raise TypeError(f"natural_param[{name!r}] must be floating, got {value.dtype}")
            if value.numel() == 0 or not bool(torch.isfinite(value).all()):
                raise ValueError(f"natural_param[{name!r}] must be finite and not empty")
        shared = self.natural_param.keys() & self.real_state.keys()
        if shared:
            raise ValueError(f"{min(shared)!r} is both in natural_param and in real_state")
        try:
            metadata = json.loads(json.dumps(self.metadata, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise TypeError(f"metadata must hold JSON values only: {error}") from None
        object.__setattr__(self, "natural_param", _copied(self.natural_param))
        object.__setattr__(self, "real_state", _copied(self.real_state))
        object.__setattr__(self, "metadata", metadata)

    def __repr__(self) -> str:
        return (
            f"BernoulliPosterior({self.num_weights:,} weights in {len(self.natural_param)} "
            f"parameters, {self.bits_per_weight():.3f} bits per weight, "
            f"flip rate {self.flip_rate():.4f})"
        )

    @property
    def num_weights(self) -> int:
        """Number of binary weights."""
        return sum(value.numel() for value in self.natural_param.values())

    def mean(self) -> dict[str, Tensor]:
        """Expected weights μ = tanh λ, by parameter name."""
        return {name: bernoulli.mean(value) for name, value in self.natural_param.items()}

    def mode(self) -> dict[str, Tensor]:
        """Most probable weights sign λ ∈ {−1, +1}, by parameter name."""
        return {name: bernoulli.mode(value) for name, value in self.natural_param.items()}

    @cached_property
    def _layers(self) -> dict[str, dict[str, Any]]:
        return {name: _diagnostics(value) for name, value in self.natural_param.items()}

    def _average(self, key: str) -> float:
        layers = self._layers.values()
        return sum(layer[key] * layer["num_weights"] for layer in layers) / self.num_weights

    def bits_per_weight(self) -> float:
        """Mean entropy of a weight divided by ln 2: 1 for fair coins, 0 for a point mass."""
        return self._average("bits_per_weight")

    def flip_rate(self) -> float:
        """Mean probability σ(−2|λ|) that a drawn weight differs from the mode, in [0, ½]."""
        return self._average("flip_rate")

    def saturated_share(self) -> float:
        """Share of weights whose flip probability is below 2⁻²⁴: no drawn network flips them."""
        return self._average("saturated_share")

    def kl(self, prior: BernoulliPosterior | Mapping[str, Tensor] | float = 0.0) -> float:
        """KL(q ‖ prior) in nats over all weights, in float64.

        Args:
            prior: a posterior (of the previous task, say), a dictionary name → λ₀, or one λ₀ for
                all weights; 0 is the uniform prior.

        Raises:
            ValueError: the prior's names or shapes differ.

        Example:
            >>> posterior = BernoulliPosterior({"w": torch.tensor([1000.0, 0.0])}, {}, {})
            >>> round(posterior.kl() / 0.6931471805599453, 6)
            1.0
        """
        total = 0.0
        natural = prior.natural_param if isinstance(prior, BernoulliPosterior) else prior
        for name, value in self.natural_param.items():
            if isinstance(natural, Mapping):
                if name not in natural or natural[name].shape != value.shape:
                    raise ValueError(f"prior has no {name!r} of shape {tuple(value.shape)}")
                total += bernoulli.kl_divergence(value, natural[name].cpu())
            else:
                total += bernoulli.kl_divergence(value, natural)
        return total

    @property
    def collapsed(self) -> bool:
        """Whether fewer than one weight in a thousand differs from the mode in a drawn network."""
        return self.flip_rate() < COLLAPSED_FLIP_RATE

    def summary(self) -> dict[str, Any]:
        """Diagnostics as JSON values, for the whole and by parameter (under ``layers``).

        Returns:
            ``num_weights``, ``bits_per_weight``, ``flip_rate``, ``saturated_share``,
            ``collapsed`` and ``layers``: name → the same with ``shape`` and
            ``median_magnitude``, the median of |λ|.
        """
        return {
            "num_weights": self.num_weights,
            "bits_per_weight": self.bits_per_weight(),
            "flip_rate": self.flip_rate(),
            "saturated_share": self.saturated_share(),
            "collapsed": self.collapsed,
            "layers": {name: dict(layer) for name, layer in self._layers.items()},
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the posterior as safetensors, whole or not at all.

        Args:
            path: where to; the folder is created when missing.

        Example:
            >>> import tempfile
            >>> path = Path(tempfile.mkdtemp()) / "posterior.safetensors"
            >>> BernoulliPosterior({"w": torch.zeros(2)}, {}, {"data": "digits"}).save(path)
            >>> load(path).metadata
            {'data': 'digits'}
        """
        tensors = {_LAMBDA + name: value for name, value in self.natural_param.items()}
        tensors |= {_REAL + name: value for name, value in self.real_state.items()}
        header = {
            "format_version": FORMAT_VERSION,
            "kind": "posterior",
            "metadata": self.metadata,
        }
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={_HEADER: json.dumps(header)})


def load(path: str | os.PathLike[str]) -> BernoulliPosterior:
    """Read a posterior that :meth:`BernoulliPosterior.save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        PosteriorFormatError: the file is truncated, foreign, or of a newer format version.
    """
    name = os.fspath(path)
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"posterior file {name!r} does not exist; `bbnn-uq train` or posterior.save writes one"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(name, (file.metadata() or {}).get(_HEADER))
            # A file of safetensors is no mapping: it has keys() and cannot be iterated over.
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise PosteriorFormatError(
            f"{name!r} is not a readable safetensors file, it may be truncated: {error}"
        ) from None
    natural = {
        key.removeprefix(_LAMBDA): t for key, t in tensors.items() if key.startswith(_LAMBDA)
    }
    real = {key.removeprefix(_REAL): t for key, t in tensors.items() if key.startswith(_REAL)}
    try:
        return BernoulliPosterior(natural, real, header["metadata"])
    except (KeyError, TypeError, ValueError) as error:
        raise PosteriorFormatError(f"{name!r} holds no valid posterior: {error}") from None


def warn_if_collapsed(posterior: BernoulliPosterior, *, stacklevel: int = 2) -> None:
    """Warn with :class:`CollapsedPosteriorWarning` when drawn networks are all the same."""
    if posterior.collapsed:
        warnings.warn(collapse_message(posterior), CollapsedPosteriorWarning, stacklevel + 1)


def collapse_message(posterior: BernoulliPosterior) -> str:
    """What a collapsed posterior means and what to change."""
    return (
        f"the posterior has collapsed: flip rate {posterior.flip_rate():.1e}, "
        f"{posterior.bits_per_weight():.1e} bits per weight, so all Monte Carlo networks are "
        "nearly the same and their uncertainty means nothing; train with a larger kl_weight, "
        "a smaller lr or fewer epochs"
    )


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # .clone() gives each name storage of its own, which the file format requires.
    return {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}


def _diagnostics(natural_param: Tensor) -> dict[str, Any]:
    natural = natural_param.double()
    flip = bernoulli.flip_probability(natural)
    return {
        "shape": list(natural.shape),
        "num_weights": natural.numel(),
        "bits_per_weight": float(bernoulli.entropy(natural).mean()) / math.log(2.0),
        "flip_rate": float(flip.mean()),
        "saturated_share": float((flip < SATURATED_FLIP_PROBABILITY).double().mean()),
        "median_magnitude": float(natural.abs().median()),
    }


def _header(name: str, text: str | None) -> dict[str, Any]:
    if text is None:
        raise PosteriorFormatError(
            f"{name!r} is a safetensors file but no bbnn-uq posterior: it lacks the "
            f"{_HEADER!r} header"
        )
    try:
        header = json.loads(text)
        version = header["format_version"]
    except (ValueError, KeyError, TypeError):
        raise PosteriorFormatError(f"{name!r} has a damaged {_HEADER!r} header") from None
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise PosteriorFormatError(
            f"{name!r} has format version {version!r}, and this bbnn-uq reads up to "
            f"{FORMAT_VERSION}; upgrade bbnn-uq"
        )
    if header.get("kind") != "posterior":
        raise PosteriorFormatError(f"{name!r} holds a {header.get('kind')!r}, not a posterior")
    return header
