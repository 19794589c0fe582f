"""Linear, convolution and BatchNorm layers of drawn networks: small types, several networks.

A weight of ±1 is exact in int8 and bfloat16. With int8, activations x of one row (one input; for
convolutions one image) are rounded to q = round(127 x / max |x|), the integer products q · w are
exact, and max |x| / 127 · (q · w) goes on in float32. So a row's result does not depend on the
other rows of its batch, not even in the last bit, and inputs far from the training data keep their
own scale. With bfloat16, activations are rounded to 8 significant bits, products are summed in
float32 and the sums rounded to 8 bits again.

Several networks g may be run at once, with rows sorted by network and weights and BatchNorm
statistics that have a leading axis of length g.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["NetworkProducts", "ProductRecorder", "Undrawn", "empty_weights"]

LEVELS = 127.0
SMALLEST_SCALE = 1e-30
PATCH_BYTES = 2**23
"""Unfolded patches of a convolution that are in memory at a time."""

_LINEAR = {functional.linear}
_CONVOLUTIONS = {
    function: dimensions
    for dimensions, functions in enumerate(
        (
            (functional.conv1d, torch.conv1d),
            (functional.conv2d, torch.conv2d),
            (functional.conv3d, torch.conv3d),
        ),
        start=1,
    )
    for function in functions
}
# What a module may ask of its weight without computing with it.
_HARMLESS = {
    torch.Tensor.size,
    torch.Tensor.dim,
    torch.Tensor.numel,
    torch.Tensor.shape.__get__,  # pyright: ignore[reportAttributeAccessIssue]
    torch.Tensor.ndim.__get__,  # pyright: ignore[reportAttributeAccessIssue]
    torch.Tensor.requires_grad.__get__,  # pyright: ignore[reportAttributeAccessIssue]
}


class _Call(NamedTuple):
    """The arguments of a linear or convolution function by name."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    options: dict[str, Any]


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> _Call:
    return _Call(input, weight, bias, {})


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> _Call:
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _Call(input, weight, bias, options)


def _parsed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> _Call | None:
    """The call's parts when it is a linear layer's or a convolution's."""
    if func in _LINEAR:
        return _linear(*args, **(kwargs or {}))
    if func in _CONVOLUTIONS:
        return _convolution(*args, **(kwargs or {}))
    return None


