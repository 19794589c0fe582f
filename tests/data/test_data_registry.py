from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bbnn_uq.data import data_names, load_data, set_name

BUILT_IN = (
    "digits",
    "digits-low",
    "digits-high",
    "photo-patches",
    "noise",
    "fashion-mnist",
    "mnist-5k",
)
EMBEDDED = ("digits", "digits-low", "digits-high", "photo-patches", "noise")


def test_names() -> None:
    assert data_names() == (
        *EMBEDDED,
        "fashion-mnist",
        "mnist-5k",
        "cifar-10:FOLDER",
        "cifar-100:FOLDER",
        "svhn:FOLDER",
    )
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


@pytest.mark.parametrize("name", ["", "data.npy", "a/b", Path("folder") / "digits", Path("digits")])
def test_what_is_neither_name_nor_place(name: str | Path) -> None:
    for function in (lambda: load_data(name, split="test"), lambda: set_name(name)):
        with pytest.raises(ValueError, match=r"must end in \.npz"):
            function()


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("1,2")
    with pytest.raises(ValueError, match=r"data\.csv' is a file .*must end in \.npz"):
        load_data(path, split="test")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("digits-low", "digits-low"),
        ("fashion-mnist+blur@3", "fashion-mnist+blur@3"),
        ("fashion-mnist+blur@3+noise@1", "fashion-mnist+blur@3+noise@1"),
        ("noise+noise@5", "noise+noise@5"),
        ("cifar-10:/data/a+b", "cifar-10"),
        ("cifar-100:data+contrast@2", "cifar-100+contrast@2"),
        ("svhn:~", "svhn"),
        ("runs/mine.npz", "mine"),
        (Path("runs/a+noise@2.npz"), "a+noise@2"),
        ("runs/a+noise.npz+rotation@1", "a+noise+rotation@1"),
        ("lab.sets:near_ood", "near_ood"),
        ("sets:f+noise@1", "f+noise@1"),
    ],
)
def test_names_without_reading(spec: str | Path, name: str) -> None:
    assert set_name(spec) == name


def test_names_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("digits", "a+b@2/c", "svhn"):
        (tmp_path / folder).mkdir(parents=True)
    assert set_name("digits") == set_name("./digits") == set_name(Path("digits")) == "digits"
    assert len(load_data("digits", split="test").x) == 599
    for place in ("./digits", Path("digits")):
        with pytest.raises(ValueError, match="holds no images"):
            load_data(place, split="test")
    assert set_name("a+b@2/c") == set_name("a+b@2/c/") == "c"
    assert set_name("a+b@2/c+blur@1") == set_name(Path("a+b@2/c+blur@1")) == "c+blur@1"
    assert set_name(".") == tmp_path.name


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("digits+blurr@3", "kind of corruption must be one of .*; did you mean 'blur'"),
        ("digits+blur@6", "severity must be an integer from 1 to 5, got 6"),
        ("digits+blur@0", "severity must be at least 1, got 0"),
        ("digits+blur@-1", "severity must be an integer from 1 to 5, got '-1'"),
        ("digits+blur@1.5", "severity must be an integer from 1 to 5, got '1.5'"),
        ("digits+blur@", "severity must be an integer from 1 to 5, got ''"),
        ("digits+blur", r"digits\+blur lacks the severity of blur; write \+blur@1 "),
        ("digits+noise+blur@1", r"lacks the severity of noise"),
        ("digitss+blur@1", "name must be one of .* mean 'digits'"),
        ("cifar-10", "cifar-10 is read from a folder of yours; write cifar-10:FOLDER, where"),
        ("svhn:", "svhn is read from a folder of yours; write svhn:FOLDER"),
        ("cifar10", "mean 'cifar-10:FOLDER'"),
        ("cifar10:/data", "mean 'cifar-10:FOLDER'"),
        ("shvn:./data", "mean 'svhn:FOLDER'"),
    ],
)
def test_specs_that_say_nothing(spec: str, part: str) -> None:
    for function in (lambda: load_data(spec, split="test"), lambda: set_name(spec)):
        with pytest.raises(ValueError, match=part) as caught:
            function()
        assert "\n" not in str(caught.value)


def test_sets_in_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "test_batch.bin").write_bytes(bytes([3]) + bytes(3072))
    (tmp_path / "test.bin").write_bytes(bytes([3, 40]) + bytes(3072))
    for name, label in (("cifar-10", 3), ("cifar-100", 40)):
        for place in (str(tmp_path), "~"):
            data = load_data(f"{name}:{place}", split="test")
            assert data.y is not None
            assert (data.name, data.y.tolist()) == (name, [label])
    with pytest.raises(ValueError, match=r"cifar-10:.* has inputs of shape \(3, 32, 32\)"):
        load_data(f"cifar-10:{tmp_path}", split="test", input_shape=(1, 8, 8))
    with pytest.raises(ValueError, match="lacks data_batch_1"):
        load_data(f"cifar-10:{tmp_path}", split="train")


def test_class_names_of_built_in_sets() -> None:
    for name, count in (("digits", 10), ("digits-low", 8), ("digits-high", 10)):
        data = load_data(name, split="test")
        assert data.class_names == tuple("0123456789"[:count])
        assert data.num_classes == count
    for name in ("noise", "photo-patches"):
        assert load_data(name, split="test").class_names is None


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
    for name in BUILT_IN:
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
    for name in BUILT_IN:
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
