"""The paper's models. Nothing here knows that its weights are binary: any module will do."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bbnn_uq._checks import check_count, check_real

__all__ = ["MLP", "OutputScale", "build"]


class OutputScale(nn.Module):
    """Multiply logits by one learnable number.

    The paper ends in a BatchNorm without affine parameters, which keeps even a perfectly
    separated class of ten at a probability of about 0.757. A learnable scale lets training set
    the confidence.

    Example:
        >>> OutputScale()(torch.ones(2)).tolist()
        [1.0, 1.0]
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return scale · logits."""
        return self.scale * logits


class MLP(nn.Sequential):
    """The paper's multilayer perceptron, with a learnable output scale.

    Flatten, then for each hidden layer Linear without bias, BatchNorm without affine parameters
    (eps 1e−4, momentum 0.15), ReLU and dropout; then Linear, BatchNorm and :class:`OutputScale`
    (Meng, Bachmann, Khan 2020, appendix B).

    Args:
        in_features: number of features of a flattened input.
        hidden_sizes: widths of the hidden layers, at least one.
        num_outputs: number of logits.
        dropout: probability in [0, 1) after each hidden layer.

    Example:
        >>> model = MLP(64, (32, 32), 10)
        >>> model(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self, in_features: int, hidden_sizes: Sequence[int], num_outputs: int, dropout: float = 0.1
    ) -> None:
        sizes = [check_count(in_features, "in_features")]
        sizes += [check_count(size, "hidden_sizes") for size in hidden_sizes]
        if len(sizes) < 2:
            raise ValueError("hidden_sizes must name at least one hidden layer, got none")
        if check_real(dropout, "dropout", minimum=0.0) >= 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for i, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
            layers[f"linear{i}"] = nn.Linear(fan_in, fan_out, bias=False)
            layers[f"norm{i}"] = _batch_norm(fan_out)
            layers[f"relu{i}"] = nn.ReLU()
            layers[f"dropout{i}"] = nn.Dropout(dropout)
        layers["output"] = nn.Linear(sizes[-1], check_count(num_outputs, "num_outputs"), bias=False)
        layers["output_norm"] = _batch_norm(num_outputs)
        layers["output_scale"] = OutputScale()
        super().__init__(layers)


def build(
    spec: str, input_shape: Sequence[int], num_outputs: int, *, dropout: float = 0.1
) -> nn.Module:
    """Build a model from its short name.

    Args:
        spec: ``mlp:256x3`` (three hidden layers of 256) or ``mlp:512-256-64`` (as listed).
        input_shape: shape of one input, (C, H, W) for images.
        num_outputs: number of logits.
        dropout: probability in [0, 1) after each hidden layer.

    Raises:
        ValueError: the name is not understood.

    Example:
        >>> sum(p.numel() for p in build("mlp:256x3", (1, 28, 28), 10).parameters())
        334337
    """
    same = re.fullmatch(r"mlp:(\d+)x(\d+)", spec)
    listed = re.fullmatch(r"mlp:(\d+(?:-\d+)*)", spec)
    if same:
        hidden = [int(same[1])] * int(same[2])
    elif listed:
        hidden = [int(size) for size in listed[1].split("-")]
    else:
        raise ValueError(
            f"model {spec!r} is not known; use mlp:WIDTHxDEPTH (mlp:256x3), mlp:A-B-C "
            "(mlp:512-256-64) or package.module:factory"
        )
    return MLP(math.prod(input_shape), hidden, num_outputs, dropout)


def _batch_norm(features: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(features, eps=1e-4, momentum=0.15, affine=False)
