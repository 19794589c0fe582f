"""The paper's models. Nothing here knows that its weights are binary: any module will do."""

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

__all__ = ["MLP", "VGG", "ConvNet", "OutputScale", "build", "is_built_in"]

_BATCH_NORM: dict[str, Any] = {"eps": 1e-4, "momentum": 0.15, "affine": False}
_NAMES = ("mlp", "vgg", "convnet")


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
        features = check_count(in_features, "in_features")
        hidden = [check_count(size, "hidden_sizes") for size in hidden_sizes]
        if not hidden:
            raise ValueError("hidden_sizes must name at least one hidden layer, got none")
        super().__init__(_connected([features, *hidden], num_outputs, dropout, first=1))


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
        spec: ``mlp:256x3`` (three hidden layers of 256), ``mlp:512-256-64`` (as listed), ``vgg``,
            ``convnet``, or one of the latter two with a factor for its widths, ``vgg:0.25``.
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
    same = re.fullmatch(r"mlp:(\d+)x(\d+)", spec)
    listed = re.fullmatch(r"mlp:(\d+(?:-\d+)*)", spec)
    convolutional = re.fullmatch(r"(vgg|convnet)(?::(\d+\.?\d*|\.\d+))?", spec)
    if convolutional:
        kind = VGG if convolutional[1] == "vgg" else ConvNet
        return kind(input_shape, num_outputs, dropout, width=float(convolutional[2] or 1.0))
    if same:
        hidden = [int(same[1])] * int(same[2])
    elif listed:
        hidden = [int(size) for size in listed[1].split("-")]
    else:
        raise ValueError(
            f"model {spec!r} is not known; use mlp:WIDTHxDEPTH (mlp:256x3), mlp:A-B-C "
            "(mlp:512-256-64), vgg or convnet, vgg:FACTOR or convnet:FACTOR for other widths "
            "(vgg:0.25), or package.module:factory"
        )
    return MLP(math.prod(input_shape), hidden, num_outputs, dropout)


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
            f"{shape}; reshape the inputs, or use an MLP (mlp:256x3), which takes any shape"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (fan_in, fan_out) in enumerate(pairwise((shape[0], *channels)), start=1):
        layers[f"conv{i}"] = nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1, bias=False)
        if i in pooled:
            layers[f"pool{i}"] = nn.MaxPool2d(2)
        layers[f"norm{i}"] = nn.BatchNorm2d(fan_out, **_BATCH_NORM)
        layers[f"relu{i}"] = nn.ReLU()
    return layers, channels[-1] * (shape[1] // smallest) * (shape[2] // smallest)


def _connected(
    sizes: Sequence[int], num_outputs: int, dropout: float, *, first: int
) -> OrderedDict[str, nn.Module]:
    """Fully connected hidden layers numbered from ``first``, and the output."""
    if check_real(dropout, "dropout", minimum=0.0) >= 1.0:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes), start=first):
        layers[f"linear{i}"] = nn.Linear(fan_in, fan_out, bias=False)
        layers[f"norm{i}"] = nn.BatchNorm1d(fan_out, **_BATCH_NORM)
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"dropout{i}"] = nn.Dropout(dropout)
    layers["output"] = nn.Linear(sizes[-1], check_count(num_outputs, "num_outputs"), bias=False)
    layers["output_norm"] = nn.BatchNorm1d(num_outputs, **_BATCH_NORM)
    layers["output_scale"] = OutputScale()
    return layers


def _scaled(sizes: Sequence[int], width: float) -> list[int]:
    factor = check_real(width, "width", above=0.0)
    return [max(1, round(factor * size)) for size in sizes]
