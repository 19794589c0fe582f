"""Augmentation of image batches: the random crops and flips of CIFAR training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from bbnn_uq._checks import check_count

__all__ = ["RandomCropFlip"]


@dataclass(frozen=True)  # its repr names the augmentation in full
class RandomCropFlip:
    """Pad each image with zeros, crop it at a random place of its own, and flip it at random.

    With t_n and l_n uniform on {0, …, 2 ``padding``} and s_n true with probability ½,
    independently for each image,

        out[n, c, i, j] = padded[n, c, t_n + i, l_n + (W − 1 − j if s_n else j)],

    where padded is the batch with ``padding`` zeros on each side: an image moves by up to
    ``padding`` pixels, and zeros, black in images in [0, 1], come in where it left. Padding 4 with
    flips is usual for CIFAR (He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition,
    CVPR 2016, section 4.2), and what Meng, Bachmann, Khan (2020) train with.

    Random numbers come from torch's global stream of the images' device, the one that
    :func:`bbnn_uq.fit` seeds and keeps in its checkpoints: ``torch.manual_seed`` repeats a batch.
    A call reads the rows t first, then the columns l, then the flips s where there are any.

    Args:
        padding: zeros on each side, in pixels, at least 0 and less than both sides of the images.
        flip: whether to flip left-right with probability ½.

    Raises:
        TypeError: ``padding`` is no integer, ``flip`` no bool, or a batch no tensor.
        ValueError: ``padding`` is negative, or a batch does not have the shape (N, C, H, W) with H
            and W greater than ``padding``.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> RandomCropFlip(padding=1)(torch.arange(1, 10).view(1, 1, 3, 3))  # up, right, flipped
        tensor([[[[5, 4, 0],
                  [8, 7, 0],
                  [0, 0, 0]]]])
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        check_count(self.padding, "padding", minimum=0)
        if not isinstance(self.flip, bool):
            raise TypeError(f"flip must be True or False, got {self.flip!r}")

    def __call__(self, images: Any) -> Shaped[Tensor, "images channels height width"]:
        """A batch of the same shape and dtype; the one given is left unchanged.

        Args:
            images: tensor (N, C, H, W) of any dtype, on any device.
        """
        self._check(images)
        count, channels, height, width = images.shape
        device, places = images.device, 2 * self.padding + 1
        top = torch.randint(places, (count, 1), device=device)
        left = torch.randint(places, (count, 1), device=device)
        rows = top + torch.arange(height, device=device)
        columns = torch.arange(width, device=device).expand(count, width)
        if self.flip:
            flipped = torch.rand(count, 1, device=device) < 0.5
            columns = torch.where(flipped, columns.flip(1), columns)
        columns = left + columns
        padded = nn.functional.pad(images, (self.padding,) * 4)
        return padded[
            torch.arange(count, device=device)[:, None, None, None],
            torch.arange(channels, device=device)[:, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]

    def _check(self, images: Any) -> None:
        if not isinstance(images, Tensor):
            raise TypeError(
                f"images must be a tensor, got {type(images).__name__}; convert an array with "
                "torch.from_numpy"
            )
        shape = tuple(images.shape)
        if images.ndim != 4:
            raise ValueError(
                f"images must have shape (N, C, H, W), got {shape}; add the axis that is missing "
                "(images[:, None] where there is one channel, images[None] where there is one "
                "image), or train without augmentation where inputs are no images"
            )
        if min(shape[2:]) <= self.padding:
            raise ValueError(
                f"images must have more than padding = {self.padding} pixels on each side, since "
                f"some crops would show nothing but zeros, got {shape}; use a smaller padding"
            )
