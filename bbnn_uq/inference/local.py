"""Inference by local reparameterisation: pre-activations are drawn, and no network is.

For a layer a = W x with independent w_ij ∈ {−1, +1} of mean μ = tanh λ, each pre-activation is a
sum of independent terms, and for S "networks"

    a_s ≈ μ x + √((1 − μ²) x²) ⊙ ε_s,    ε_s ~ N(0, 1),

drawn anew for each network, input and unit (Kingma, Salimans, Welling 2015, arXiv 1506.02557; for
binary weights Shayer, Levi, Fetaya 2018, arXiv 1710.07739, and Peters, Welling 2018,
arXiv 1809.03368). Two products a layer take the place of S networks, which pays for few inputs.

What is approximate:

- A pre-activation is taken for Gaussian, with its right mean and variance. By the central limit
  theorem this is good for layers with many inputs of like size, and poor for few. For one input of
  a network of linear layers it is the only error, since their units share no weights.
- Inputs, the positions of a convolution, and the calls of a layer that is used twice have noise of
  their own, though in a drawn network they share weights. Each marginal of one layer stays right;
  what inputs have in common is lost, so that predictions of several inputs together mean nothing,
  and layers after a convolution, which add up its positions, see a wrong variance.
- There is no network that BatchNorm statistics could belong to, so averages over networks are used.

The noise is addressed, as the weights of drawn networks are. Unit u of the U units of a row has
number e = s U + u in network s. Its 32 bits are number e mod 8, least significant first, of block
b = ⌊e / 8⌋ of the Philox stream with key (seed, input number) and counter
(b + 1, 0, layer call, 2⁶³); the top 24 of them as a signed integer k give
ε = √2 erf⁻¹((k + ½) / 2²³), in any precision, with |ε| < 5.5. The weights' streams end their
counter with a stage of at most 32 (:mod:`bbnn_uq.philox`), so no block serves both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode, resolve_name

from bbnn_uq import bernoulli, philox

__all__ = ["LocalReparameterisation"]

_LINEAR_OPS = (functional.linear, functional.conv1d, functional.conv2d, functional.conv3d)
"""Operations (input, weight, bias=None, …) that are linear in the weight."""
_STAGE = 2**63


class LocalReparameterisation:
    """The outputs of a model whose pre-activations are drawn.

    Means and variances of the weights are computed here, once for any number of calls of
    :meth:`outputs`. The module must not be used by another thread at the same time.

    Args:
        module: in evaluation mode; its parameters are not used and may be without values.
        natural_param: λ of every binary parameter, by name.
        state: real-valued parameters and buffers, by name.
        dtype: floating type to compute in.
        device: where to compute.

    Example:
        >>> layer = LocalReparameterisation(
        ...     nn.Linear(2, 1, bias=False), {"weight": torch.tensor([[0.0, 50.0]])}, {},
        ...     dtype=torch.float32, device=torch.device("cpu"),
        ... )
        >>> a = layer.outputs(torch.tensor([[3.0, 4.0]]), range(10_000), seed=0)
        >>> a.shape, round(a.mean().item(), 1), round(a.std().item(), 1)  # 4 ± 3
        (torch.Size([10000, 1, 1]), 4.0, 3.0)
    """

    def __init__(
        self,
        module: nn.Module,
        natural_param: dict[str, Tensor],
        state: dict[str, Tensor],
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._module, self._dtype, self._device = module, dtype, device
        self._state = {name: self._placed(value) for name, value in state.items()}
        self._variances: dict[int, Tensor] = {}  # by the identity of the means
        for name, value in natural_param.items():
            mean, variance = _moments(self._placed(value))
            self._state[name], self._variances[id(mean)] = mean, variance

    def outputs(
        self,
        x: Tensor,
        networks: range,
        *,
        seed: int,
        first_input: int = 0,
        module: nn.Module | None = None,
    ) -> Tensor:
        """The model's outputs for each network and input.

        They depend on the seed and on the number of the network and of the input: networks and
        inputs may be split into calls in any way, which changes nothing but rounding.

        Args:
            x: inputs (N, ...).
            networks: numbers of the S networks, ascending.
            seed: of the noise, in [0, 2⁶⁴).
            first_input: number of the first input; the others follow.
            module: a copy of the model for this thread alone, in place of the one given first.

        Returns:
            (S, N, ...).

        Raises:
            ValueError: a binary parameter is used other than as the weight of a linear or
                convolution layer, or such a layer's input does not have the batch in front.
        """
        placed, inputs = self._placed(x), range(first_input, first_input + len(x))
        rows = placed.expand(len(networks), *placed.shape).flatten(0, 1)
        module = self._module if module is None else module
        with _DrawnPreActivations(self._variances, networks, inputs, seed):
            result = functional_call(module, self._state, (rows,))
        return result.unflatten(0, (len(networks), -1))

    def _placed(self, value: Tensor) -> Tensor:
        dtype = self._dtype if value.is_floating_point() else None
        return value.to(device=self._device, dtype=dtype)


class _DrawnPreActivations(TorchFunctionMode):
    """Within it, linear operations on binary weights draw. Rows go by network, then by input."""

    def __init__(self, variances: dict[int, Tensor], networks: range, inputs: range, seed: int):
        super().__init__()
        self._variances, self._networks, self._inputs = variances, networks, inputs
        self._seed, self._calls = seed, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func in _LINEAR_OPS and self._applies_to(*args, **named):
            return self._draw(func, *args, **named)
        result = func(*args, **named)
        # Other operations may look at a weight (its shape, its type), not compute with it.
        if not isinstance(result, (int, torch.Size, torch.dtype, torch.device)):
            self._refuse(func, [*args, *named.values()])
        return result

    # These two have the operations' parameters, by position or by name.
    def _applies_to(self, input: Any, weight: Any, bias: Any = None, *_: Any, **__: Any) -> bool:
        binary = self._variances
        return id(weight) in binary and id(input) not in binary and id(bias) not in binary

    def _draw(
        self, func: Any, input: Tensor, weight: Tensor, bias: Any = None, *rest: Any, **named: Any
    ) -> Tensor:
        networks, inputs = len(self._networks), len(self._inputs)
        if input.shape[0] % (networks * inputs):
            raise ValueError(
                f"method 'local' needs the batch in front, and a binary weight met an input of "
                f"shape {tuple(input.shape)} for {networks} networks × {inputs} inputs; use "
                "method='monte_carlo', which has no such need"
            )
        blocks = input.unflatten(0, (networks, -1))
        # Up to the first noise all networks see the same, and one product does for all.
        if networks > 1 and torch.equal(blocks[1:], blocks[:-1]):
            blocks = blocks[:1]
        x = blocks.flatten(0, 1)
        centre = func(x, weight, bias, *rest, **named)
        variance = func(x * x, self._variances[id(weight)], None, *rest, **named)
        # Some convolution algorithms round a variance of 0 to below it.
        scale = variance.clamp_min_(0.0).sqrt_().reshape(len(blocks), inputs, -1)
        drawn = torch.addcmul(centre.reshape_as(scale), scale, self._noise(scale))
        return drawn.reshape(-1, *centre.shape[1:])

    def _noise(self, like: Tensor) -> Tensor:
        """ε (networks, inputs, units) of the next layer call, as the module states it."""
        call, self._calls = self._calls, self._calls + 1
        units = like.shape[2]
        first, last = self._networks[0] * units, (self._networks[-1] + 1) * units
        block, skipped = divmod(first, 8)
        numbers = []
        for number in self._inputs:
            key = (self._seed, number)
            words = philox.stream_words(key, call, _STAGE, block, -(-last // 8) - block)
            own = words.astype("<u8", copy=False).view("<i4")[skipped:][: last - first]
            numbers.append(own.reshape(-1, units)[:: self._networks.step])
        bits = torch.from_numpy(np.stack(numbers, axis=1)).to(like.device).bitwise_right_shift_(8)
        # k + ½ and its product are exact in float32, and the uniform is never ±1.
        uniform = bits.to(like.dtype).add_(0.5).mul_(2.0**-23)
        return uniform.erfinv_().mul_(math.sqrt(2.0))

    def _refuse(self, func: Any, inputs: list[Any]) -> None:
        nested = [each for group in inputs if isinstance(group, (list, tuple)) for each in group]
        if any(id(each) in self._variances for each in inputs + nested):
            name = resolve_name(func) or getattr(func, "__name__", str(func))
            # A TypeError would be taken for "operator not supported" by x @ w and lost.
            raise ValueError(
                f"method 'local' has no rule for the operation {name} on a binary weight; use "
                "method='monte_carlo', which works for every operation"
            )


def _moments(natural_param: Tensor) -> tuple[Tensor, Tensor]:
    """μ = ±(1 − 2p) and 1 − μ² = 4 p (1 − p), p the probability of a flip, so that none is lost."""
    whole = natural_param.contiguous()
    mean, variance = torch.empty_like(whole), torch.empty_like(whole)
    # By parts that stay in the cache: tanh on whole tensors takes three times as long in all.
    parts = [each.view(-1).split(2**18) for each in (whole, mean, variance)]
    for part, m, v in zip(*parts, strict=True):
        flip = bernoulli.flip_probability(part)
        torch.mul(flip, 1.0 - flip, out=v).mul_(4.0)
        torch.copysign(1.0 - 2.0 * flip, part, out=m)
    return mean, variance