class ProductRecorder(TorchFunctionMode):
    """Within it, notes which weights are used by linear layers and convolutions only.

    Args:
        weights: tensors by name, the very objects that the model computes with.
        dtype: of the weights to come; int8 leaves out grouped, 1-D and 3-D convolutions.

    Example:
        >>> weights = {"a": torch.ones(2, 3), "b": torch.ones(3, 3)}
        >>> with ProductRecorder(weights, torch.int8) as recorder:
        ...     y = functional.linear(torch.ones(1, 3), weights["a"]) + weights["b"].sum()
        >>> recorder.products()
        frozenset({'a'})
    """

    def __init__(self, weights: dict[str, Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self._names = {id(weight): name for name, weight in weights.items()}
        self._dtype = dtype
        self._seen: set[str] = set()
        self._others: set[str] = set()

    def products(self) -> frozenset[str]:
        """Names of the weights that went into products and nothing else."""
        return frozenset(self._seen - self._others)

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        call = _parsed(func, args, kwargs)
        if call is not None and id(call.weight) in self._names and self._takes(func, call):
            self._seen.add(self._names[id(call.weight)])
            self._note(call.x, call.bias)
        elif func not in _HARMLESS:
            self._note(*args, *(kwargs or {}).values())
        return func(*args, **(kwargs or {}))

    def _takes(self, func: Any, call: _Call) -> bool:
        if self._dtype != torch.int8 or func in _LINEAR:
            return True
        plain = call.options["groups"] == 1 and not isinstance(call.options["padding"], str)
        return plain and _CONVOLUTIONS[func] == 2 and call.x.ndim == 4

    def _note(self, *values: Any) -> None:
        for value in values:
            if isinstance(value, (list, tuple)):
                self._note(*value)
            elif id(value) in self._names:
                self._others.add(self._names[id(value)])


class Undrawn(Tensor):
    """Stands for weights (g, N, K) of networks index, index + 1, … that their product draws.

    Args (of :meth:`of`):
        shape: (g, N, K).
        dtype: that the product rounds its inputs and results to.
        thresholds: heads and tails of the parameter, on the device.
        key: (seed, index of the first network).
        address: the parameter's, from :func:`bbnn_uq.philox.parameter_address`.
    """

    thresholds: tuple[Tensor, Tensor]
    key: tuple[int, int]
    address: int

    @classmethod
    def of(
        cls,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        thresholds: tuple[Tensor, Tensor],
        key: tuple[int, int],
        address: int,
    ) -> Undrawn:
        """A tensor of the shape and type that takes no memory."""
        one = torch.zeros(1, dtype=dtype, device=thresholds[0].device)
        weights = one.expand(shape).as_subclass(cls)
        weights.thresholds, weights.key, weights.address = thresholds, key, address
        return weights


class NetworkProducts(TorchFunctionMode):
    """Within it, layers take int8 and bfloat16 weights, and those of several networks.

    Example:
        >>> signs = torch.tensor([[[1, -1]], [[1, 1]]], dtype=torch.int8)  # two networks
        >>> with NetworkProducts():
        ...     functional.linear(torch.tensor([[3.0, 3.0], [3.0, 3.0]]), signs)
        tensor([[0.],
                [6.]])
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        call = _parsed(func, args, kwargs)
        if call is None:
            return func(*args, **(kwargs or {}))
        plain = 2 if func in _LINEAR else 2 + _CONVOLUTIONS[func]
        y = _product(func, call, grouped=call.weight.ndim > plain)
        if call.bias is None:
            return y
        return y + (call.bias if func in _LINEAR else call.bias.view(-1, *(1,) * (plain - 2)))


def _product(func: Any, call: _Call, *, grouped: bool) -> Tensor:
    x, weight, options = call.x, call.weight, call.options
    if not grouped:
        if weight.dtype == torch.int8:
            linear = func in _LINEAR
            return _int8_linear(x, weight) if linear else _int8_convolution(x, weight, **options)
        return func(_rounded(x, weight), weight, None, **options).to(x.dtype)
    networks = len(weight)
    rows = x.unflatten(0, (networks, -1))
    if func not in _LINEAR:
        each = [_product(func, _Call(x, w, None, options), grouped=False)
                for x, w in zip(rows, weight, strict=True)]  # fmt: skip
        return torch.cat(each)
    if weight.dtype == torch.int8:
        return _int8_linear(x, weight)
    flat = _rounded(rows.flatten(1, -2), weight)
    if isinstance(weight, Undrawn):
        return _drawn_product(flat, weight).to(weight.dtype).to(x.dtype).view(*x.shape[:-1], -1)
    y = torch.bmm(flat, weight.transpose(1, 2)).to(x.dtype)
    return y.view(*x.shape[:-1], -1)


def _rounded(x: Tensor, weight: Tensor) -> Tensor:
    # Only what is meant: a float32 in a float64 model is the model's fault, and torch says so.
    return x.to(weight.dtype) if weight.dtype == torch.bfloat16 else x


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute scale · x + shift, in single operations that round alike for any number of rows."""
    if training or running_mean is None or running_var is None:
        return torch.batch_norm(
            input, weight, bias, running_mean, running_var, training, momentum, eps, False
        )
    scale = (running_var + eps).sqrt_().reciprocal_()
    if weight is not None:
        scale = scale * weight
    shift = -running_mean * scale
    if bias is not None:
        shift = shift + bias
    # (g, C) beside rows (g · n, C, …): g is 1 where all rows belong to one network.
    networks = len(running_mean) if running_mean.ndim == 2 else 1
    shape = (networks, 1, -1, *(1,) * (input.ndim - 2))
    rows = input.unflatten(0, (networks, -1))
    return (rows * scale.view(shape)).add_(shift.view(shape)).flatten(0, 1)


def empty_weights(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for weights (g, …), in the order that the products read.

    Example:
        >>> empty_weights((1, 4, 3, 2, 2), torch.int8, torch.device("cpu")).stride()
        (48, 12, 1, 6, 3)
    """
    if dtype == torch.int8 and len(shape) == 5 and device.type == "cpu":
        networks, outputs, inputs, height, width = shape
        memory = torch.empty(networks, outputs, height, width, inputs, dtype=dtype, device=device)
        return memory.permute(0, 1, 4, 2, 3)
    return torch.empty(shape, dtype=dtype, device=device)


def _int8_linear(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply x (g · n, …, K) with the weights (g, N, K) of g networks, or (N, K) of one."""
    rows = x.reshape(-1, x.shape[-1])
    q, scale = _quantised(rows)
    if weight.ndim == 2:
        products = _integer_product(q, weight.t())
    else:
        each = zip(q.unflatten(0, (len(weight), -1)), weight.transpose(1, 2), strict=True)
        products = torch.cat([_integer_product(own, w) for own, w in each])
    return products.to(x.dtype).mul_(scale).view(*x.shape[:-1], -1)


def _int8_convolution(
    x: Tensor, weight: Tensor, *, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    """Patches of the quantised image, unfolded a few images at a time, times the weight."""
    assert groups == 1
    (sh, sw), (ph, pw), (dh, dw) = (_pair(each) for each in (stride, padding, dilation))
    count, channels, height, width = x.shape
    outputs, _, kh, kw = weight.shape
    q, scale = _quantised(x.permute(0, 2, 3, 1).reshape(count, -1))
    image = functional.pad(q.view(count, height, width, channels), (0, 0, pw, pw, ph, ph))
    _, tall, wide, _ = image.shape
    oh, ow = (tall - dh * (kh - 1) - 1) // sh + 1, (wide - dw * (kw - 1) - 1) // sw + 1
    one, row, pixel, _ = image.stride()
    patches = image.as_strided(
        (count, oh, ow, kh, kw, channels), (one, sh * row, sw * pixel, dh * row, dw * pixel, 1)
    )
    flat_weight = weight.permute(0, 2, 3, 1).reshape(outputs, -1).t()
    y = x.new_empty(count, oh, ow, outputs)
    step = max(1, PATCH_BYTES // max(1, patches[0].numel()))
    for start in range(0, count, step):
        where = slice(start, start + step)
        rows = patches[where].reshape(-1, kh * kw * channels)
        products = _integer_product(rows, flat_weight).view(-1, oh, ow, outputs)
        y[where].copy_(products).mul_(scale[where].view(-1, 1, 1, 1))
    return y.permute(0, 3, 1, 2)


def _drawn_product(x: Tensor, weight: Undrawn) -> Tensor:
    """Multiply x (g, m, K) with weights that are drawn within the kernel."""
    from bbnn_uq.inference.kernels import MOST_INPUTS, draw_and_multiply  # late: loads Triton

    parts = [
        draw_and_multiply(
            part.contiguous(), *weight.thresholds, weight.key, weight.address, len(weight)
        )
        for part in x.split(MOST_INPUTS, dim=1)
    ]
    return torch.cat(parts, dim=1)


def _quantised(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Integers in [−127, 127] and, by row, what they are to be multiplied with."""
    # Two passes: torch's aminmax over rows is not vectorised and takes ten times as long. NaN and
    # infinity pass through the scale into the result, where they are found.
    low, high = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
    scale = torch.maximum(-low, high).clamp_min_(SMALLEST_SCALE)
    return (rows * (LEVELS / scale)).round_().to(torch.int8), scale.div_(LEVELS)


def _integer_product(q: Tensor, weight: Tensor) -> Tensor:
    """The exact q · w, int32."""
    if q.is_cuda:
        return _padded_product(q, weight)
    return torch._int_mm(q, weight)  # pyright: ignore[reportPrivateImportUsage]


def _padded_product(q: Tensor, weight: Tensor) -> Tensor:
    """The same with more than 16 rows and all other sizes in multiples of 8, as CUDA wants it."""
    count, inner, columns = len(q), *weight.shape
    q = functional.pad(q, (0, -inner % 8, 0, max(0, 17 - count)))
    weight = functional.pad(weight.t(), (0, -inner % 8, 0, -columns % 8)).t()
    products = torch._int_mm(q, weight)  # pyright: ignore[reportPrivateImportUsage]
    return products[:count, :columns]


def _pair(value: Any) -> tuple[int, int]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values if len(values) == 2 else (values[0], values[0])
