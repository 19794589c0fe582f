"""What several tests of the commands share: data with faults, options, and a look at a folder."""

from pathlib import Path

import numpy as np

TRAIN = ("--model", "mlp:8x1", "--epochs", "3", "--device", "cpu", "--quiet")


def snapshot(folder):
    """Every file below a folder with its bytes, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(folder).rglob("*"))
        if "__pycache__" not in path.parts
    }


def save_data(folder):
    """Two classes told apart by one of five features, and sets with one fault each."""
    generator = np.random.default_rng(0)
    x = generator.random((60, 5)).astype(np.float32)
    y = (x[:, 0] > 0.5).astype(np.int64)
    broken = x.copy()
    broken[3, 2] = np.nan
    np.savez(folder / "data.npz", x=x, y=y)
    np.savez(folder / "far.npz", x=x[:40] * 3)
    np.savez(folder / "unlabelled.npz", x=x)
    np.savez(folder / "narrow.npz", x=x[:, :3], y=y)
    np.savez(folder / "nan.npz", x=broken, y=y)
    np.savez(folder / "high-labels.npz", x=x, y=y + 7)
    np.savez(folder / "no-x.npz", y=y)
    (folder / "text.npz").write_text("no archive")
    (folder / "file").write_text("no folder")
