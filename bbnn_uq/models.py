"""The paper's models, and one for tables. None knows that its weights are binary: any will do."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bbnn_uq._checks import check_count, check_real

__all__ = [
    "MLP",
    "VGG",
    "ConvNet",
    "FeatureScale",
    "OutputScale",
    "TabularMLP",
    "build",
    "is_built_in",
]

_BATCH_NORM: dict[str, Any] = {"eps": 1e-4, "momentum": 0.15, "affine": False}
_NAMES = ("mlp", "tabular", "vgg", "convnet")


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


class FeatureScale(nn.Module):
    """Multiply each feature by a learnable number of its own, 1 at the start.

    Args:
        num_features: F of inputs (N, F).

    Example:
        >>> FeatureScale(2)(torch.ones(1, 2)).tolist()
        [[1.0, 1.0]]
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_features))

    def forward(self, inputs: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
        """Return scale · inputs."""
        return self.scale * inputs


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
        sizes = _layer_sizes(in_features, hidden_sizes)
        super().__init__(_connected(sizes, num_outputs, dropout, first=1))


class TabularMLP(nn.Sequential):
    """A multilayer perceptron for few features of unlike meaning, on which :class:`MLP` is narrow.

    With weights of ±1 every feature counts alike, F features make no more than 2^F different
    units, each with its threshold at 0, and all outputs have the mean 0. Here each feature has a
    learnable scale (:class:`FeatureScale`), and each BatchNorm a learnable scale and shift. The
    shifts of the hidden units start at quantiles of the standard normal, so that units with the
    same weights differ from the start. There is no :class:`OutputScale`; everything else is as in
    :class:`MLP`.

    Args:
        in_features: number of features of a flattened input.
        hidden_sizes: widths of the hidden layers, at least one.
        num_outputs: number of outputs.
        dropout: probability in [0, 1) after each hidden layer.

    Example:
        >>> TabularMLP(5, (3,), 1).norm1.bias.detach()
        tensor([-0.9674,  0.0000,  0.9674])
    """

    def __init__(
        self, in_features: int, hidden_sizes: Sequence[int], num_outputs: int, dropout: float = 0.1
    ) -> None:
        sizes = _layer_sizes(in_features, hidden_sizes)
        scaled = OrderedDict(flatten=nn.Flatten(), input_scale=FeatureScale(sizes[0]))
        super().__init__(scaled | _connected(sizes, num_outputs, dropout, first=1, affine=True))
        for i, width in enumerate(sizes[1:], start=1):
            shares = (torch.arange(width).double() + 0.5) / width
            self.get_parameter(f"norm{i}.bias").data = torch.special.ndtri(shares).float()


class VGG(nn.Sequential):
    """The paper's VGG-like network for images, with a learnable output scale.

    Six 3×3 convolutions with padding 1 and 128, 128, 256, 256, 512 and 512 channels, a 2×2 maximum
    after every second one; then as :class:`MLP` with two hidden layers of 1024. Convolutions and
    linear layers have no bias, and each is followed by BatchNorm without affine parameters and
    ReLU (Meng, Bachmann, Khan 2020, appendix B, after BinaryConnect: Courbariaux, Bengio, David
    2015). As in the paper's code the maximum is taken before BatchNorm, whose statistics are then
    those of the maxima. BatchNorm's constants are those of :class:`MLP`; the paper's code has eps
    1e−5 and momentum 0.2 after convolutions, and PyTorch's defaults after linear layers.

    Args:
        input_shape: (C, H, W) with H and W at least 8.
        num_outputs: number of logits.
        dropout: probability in [0, 1) after each fully connected hidden layer; the paper's
            code has none.
        width: multiplies the number of channels and of hidden units, rounded and at least 1.

    Raises:
        ValueError: ``input_shape`` is no image or one too small, or another argument is out of its
            range.

    Example:
        >>> model = VGG((3, 32, 32), 10, width=0.125)
        >>> model(torch.zeros(5, 3, 32, 32)).shape
        torch.Size([5, 10])
        >>> model.conv6
        Conv2d(64, 64, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_outputs: int,
        dropout: float = 0.1,
        *,
        width: float = 1.0,
    ) -> None:
        channels = _scaled((128, 128, 256, 256, 512, 512), width)
        layers, features = _convolutions("VGG", input_shape, channels, pooled=(2, 4, 6))
        sizes = [features, *_scaled((1024, 1024), width)]
        super().__init__(layers | _connected(sizes, num_outputs, dropout, first=7))


class ConvNet(nn.Sequential):
    """A small convolutional network for images of 8×8 to about 32×32 pixels.

    Two 3×3 convolutions with padding 1 and 32 and 64 channels, a 2×2 maximum after each; then as
    :class:`MLP` with one hidden layer of 128. Everything else is as in :class:`VGG`. A reduced
    LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998) in the parts of the paper's networks.

    Args:
        input_shape: (C, H, W) with H and W at least 4.
        num_outputs: number of logits.
        dropout: probability in [0, 1) after the fully connected hidden layer.
        width: multiplies the number of channels and of hidden units, rounded and at least 1.

    Raises:
        ValueError: ``input_shape`` is no image or one too small, or another argument is out of its
            range.

    Example:
        >>> model = ConvNet((1, 28, 28), 10)
        >>> model(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_outputs: int,
        dropout: float = 0.1,
        *,
        width: float = 1.0,
    ) -> None:
        layers, features = _convolutions(
            "ConvNet", input_shape, _scaled((32, 64), width), pooled=(1, 2)
        )
        sizes = [features, *_scaled((128,), width)]
        super().__init__(layers | _connected(sizes, num_outputs, dropout, first=3))


