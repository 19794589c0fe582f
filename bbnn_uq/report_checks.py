"""Whether what is to be evaluated fits together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bbnn_uq._checks import check_choice
from bbnn_uq.examples import check_inputs
from bbnn_uq.predictive import Predictive

__all__ = ["check_class_names", "check_predictives", "check_scores", "check_sets"]


def check_predictives(predictive: Any, ood: Any, mode: Any) -> dict[str, Predictive]:
    """The OOD predictives by name, when all fit together."""
    _check_kind(predictive, "predictive")
    if ood is not None and not isinstance(ood, Mapping):
        raise TypeError(f"ood must be a dictionary name -> Predictive, got {type(ood).__name__}")
    others = dict(ood or {})
    for name, other in others.items():
        _check_kind(other, f"ood[{name!r}]")
        _check_same_networks(name, predictive, other)
    if mode is None:
        return others
    _check_kind(mode, "mode")
    if mode.probs.shape != predictive.probs.shape:
        raise ValueError(
            f"mode has probabilities of shape {mode.probs.shape} and the ID predictive of shape "
            f"{predictive.probs.shape}; predict both on the same inputs"
        )
    return others


def _check_kind(value: Any, name: str) -> None:
    if not isinstance(value, Predictive):
        raise TypeError(
            f"{name} must be a Predictive, got {type(value).__name__}; Predictive.from_probs and "
            "from_samples make one"
        )


def _check_same_networks(name: str, reference: Predictive, other: Predictive) -> None:
    for attribute in ("num_samples", "seed", "method"):
        ours, theirs = getattr(reference, attribute), getattr(other, attribute)
        if ours != theirs:
            raise ValueError(
                f"ood[{name!r}] has {attribute} {theirs!r} and the ID predictive {ours!r}; "
                "predict both with the same networks, or their scores cannot be compared"
            )
    for key in ("posterior", "precision"):
        if reference.metadata.get(key) != other.metadata.get(key):
            raise ValueError(
                f"ood[{name!r}] comes from another {key} than the ID predictive; predict both "
                "with the same networks, or their scores cannot be compared"
            )
    if reference.probs.shape[1] != other.probs.shape[1]:
        raise ValueError(
            f"ood[{name!r}] has {other.probs.shape[1]} classes and the ID predictive "
            f"{reference.probs.shape[1]}; they have to come from the same model"
        )


def check_sets(
    predictive: Predictive, others: Mapping[str, Predictive], inputs: Any, ood_inputs: Any
) -> dict[str, Any]:
    """``id`` or ``ood/NAME`` → inputs, of the sets whose inputs are given."""
    sets: dict[str, Any] = {}
    if inputs is not None:
        check_inputs(inputs, "inputs", len(predictive.probs))
        sets["id"] = inputs
    if ood_inputs is not None and not isinstance(ood_inputs, Mapping):
        raise TypeError(
            f"ood_inputs must be a dictionary name -> inputs, got {type(ood_inputs).__name__}"
        )
    for name, some in (ood_inputs or {}).items():
        check_choice(name, "ood_inputs", others)
        check_inputs(some, f"ood_inputs[{name!r}]", len(others[name].probs))
        sets["ood/" + name] = some
    return sets


def check_class_names(names: Any, num_classes: int) -> tuple[str, ...] | None:
    """The names as a tuple, when there is one for each class."""
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"class_names must be a list of names, got {names!r}")
    checked = tuple(names)
    if not all(isinstance(name, str) for name in checked):
        raise TypeError(f"class_names must hold strings, got {checked!r}")
    if len(checked) != num_classes:
        raise ValueError(
            f"class_names must hold one name for each of the {num_classes} classes, got "
            f"{len(checked)}"
        )
    return tuple(str(name) for name in checked)


def check_scores(
    scores: Any, predictive: Predictive, others: Mapping[str, Predictive]
) -> list[str]:
    """The scores asked for, or all that every predictive offers.

    A divergence, say, is infinite for a predictive in which a network gives a class exactly 0.
    """
    if isinstance(scores, str):
        raise TypeError(f"scores must be a list of names, got the string {scores!r}")
    if scores is not None:
        names = list(dict.fromkeys(scores))
        if not names:
            raise ValueError("scores is empty; name at least one, such as 'entropy'")
        return names
    offered = [other.available_scores(softened=True) for other in others.values()]
    return [
        name
        for name in predictive.available_scores(softened=True)
        if all(name in other for other in offered)
    ]
