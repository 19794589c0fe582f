"""Features of drawn networks, and scores of them, one network at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from bbnn_uq._checks import check_choice, check_count, check_seed
from bbnn_uq.inference.architecture import Architecture
from bbnn_uq.inference.block import warn_if_not_covered
from bbnn_uq.inference.runners import Networks
from bbnn_uq.inference.sources import Drawn
from bbnn_uq.inputs import all_inputs, check_device, normalise, outputs_of
from bbnn_uq.ood_scores import OODScore
from bbnn_uq.posterior import Posterior, PosteriorMixture

__all__ = ["feature_scores", "network_features"]


@torch.no_grad()
def network_features(
    model: nn.Module,
    posterior: Posterior,
    inputs: Any,
    *,
    index: int,
    seed: int = 0,
    layer: str | None = None,
    device: torch.device | str | None = None,
    batch_size: int = 256,
) -> np.ndarray:
    """What a layer of one drawn network takes in, for each input: the features φ_s(x), (N, D).

    Network ``index`` is :func:`bbnn_uq.draw` number ``index`` of ``seed``, with its own BatchNorm
    statistics where the posterior holds them, and inputs are normalised as the posterior says:
    the network that :func:`bbnn_uq.predict` runs. Maps (N, D, …), such as those that a
    convolution takes in, are averaged over positions, as Lee, Lee, Lee and Shin 2018 (arXiv
    1807.03888) do; before a linear layer, whose features come last, so are (N, …, D).

    Args:
        model: the architecture; its own weights are not used and it is left unchanged.
        posterior: whose names and shapes are those of the model.
        inputs: (N, ...) as a tensor, array, Dataset or DataLoader (labels are ignored).
        index: which network, in [0, 2⁶⁴).
        seed: which sequence of networks, in [0, 2⁶⁴).
        layer: name of a module, as ``model.named_modules()`` has it, whose input is taken; that of
            the linear layer that runs last when not given.
        device: where to compute; a GPU when there is one and none is named.
        batch_size: inputs of one forward pass.

    Returns:
        Features (N, D), float64 for models of up to 2²⁰ binary weights on a CPU, else float32.

    Warns:
        UserWarning: some networks up to this one have no BatchNorm statistics of their own while
            others have.

    Raises:
        TypeError, ValueError: an argument is out of its range, the posterior does not fit the
            model, there is no such layer, or its input is not finite or no features of inputs.

    Example:
        >>> from bbnn_uq import BernoulliPosterior
        >>> model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2))
        >>> real = {name: value for name, value in model.state_dict().items() if name != "0.weight"}
        >>> posterior = BernoulliPosterior({"0.weight": torch.full((3, 2), 9.0)}, real)
        >>> network_features(model, posterior, torch.tensor([[1.0, 2.0], [-4.0, 1.0]]), index=0)
        array([[3., 3., 3.], [0., 0., 0.]])
    """
    index = check_seed(index, "index")
    x = all_inputs(inputs)
    networks = _Features(model, posterior, x, index + 1, seed, layer, device, batch_size)
    return networks.of(index)(x)


@torch.no_grad()
def feature_scores(
    model: nn.Module,
    posterior: Posterior,
    scores: Mapping[str, OODScore],
    fit_inputs: Any,
    fit_labels: Any,
    inputs: Mapping[str, Any],
    *,
    num_samples: int = 8,
    seed: int = 0,
    layer: str | None = None,
    device: torch.device | str | None = None,
    batch_size: int = 256,
) -> dict[str, dict[str, Float64[np.ndarray, " inputs"]]]:
    """Scores of the features of drawn networks, averaged over networks.

    s(x) = (1 / S) Σ_s s_s(φ_s(x)): each network has features of its own, so each gets a fit of its
    own, on the features that it has of the training inputs. It is what a score of
    :mod:`bbnn_uq.ood_scores` gives that is fitted on (S, N, D) and scores (S, M, D), but features
    of a single network are in memory at a time.

    Args:
        model: the architecture; it is left unchanged.
        posterior: whose names and shapes are those of the model.
        scores: name → a score of features; copies are fitted, these are left as they are.
        fit_inputs: training inputs, as :func:`network_features` takes them.
        fit_labels: their classes (N,); None for scores that need none.
        inputs: name of a set → inputs to score; none should be among the training inputs.
        num_samples: number of networks S: 0 … S − 1.
        seed: of the networks.
        layer: whose input is taken, see :func:`network_features`.
        device: where networks run; a GPU when there is one and none is named. Scores are fitted on
            the CPU.
        batch_size: inputs of one forward pass.

    Returns:
        Name of a set → name of a score → scores (N,); higher means more out-of-distribution.

    Warns:
        UserWarning: some networks have no BatchNorm statistics of their own while others have.

    Raises:
        TypeError, ValueError: as of :func:`network_features` and of the scores.

    Example:
        >>> from bbnn_uq import BernoulliPosterior
        >>> from bbnn_uq.ood_scores import NearestNeighboursScore
        >>> posterior = BernoulliPosterior({"weight": torch.zeros(2, 2)}, {"bias": torch.zeros(2)})
        >>> train, test = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> scores = {"nearest": NearestNeighboursScore(k=1)}
        >>> found = feature_scores(nn.Linear(2, 2), posterior, scores, train, None, {"test": test})
        >>> found["test"]["nearest"].round(3)
        array([0.   , 1.414])
    """
    count = check_count(num_samples, "num_samples")
    _check_scores(scores)
    if not isinstance(inputs, Mapping) or not inputs:
        raise TypeError("inputs must map at least one name to inputs, such as {'test': x_test}")
    train = all_inputs(fit_inputs)
    sets = {name: all_inputs(each) for name, each in inputs.items()}
    networks = _Features(model, posterior, train, count, seed, layer, device, batch_size)
    totals = {name: {score: np.zeros(len(x)) for score in scores} for name, x in sets.items()}
    for index in range(count):
        features_of = networks.of(index)
        features = features_of(train)
        fitted = {name: copy.deepcopy(each) for name, each in scores.items()}
        for score in fitted.values():
            score.fit(features, fit_labels)
        for name, x in sets.items():
            features = features_of(x)
            for score, each in fitted.items():
                totals[name][score] += each.score(features)
    return {
        name: {score: total / count for score, total in each.items()}
        for name, each in totals.items()
    }


def _check_scores(scores: Mapping[str, OODScore]) -> None:
    if not isinstance(scores, Mapping) or not scores:
        raise TypeError(
            "scores must map at least one name to a score, such as "
            "{'mahalanobis': MahalanobisScore()}"
        )
    for name, score in scores.items():
        if isinstance(score, type) or not isinstance(score, OODScore):
            raise TypeError(
                f"scores[{name!r}] must be an object with fit and score, such as "
                f"MahalanobisScore(), got {score!r}"
            )


class _Features:
    """A model and a posterior, ready for the features of the networks 0 … count − 1."""

    def __init__(
        self,
        model: nn.Module,
        posterior: Posterior,
        x: Tensor,
        count: int,
        seed: int,
        layer: str | None,
        device: torch.device | str | None,
        batch_size: int,
    ) -> None:
        self._batch_size = check_count(batch_size, "batch_size")
        self._normalisation = posterior.metadata.get("normalisation")
        probe = normalise(x[:1], self._normalisation)
        # Products of small types would round features, whose scale is not known.
        architecture = Architecture(model, posterior, probe, "exact", check_device(device))
        members = posterior.posteriors if isinstance(posterior, PosteriorMixture) else (posterior,)
        source = Drawn(architecture, posterior, check_seed(seed))
        self._networks = Networks(architecture, source, len(members))
        self._layers = _layers(architecture.module, layer)
        self._asked = "its linear layers" if layer is None else f"layer {layer!r}"
        if any(member.batchnorm is not None for member in members):
            warn_if_not_covered(posterior, count, seed)

    def of(self, index: int) -> Callable[[Tensor], np.ndarray]:
        """From inputs to their features under network ``index``, valid until the next one."""
        ((_, forward),) = self._networks.groups(range(index, index + 1), 1)

        def features(x: Tensor) -> np.ndarray:
            parts = []
            for batch in x.split(self._batch_size):
                rows = normalise(batch, self._normalisation)
                parts.append(outputs_of(lambda rows: self._taken_in(forward, rows), rows))
            return np.concatenate(parts)

        return features

    def _taken_in(self, forward: Callable[[Tensor, int], Tensor], x: Tensor) -> np.ndarray:
        """What the layer takes in; of several layers and calls, the last one."""
        last: list[Tensor] = []

        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            # Copied here, since layers may work in place on what they are given.
            last[:] = [_flat(module, next(iter((*args, *kwargs.values()))), len(x)).clone()]

        hooks = [each.register_forward_pre_hook(note, with_kwargs=True) for each in self._layers]
        try:
            forward(x, 0)
        finally:
            for hook in hooks:
                hook.remove()
        if not last:
            raise ValueError(f"the model's forward pass does not call {self._asked}; name another")
        if not bool(torch.isfinite(last[0]).all()):
            raise ValueError("model has NaN or infinite features; check the inputs' range")
        return last[0].cpu().numpy()


def _layers(module: nn.Module, layer: str | None) -> Sequence[nn.Module]:
    named = {name: each for name, each in module.named_modules() if name}
    if layer is not None:
        return [named[check_choice(layer, "layer", named)]]
    linear = [each for each in module.modules() if isinstance(each, nn.Linear)]
    if not linear:
        raise ValueError(
            "model has no linear layer, before which features would be taken; name a layer, one "
            f"of {', '.join(named)}"
        )
    return linear


def _flat(module: nn.Module, taken: Any, count: int) -> Tensor:
    """A layer's input as (n, D), maps averaged over positions."""
    shape = tuple(taken.shape) if isinstance(taken, Tensor) else type(taken).__name__
    if not isinstance(taken, Tensor) or taken.ndim < 2 or len(taken) != count:
        raise ValueError(
            f"the layer's input must be features (n, D) or maps (n, D, ...) of {count} inputs, got "
            f"{shape}; name another layer"
        )
    if taken.ndim == 2:
        return taken
    if isinstance(module, nn.Linear):
        return taken.flatten(1, -2).mean(dim=1)
    return taken.flatten(2).mean(dim=2)
