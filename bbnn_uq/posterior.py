"""The Bernoulli posterior over binary weights and mixtures of them: frozen values."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bbnn_uq import bernoulli
from bbnn_uq.posterior_file import Member, PosteriorFormatError, read_members, write_members

__all__ = [
    "BatchNormStatistics",
    "BernoulliPosterior",
    "CollapsedPosteriorWarning",
    "Posterior",
    "PosteriorFormatError",
    "PosteriorMixture",
    "load",
    "warn_if_collapsed",
]

COLLAPSED_FLIP_RATE = 1e-3
SATURATED_FLIP_PROBABILITY = 2.0**-24
BLOCK = 2**17


class CollapsedPosteriorWarning(UserWarning):
    """The posterior is a point mass for all practical purposes."""


@dataclass(frozen=True, eq=False)
class BatchNormStatistics:
    """BatchNorm's running statistics of the networks 0, 1, … of one seed, and of the mode.

    A drawn network has activations of its own, and statistics averaged over others do not fit it:
    see :func:`bbnn_uq.refresh_batchnorm`.

    Args:
        seed: of the networks.
        networks: buffer name → (networks, features).
        mode: buffer name → (features,).
    """

    seed: int
    networks: dict[str, Tensor]
    mode: dict[str, Tensor]

    @property
    def num_networks(self) -> int:
        """How many networks are covered."""
        return len(next(iter(self.networks.values())))

    def covers(self, index: int, seed: int) -> bool:
        """Whether network ``index`` of ``seed`` has statistics of its own here."""
        return seed == self.seed and index < self.num_networks


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
        batchnorm: BatchNorm statistics of single networks, where they were measured.

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
    batchnorm: BatchNormStatistics | None = None

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
        if self.batchnorm is not None:
            unknown = (self.batchnorm.networks.keys() | self.batchnorm.mode.keys()) - (
                self.real_state.keys()
            )
            if unknown:
                raise ValueError(f"batchnorm names {min(unknown)!r}, which is not in real_state")

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

    def member(self, index: int) -> BernoulliPosterior:
        """The posterior that network ``index`` is drawn from: this one."""
        del index
        return self

    def state_of(self, index: int | None, *, seed: int = 0) -> dict[str, Tensor]:
        """Everything but the weights that a network needs, by name.

        Args:
            index: number of a drawn network, whose own BatchNorm statistics are taken where they
                are known; None for the mode.
            seed: of the network.
        """
        if self.batchnorm is None:
            return self.real_state
        if index is None:
            return self.real_state | self.batchnorm.mode
        if not self.batchnorm.covers(index, seed):
            return self.real_state
        return self.real_state | {
            name: values[index] for name, values in self.batchnorm.networks.items()
        }

    def mean(self) -> dict[str, Tensor]:
        """Expected weights μ = tanh λ, by parameter name."""
        return {name: bernoulli.mean(value) for name, value in self.natural_param.items()}

    def mode(self) -> dict[str, Tensor]:
        """Most probable weights sign λ ∈ {−1, +1}, by parameter name."""
        return {name: bernoulli.mode(value) for name, value in self.natural_param.items()}

    @cached_property
    def _layers(self) -> dict[str, dict[str, Any]]:
        return {name: _diagnostics(value) for name, value in self.natural_param.items()}

    @cached_property
    def _medians(self) -> dict[str, dict[str, float]]:
        return {
            name: {"median_magnitude": float(value.double().abs().median())}
            for name, value in self.natural_param.items()
        }

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
        """Share of weights whose flip probability is below 2⁻²⁴: hardly ever flipped."""
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

    def summary(self, *, layers: bool = True) -> dict[str, Any]:
        """Diagnostics as JSON values, for the whole and by parameter (under ``layers``).

        Args:
            layers: whether to give those by parameter, which take longer: medians are sorted for.

        Returns:
            ``num_weights``, ``bits_per_weight``, ``flip_rate``, ``saturated_share``,
            ``collapsed`` and ``layers``: name → the same with ``shape`` and
            ``median_magnitude``, the median of |λ|.
        """
        whole: dict[str, Any] = {
            "num_weights": self.num_weights,
            "bits_per_weight": self.bits_per_weight(),
            "flip_rate": self.flip_rate(),
            "saturated_share": self.saturated_share(),
            "collapsed": self.collapsed,
        }
        if not layers:
            return whole
        by_name = {name: layer | self._medians[name] for name, layer in self._layers.items()}
        return whole | {"layers": by_name}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the posterior as safetensors, whole or not at all.

        Args:
            path: where to; the folder is created when missing.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> path = Path(tempfile.mkdtemp()) / "posterior.safetensors"
            >>> BernoulliPosterior({"w": torch.zeros(2)}, {}, {"data": "digits"}).save(path)
            >>> load(path).metadata
            {'data': 'digits'}
        """
        write_members(path, "posterior", [_to_member(self)])


