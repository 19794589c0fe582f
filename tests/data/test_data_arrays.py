from __future__ import annotations

import struct
import zipfile
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbnn_uq.data import ArrayData, load_data
from bbnn_uq.data.npz import read_npz


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def message_of(path: Path) -> str:
    """The error that reading ``path`` gives, which must name the file and fit one line."""
    with pytest.raises(ValueError, match=r"mine\.npz") as caught:
        load_data(path, split="test")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_file_is_used_whole_for_both_splits(path: Path) -> None:
    x = np.arange(24).reshape(4, 2, 3)
    np.savez(path, x=x, y=[0, 4, 1, 1], other=np.zeros(9))
    for split in ("train", "test"):
        data = load_data(path, split=split)
        assert data.name == "mine"
        np.testing.assert_array_equal(data.x, x)
        np.testing.assert_array_equal(data.y, [0, 4, 1, 1])
        assert data.num_classes == 5
        assert data.input_shape == (2, 3)


def test_path_may_be_a_string_in_any_case(path: Path) -> None:
    upper = path.with_name("Upper.NPZ")
    with upper.open("wb") as handle:
        np.savez_compressed(handle, x=np.ones((2, 3)))
    assert load_data(str(upper), split="test").name == "Upper"


def test_without_labels(path: Path) -> None:
    np.savez(path, x=np.ones((2, 3)))
    data = load_data(path, split="test")
    assert data.y is None
    assert data.num_classes is None


@pytest.mark.parametrize("labels", [[0, 0], [0, 1], [True, False], [0.0, 1.0]])
def test_at_least_two_classes(path: Path, labels: list) -> None:
    np.savez(path, x=np.ones((2, 3)), y=labels)
    data = load_data(path, split="test")
    assert data.num_classes == 2
    assert data.y is not None
    assert data.y.dtype == np.int64
    assert data.y.tolist() == [int(label) for label in labels]


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int64", "float16", "float64", ">f4", ">i2"])
def test_any_numeric_dtype_keeps_its_values(path: Path, dtype: str) -> None:
    x = np.asfortranarray(np.array([[0, 1, 0], [1, 1, 0]]) * (1 if dtype == "bool" else 100))
    np.savez(path, x=x.astype(dtype), y=np.array([3, 1], ">u8"))
    data = load_data(path, split="test")
    assert data.x.dtype == np.float32
    assert data.x.dtype.isnative
    assert data.x.flags.c_contiguous
    assert data.x.flags.writeable
    np.testing.assert_array_equal(data.x, x)
    assert data.y is not None
    assert data.y.dtype == np.int64
    assert data.y.dtype.isnative


def test_float64_rounds_to_the_nearest_float32(path: Path) -> None:
    np.savez(path, x=np.array([[1.0 + 2.0**-24 + 2.0**-40]]))
    assert load_data(path, split="test").x.item() == 1.0 + 2.0**-23


def test_array_data_is_frozen_and_compares_by_identity() -> None:
    data = ArrayData("a", np.zeros((2, 3), np.float32), None, None)
    with pytest.raises(FrozenInstanceError):
        data.name = "b"  # pyright: ignore[reportAttributeAccessIssue]
    assert data == data
    assert data != ArrayData("a", data.x, None, None)


def test_missing_file(path: Path) -> None:
    assert "there is no file" in message_of(path)


def test_folder(path: Path) -> None:
    path.mkdir()
    message = message_of(path)
    assert "cannot be read" in message
    assert "directory" in message.lower()


def test_path_that_no_file_can_have(path: Path) -> None:
    assert "cannot be read" in message_of(path.with_name("a\0mine.npz"))


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"PK\x03\x04nothing", b"\x80\x04}."])
def test_foreign_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    message = message_of(path)
    assert "is damaged or is no .npz file" in message
    assert "np.savez" in message


