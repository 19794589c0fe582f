"""Data of the uncertainty benchmark: Fashion-MNIST, its corrupted validation images, OOD sets.

Recipes and scores are chosen on the 6,000 validation images, which are held out from the training
set, and on corruptions of them. The test set and the OOD sets are looked at once, for the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bbnn_uq.data import load_data

NUM_VALIDATION = 6000


@dataclass(frozen=True)
class Data:
    """Inputs by name; labels of the training, validation and test sets."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    corrupted: dict[str, np.ndarray]
    ood: dict[str, np.ndarray]


def load() -> Data:
    """Read everything; the split is fixed."""
    whole, test = (load_data("fashion-mnist", split=split) for split in ("train", "test"))
    assert whole.y is not None
    assert test.y is not None
    order = np.random.default_rng(0).permutation(len(whole.x))
    held_out, kept = order[:NUM_VALIDATION], order[NUM_VALIDATION:]
    digits = load_data("mnist-5k", split="test")
    noise = load_data("noise", split="test", input_shape=(1, 28, 28))
    return Data(
        train=(whole.x[kept], whole.y[kept]),
        validation=(whole.x[held_out], whole.y[held_out]),
        test=(test.x, test.y),
        corrupted=_corrupted(whole.x[held_out][:2000]),
        ood={
            "mnist-5k": digits.x,
            "noise": noise.x,
            "rotated-90": np.ascontiguousarray(np.rot90(test.x, axes=(2, 3))),
        },
    )


def _corrupted(x: np.ndarray) -> dict[str, np.ndarray]:
    """Four kinds of damage; none of them is one of the OOD sets."""
    generator = np.random.default_rng(1)
    noisy = np.clip(x + 0.4 * generator.standard_normal(x.shape), 0.0, 1.0)
    # 16 tiles of 7 × 7 pixels, in another order in each image.
    tiles = x.reshape(len(x), 4, 7, 4, 7).transpose(0, 1, 3, 2, 4).reshape(len(x), 16, 7, 7)
    shuffled = np.stack([each[generator.permutation(16)] for each in tiles])
    shuffled = shuffled.reshape(len(x), 4, 4, 7, 7).transpose(0, 1, 3, 2, 4).reshape(x.shape)
    kinds = {
        "blurred": ndimage.gaussian_filter(x, (0, 0, 2.0, 2.0)),
        "noisy": noisy,
        "low-contrast": 0.5 + 0.3 * (x - 0.5),
        "shuffled-tiles": shuffled,
    }
    return {name: values.astype(np.float32) for name, values in kinds.items()}