@dataclass(frozen=True, eq=False)
class PosteriorMixture:
    """An equal mixture of K posteriors of one architecture, usable wherever one is.

    Network ``index`` belongs to member ``index`` mod K, so S networks are shared among the members
    as evenly as can be and every prefix of them as well.

    Args:
        posteriors: the members, at least one; same names and shapes.

    Raises:
        ValueError: there is none, or they differ in names or shapes.

    Example:
        >>> one, two = (BernoulliPosterior({"w": torch.full((2,), x)}) for x in (-9.0, 9.0))
        >>> mixture = PosteriorMixture([one, two])
        >>> mixture.member(3) is two, mixture.num_weights
        (True, 4)
    """

    posteriors: Sequence[BernoulliPosterior]

    def __post_init__(self) -> None:
        object.__setattr__(self, "posteriors", tuple(self.posteriors))
        if not self.posteriors:
            raise ValueError("posteriors is empty; a mixture needs at least one member")
        shapes = [
            {name: value.shape for name, value in (p.natural_param | p.real_state).items()}
            for p in self.posteriors
        ]
        # Learned noise may differ; what the outputs mean may not.
        kinds = [_kind(p.metadata.get("likelihood")) for p in self.posteriors]
        normalisations = [p.metadata.get("normalisation") for p in self.posteriors]
        for what, values in (
            ("likelihood", kinds),
            ("normalisation of their inputs", normalisations),
        ):
            if any(other != values[0] for other in values):
                raise ValueError(
                    f"posteriors differ in the {what}; train the members of a mixture alike, on "
                    "the same data"
                )
        for number, other in enumerate(shapes):
            if other != shapes[0]:
                raise ValueError(
                    f"posteriors[{number}] is of another architecture than posteriors[0]; the "
                    "members of a mixture share names and shapes"
                )

    def __repr__(self) -> str:
        return f"PosteriorMixture({len(self.posteriors)} × {self.posteriors[0]!r})"

    def member(self, index: int) -> BernoulliPosterior:
        """The posterior that network ``index`` is drawn from: number ``index`` mod K."""
        return self.posteriors[index % len(self.posteriors)]

    @property
    def metadata(self) -> dict[str, Any]:
        """What the first member says; the members differ in their seeds."""
        return self.posteriors[0].metadata

    @property
    def num_weights(self) -> int:
        """Number of binary weights of all members together."""
        return sum(posterior.num_weights for posterior in self.posteriors)

    def _average(self, diagnostic: str) -> float:
        values = [getattr(posterior, diagnostic)() for posterior in self.posteriors]
        return sum(values) / len(values)

    def bits_per_weight(self) -> float:
        """Mean over members; the entropy of which member it is does not count."""
        return self._average("bits_per_weight")

    def flip_rate(self) -> float:
        """Mean over members of the probability that a drawn weight differs from its mode."""
        return self._average("flip_rate")

    def saturated_share(self) -> float:
        """Mean over members of the share of weights with a flip probability below 2⁻²⁴."""
        return self._average("saturated_share")

    @property
    def collapsed(self) -> bool:
        """Whether every member has collapsed."""
        return all(posterior.collapsed for posterior in self.posteriors)

    def summary(self, *, layers: bool = True) -> dict[str, Any]:
        """Diagnostics as JSON values: as of a posterior, layers as ``k/NAME``; ``num_members``."""
        whole: dict[str, Any] = {
            "num_weights": self.num_weights,
            "bits_per_weight": self.bits_per_weight(),
            "flip_rate": self.flip_rate(),
            "saturated_share": self.saturated_share(),
            "collapsed": self.collapsed,
            "num_members": len(self.posteriors),
        }
        if not layers:
            return whole
        by_name = {
            f"{number}/{name}": layer
            for number, posterior in enumerate(self.posteriors)
            for name, layer in posterior.summary()["layers"].items()
        }
        return whole | {"layers": by_name}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all members into one safetensors file, whole or not at all."""
        write_members(path, "mixture", [_to_member(posterior) for posterior in self.posteriors])


Posterior = BernoulliPosterior | PosteriorMixture


def load(path: str | os.PathLike[str]) -> Posterior:
    """Read a posterior or a mixture that ``save`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        PosteriorFormatError: the file is truncated, foreign, or of a newer format version.
    """
    kind, members = read_members(path)
    try:
        posteriors = [_from_member(member) for member in members]
        return posteriors[0] if kind == "posterior" else PosteriorMixture(posteriors)
    except (KeyError, TypeError, ValueError) as error:
        raise PosteriorFormatError(
            f"{os.fspath(path)!r} holds no valid posterior: {error}"
        ) from None


def warn_if_collapsed(posterior: Posterior, *, stacklevel: int = 2) -> None:
    """Warn with :class:`CollapsedPosteriorWarning` when drawn networks are all the same."""
    if posterior.collapsed:
        warnings.warn(collapse_message(posterior), CollapsedPosteriorWarning, stacklevel + 1)


def collapse_message(posterior: Posterior) -> str:
    """What a collapsed posterior means and what to change."""
    return (
        f"the posterior has collapsed: flip rate {posterior.flip_rate():.1e}, "
        f"{posterior.bits_per_weight():.1e} bits per weight, so all Monte Carlo networks are "
        "nearly the same and their uncertainty means nothing; train with a larger kl_weight, "
        "a smaller lr or fewer epochs"
    )


def _kind(likelihood: Any) -> Any:
    facts = likelihood if isinstance(likelihood, dict) else {}
    return facts.get("name", "softmax"), facts.get("noise"), facts.get("vector")


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # .clone() gives each name storage of its own, which the file format requires.
    return {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}


def _diagnostics(natural_param: Tensor) -> dict[str, Any]:
    entropy, flips, saturated, size = 0.0, 0.0, 0, natural_param.numel()
    # In pieces that caches hold: ten times quicker than at once, and no copy of a large parameter.
    for part in natural_param.view(-1).split(BLOCK):
        part = part.double() if size <= BLOCK else part  # else 1e-7 of an average is no matter
        flip = bernoulli.flip_probability(part)
        entropy += float(bernoulli.entropy(part).sum(dtype=torch.float64))
        flips += float(flip.sum(dtype=torch.float64))
        saturated += int((flip < SATURATED_FLIP_PROBABILITY).sum())
    return {
        "shape": list(natural_param.shape),
        "num_weights": size,
        "bits_per_weight": entropy / size / math.log(2.0),
        "flip_rate": flips / size,
        "saturated_share": saturated / size,
    }


def _to_member(posterior: BernoulliPosterior) -> Member:
    sections = {"natural_param": posterior.natural_param, "real_state": posterior.real_state}
    about: dict[str, Any] = {"metadata": posterior.metadata}
    if posterior.batchnorm is not None:
        about["batchnorm_seed"] = posterior.batchnorm.seed
        sections["batchnorm"] = posterior.batchnorm.networks
        sections["batchnorm_mode"] = posterior.batchnorm.mode
    return Member(sections, about)


def _from_member(member: Member) -> BernoulliPosterior:
    sections = member.sections
    batchnorm = None
    if "batchnorm" in sections:
        batchnorm = BatchNormStatistics(
            member.about["batchnorm_seed"], sections["batchnorm"], sections["batchnorm_mode"]
        )
    return BernoulliPosterior(
        sections.get("natural_param", {}),
        sections.get("real_state", {}),
        member.about["metadata"],
        batchnorm,
    )
