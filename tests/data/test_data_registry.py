from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bbnn_uq.data import data_names, load_data

EMBEDDED = ("digits", "digits-low", "digits-high", "photo-patches", "noise")


def test_names() -> None:
    assert data_names() == (*EMBEDDED, "fashion-mnist", "mnist-5k")
    for name in EMBEDDED:
        assert load_data(name, split="test").name == name


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("digit", "digits"),
        ("digits_low", "digits-low"),
        ("photopatches", "photo-patches"),
        ("fashionmnist", "fashion-mnist"),
        ("mnist", "mnist-5k"),
    ],
)
def test_unknown_name_hints_at_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{nearest}'") as caught:
        load_data(name, split="test")
    message = str(caught.value)
    assert "\n" not in message
    assert ", ".join(data_names()) in message
    assert ".npz" in message


@pytest.mark.parametrize("name", ["", "data.npy", Path("folder") / "digits"])
def test_what_is_neither_name_nor_npz(name: str | Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        load_data(name, split="test")


@pytest.mark.parametrize("name", ["digits", "file.npz"])
def test_unknown_split(name: str) -> None:
    with pytest.raises(ValueError, match=r"split must be one of train, test, .* mean 'train'"):
        load_data(name, split="training")


@pytest.mark.parametrize("name", ["photo-patches", "noise", "mnist-5k"])
def test_no_training_split(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has only a test split") as caught:
        load_data(name, split="train")
    trainable = "digits, digits-low, digits-high, fashion-mnist or a .npz file"
    assert trainable in str(caught.value)


@pytest.mark.parametrize("name", ["digits", "digits-low", "digits-high"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (8, 8), (64,)])
def test_built_in_set_of_another_shape(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"^{name} has inputs of shape") as caught:
        load_data(name, split="test", input_shape=shape)
    assert "(1, 8, 8)" in str(caught.value)
    assert str(shape) in str(caught.value)
    assert "use noise" in str(caught.value)


def test_file_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"mine\.npz' has inputs of shape \(3, 4\)") as caught:
        load_data(path, split="test", input_shape=(12,))
    assert "(12,)" in str(caught.value)
    assert "reshape x" in str(caught.value)


def test_the_right_shape_passes(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.ones((2, 3, 4)))
    assert load_data(path, split="test", input_shape=[3, np.int64(4)]).input_shape == (3, 4)
    for name in EMBEDDED:
        assert load_data(name, split="test", input_shape=(1, 8, 8)).input_shape == (1, 8, 8)


def test_value_range_leaves_real_data_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.array([[3.0, 4.0]]))
    assert load_data(path, split="test", value_range=(0, 1)).x.tolist() == [[3.0, 4.0]]
    np.testing.assert_array_equal(
        load_data("digits", split="test", value_range=(-1, 1)).x,
        load_data("digits", split="test").x,
    )


@pytest.mark.parametrize(
    ("shape", "error", "part"),
    [
        ((), ValueError, "at least one axis"),
        ((0, 8), ValueError, "every entry of input_shape must be at least 1, got 0"),
        ((-1, 8), ValueError, "at least 1, got -1"),
        ((8.0, 8), TypeError, "every entry of input_shape must be an integer"),
        ("88", TypeError, "input_shape must be a tuple"),
    ],
)
def test_bad_input_shape(shape: tuple, error: type[Exception], part: str) -> None:
    for name in data_names():
        with pytest.raises(error, match=part):
            load_data(name, split="test", input_shape=shape)


@pytest.mark.parametrize(
    ("ends", "error", "part"),
    [
        ((1, 0), ValueError, "low < high"),
        ((1, 1), ValueError, "low < high"),
        ((0, np.inf), ValueError, "every end of value_range must be finite"),
        ((np.nan, 1), ValueError, "every end of value_range must be finite"),
        ((0, 1e39), ValueError, "float32's range"),
        ((0,), ValueError, "pair"),
        ((0, 1, 2), ValueError, "pair"),
        (("a", 1), TypeError, "every end of value_range must be a number"),
        ("01", TypeError, "value_range must be a pair"),
    ],
)
def test_bad_value_range(ends: tuple, error: type[Exception], part: str) -> None:
    for name in data_names():
        with pytest.raises(error, match=part):
            load_data(name, split="test", value_range=ends)


def test_importing_the_room_does_not_load_scikit_learn() -> None:
    # Start-up time: `--help` has half a second. Only what this room itself loads counts here.
    code = (
        "import sys, numpy, jaxtyping\n"
        "try:\n    import bbnn_uq\nexcept ImportError:\n    pass\n"
        "before = set(sys.modules)\n"
        "import bbnn_uq.data\n"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before}"
        " & {'sklearn', 'PIL', 'torch', 'scipy', 'pandas'}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == "[]"