def test_npy_file_under_the_wrong_name(path: Path) -> None:
    with path.open("wb") as handle:
        np.save(handle, np.ones((2, 3)))
    assert "single array" in message_of(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_truncated_file(path: Path, share: float) -> None:
    np.savez(path, x=np.ones((20, 30)), y=np.zeros(20, np.int64))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "is damaged or is no .npz file" in message_of(path)


def test_truncated_member(path: Path) -> None:
    np.savez(path, x=np.ones((20, 30)))
    with zipfile.ZipFile(path) as archive:
        member = archive.read("x.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member[:-8])
    message = message_of(path)
    assert message.startswith("x in ")
    assert "is damaged; write it with np.savez" in message


def test_member_that_claims_a_huge_shape(path: Path) -> None:
    header = repr({"descr": "<f8", "fortran_order": False, "shape": (2**50, 2)}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n"
        )
    message = message_of(path)
    assert message.startswith("x in ")
    assert "is damaged; write it with np.savez" in message


def test_no_x_lists_what_was_found(path: Path) -> None:
    np.savez(path, x_train=np.ones((2, 3)), labels=[0, 1])
    message = message_of(path)
    assert "no array 'x'" in message
    assert "x_train" in message
    assert "labels" in message
    assert "rename" in message


@pytest.mark.parametrize("key", ["x", "y"])
def test_object_arrays_are_never_unpickled(path: Path, key: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (path.with_name("sprung"),)

    arrays = {"x": np.ones((2, 3)), "y": np.array([0, 1])}
    arrays[key] = np.array([Trap(), Trap()], dtype=object)
    np.savez(path, **arrays)
    message = message_of(path)
    assert f"{key} in " in message
    assert "holds Python objects" in message
    assert not path.with_name("sprung").exists()


@pytest.mark.parametrize(
    ("x", "part"),
    [
        (np.array([["a", "b"]]), "x .* has dtype <U1; give real numbers"),
        (np.array([[1j]]), "x .* has dtype complex128"),
        (np.array([[0]], "datetime64[s]"), "x .* has dtype datetime64"),
        (np.array([[np.nan, np.inf, -np.inf, 0.0]]), "x .* has 3 NaN or infinite values"),
        (np.array([[1e39, -1e39, 1e38]]), "x .* has 2 values too large for float32"),
        (np.ones(4), r"x .* has shape \(4,\); give it as \(N, \.\.\.\)"),
        (np.float64(1.0), r"x .* has shape \(\)"),
        (np.ones((0, 3)), r"x .* is empty \(shape \(0, 3\)\)"),
        (np.ones((3, 0)), r"x .* is empty \(shape \(3, 0\)\)"),
    ],
)
def test_unusable_inputs(path: Path, x: np.ndarray, part: str) -> None:
    np.savez(path, x=x)
    message_of(path)
    with pytest.raises(ValueError, match=part):
        load_data(path, split="test")


@pytest.mark.parametrize(
    ("y", "part"),
    [
        (np.array([0, 1, 1]), r"y .* has shape \(3,\); give it as \(2,\)"),
        (np.array([[0], [1]]), r"y .* has shape \(2, 1\)"),
        (np.array([[0, 1]]), r"y .* has shape \(1, 2\)"),
        (np.array(1), r"y .* has shape \(\)"),
        (np.array([0.0, 0.5]), "y .* has dtype float64 and no integer"),
        (np.array([0.0, np.nan]), "y .* has dtype float64 and no integer"),
        (np.array([0j, 1j]), "y .* has dtype complex128 and no integer"),
        (np.array(["cat", "dog"]), "y .* has dtype <U3 and no integer"),
        (np.array([0, -1]), "y .* goes down to -1"),
        (np.array([0.0, np.inf]), "y .* goes up to inf"),
        (np.array([0, 2**64 - 1], np.uint64), "y .* goes up to 18446744073709551615"),
    ],
)
def test_unusable_labels(path: Path, y: np.ndarray, part: str) -> None:
    np.savez(path, x=np.ones((2, 3)), y=y)
    message_of(path)
    with pytest.raises(ValueError, match=part):
        load_data(path, split="test")


def test_odd_file_names_stay_on_one_line(path: Path) -> None:
    assert message_of(path.with_name("a\nb mine.npz"))


@settings(deadline=None, max_examples=200)
@given(data=st.data(), compressed=st.booleans())
def test_damaged_bytes_give_a_value_error_or_valid_data(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, compressed: bool
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "mine.npz"
    save = np.savez_compressed if compressed else np.savez
    save(path, x=np.arange(12.0).reshape(4, 3), y=np.array([0, 1, 2, 1]))
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    message = ""
    try:
        result = read_npz(path)
    except ValueError as error:
        message = str(error)
    else:
        assert np.isfinite(result.x).all()
        assert result.y is None or result.y.shape == (len(result.x),)
    assert not message or "mine.npz" in message
    assert "\n" not in message