def build(
    spec: str, input_shape: Sequence[int], num_outputs: int, *, dropout: float = 0.1
) -> nn.Module:
    """Build a model from its short name.

    Args:
        spec: ``mlp:256x3`` (three hidden layers of 256), ``mlp:512-256-64`` (as listed),
            ``tabular:128x2`` or ``tabular:128-64`` likewise, ``vgg``, ``convnet``, or one of the
            latter two with a factor for its widths, ``vgg:0.25``.
        input_shape: shape of one input, (C, H, W) for images.
        num_outputs: number of logits.
        dropout: probability in [0, 1) after each fully connected hidden layer.

    Raises:
        ValueError: the name is not understood, or the model does not take such inputs.

    Example:
        >>> sum(p.numel() for p in build("mlp:256x3", (1, 28, 28), 10).parameters())
        334337
        >>> sum(p.numel() for p in build("convnet:0.5", (1, 8, 8), 10).parameters())
        13585
    """
    same = re.fullmatch(r"(mlp|tabular):(\d+)x(\d+)", spec)
    listed = re.fullmatch(r"(mlp|tabular):(\d+(?:-\d+)*)", spec)
    convolutional = re.fullmatch(r"(vgg|convnet)(?::(\d+\.?\d*|\.\d+))?", spec)
    if convolutional:
        kind = VGG if convolutional[1] == "vgg" else ConvNet
        return kind(input_shape, num_outputs, dropout, width=float(convolutional[2] or 1.0))
    if same:
        hidden = [int(same[2])] * int(same[3])
    elif listed:
        hidden = [int(size) for size in listed[2].split("-")]
    else:
        raise ValueError(
            f"model {spec!r} is not known; use mlp:WIDTHxDEPTH (mlp:256x3), mlp:A-B-C "
            "(mlp:512-256-64), tabular in place of mlp for tables, vgg or convnet, vgg:FACTOR or "
            "convnet:FACTOR for other widths (vgg:0.25), or package.module:factory"
        )
    kind = TabularMLP if spec.startswith("tabular") else MLP
    return kind(math.prod(input_shape), hidden, num_outputs, dropout)


def is_built_in(spec: str) -> bool:
    """Whether a name is one for :func:`build`, rather than package.module:factory.

    Example:
        >>> is_built_in("vgg:0.25"), is_built_in("mypackage.nets:vgg")
        (True, False)
    """
    return spec.partition(":")[0] in _NAMES


def _convolutions(
    model: str, input_shape: Sequence[int], channels: Sequence[int], *, pooled: Collection[int]
) -> tuple[OrderedDict[str, nn.Module], int]:
    """Convolution layers numbered from 1, and the number of features that they leave."""
    smallest = 2 ** len(pooled)
    shape = tuple(check_count(size, "every entry of input_shape") for size in input_shape)
    if len(shape) != 3 or min(shape[1:]) < smallest:
        raise ValueError(
            f"{model} needs input_shape (C, H, W) with H and W at least {smallest}, got "
            f"{shape}; give images as (N, C, H, W), by x.transpose(0, 3, 1, 2) from (N, H, W, C) "
            "and x[:, None] from (N, H, W), or use an MLP (mlp:256x3), which takes any shape"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (fan_in, fan_out) in enumerate(pairwise((shape[0], *channels)), start=1):
        layers[f"conv{i}"] = nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1, bias=False)
        if i in pooled:
            layers[f"pool{i}"] = nn.MaxPool2d(2)
        layers[f"norm{i}"] = nn.BatchNorm2d(fan_out, **_BATCH_NORM)
        layers[f"relu{i}"] = nn.ReLU()
    return layers, channels[-1] * (shape[1] // smallest) * (shape[2] // smallest)


def _layer_sizes(in_features: int, hidden_sizes: Sequence[int]) -> list[int]:
    """The number of features and the widths of the hidden layers."""
    features = check_count(in_features, "in_features")
    hidden = [check_count(size, "hidden_sizes") for size in hidden_sizes]
    if not hidden:
        raise ValueError("hidden_sizes must name at least one hidden layer, got none")
    return [features, *hidden]


def _connected(
    sizes: Sequence[int], num_outputs: int, dropout: float, *, first: int, affine: bool = False
) -> OrderedDict[str, nn.Module]:
    """Fully connected hidden layers numbered from ``first``, and the output."""
    if check_real(dropout, "dropout", minimum=0.0) >= 1.0:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
    norm = _BATCH_NORM | {"affine": affine}
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes), start=first):
        layers[f"linear{i}"] = nn.Linear(fan_in, fan_out, bias=False)
        layers[f"norm{i}"] = nn.BatchNorm1d(fan_out, **norm)
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"dropout{i}"] = nn.Dropout(dropout)
    layers["output"] = nn.Linear(sizes[-1], check_count(num_outputs, "num_outputs"), bias=False)
    layers["output_norm"] = nn.BatchNorm1d(num_outputs, **norm)
    if not affine:
        layers["output_scale"] = OutputScale()
    return layers


def _scaled(sizes: Sequence[int], width: float) -> list[int]:
    factor = check_real(width, "width", above=0.0)
    return [max(1, round(factor * size)) for size in sizes]
