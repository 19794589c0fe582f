from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bbnn_uq.data.idx import read_idx, write_idx

# Code, struct's letter and NumPy's name of each type on the MNIST page, with values that show the
# sign, the byte order and every byte of it.
TYPES = [
    (0x08, "B", "uint8", [0, 1, 255]),
    (0x09, "b", "int8", [-128, -1, 127]),
    (0x0B, "h", "int16", [-32768, 258, 1]),
    (0x0C, "i", "int32", [-(2**31), 16909060, 1]),
    (0x0D, "f", "float32", [-1.5, 3.0e-38, 2.0**100]),
    (0x0E, "d", "float64", [-1.5, 1.0e-300, 0.1]),
]
MATRIX = np.arange(6, dtype=np.uint8).reshape(2, 3)
PLAIN = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 1, 2, 3, 4, 5])  # MATRIX, by hand


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.idx"


def message_of(path: Path) -> str:
    """The error that reading ``path`` gives, which must name the file and fit one line."""
    with pytest.raises(ValueError, match=r"mine\.idx") as caught:
        read_idx(path)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("code", "letter", "name", "values"), TYPES)
def test_every_type(path: Path, code: int, letter: str, name: str, values: list) -> None:
    content = bytes([0, 0, code, 1]) + struct.pack(">i", 3) + struct.pack(f">3{letter}", *values)
    path.write_bytes(content)
    array = read_idx(str(path))
    assert array.dtype == np.dtype(name)
    assert array.dtype.isnative
    assert array.flags.writeable
    np.testing.assert_array_equal(array, np.array(values, name))
    for order in "<>":
        write_idx(path, np.array(values, name).astype(np.dtype(name).newbyteorder(order)))
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("shape", "header"),
    [
        ((), [0, 0, 8, 0]),
        ((1,), [0, 0, 8, 1, 0, 0, 0, 1]),
        ((0, 3), [0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 3]),
        ((1, 300, 1), [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 1, 44, 0, 0, 0, 1]),
        ((1,) * 64, [0, 0, 8, 64] + [0, 0, 0, 1] * 64),
    ],
)
def test_any_number_of_axes(path: Path, shape: tuple[int, ...], header: list[int]) -> None:
    array = np.full(shape, 7, np.uint8)
    path.write_bytes(bytes(header) + b"\x07" * array.size)
    np.testing.assert_array_equal(read_idx(path), array)
    write_idx(path, array)
    assert path.read_bytes() == bytes(header) + b"\x07" * array.size


def test_the_last_axis_changes_fastest_whatever_the_memory_order(path: Path) -> None:
    path.write_bytes(PLAIN)
    np.testing.assert_array_equal(read_idx(path), MATRIX)
    write_idx(path, np.asfortranarray(MATRIX))
    assert path.read_bytes() == PLAIN
    write_idx(path, np.repeat(MATRIX, 2, axis=1)[:, ::2])
    assert path.read_bytes() == PLAIN


def test_gzip_is_told_by_content_when_read_and_by_name_when_written(path: Path) -> None:
    path.write_bytes(gzip.compress(PLAIN))
    np.testing.assert_array_equal(read_idx(path), MATRIX)
    for suffix in (".gz", ".GZ"):
        packed = path.with_suffix(suffix)
        write_idx(packed, MATRIX)
        assert gzip.decompress(packed.read_bytes()) == PLAIN
        assert packed.read_bytes()[4:8] == bytes(4)  # no time, so equal arrays give equal files
        packed.write_bytes(PLAIN)
        np.testing.assert_array_equal(read_idx(packed), MATRIX)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), name=st.sampled_from([row[2] for row in TYPES]), suffix=st.booleans())
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str, suffix: bool
) -> None:
    array = data.draw(arrays(name, array_shapes(min_dims=0, min_side=0, max_dims=4)))
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if suffix else "a")
    write_idx(path, array)
    again = read_idx(path)
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize("dtype", ["int64", "uint16", "bool", "complex64", "U1", "O"])
def test_types_that_idx_does_not_have(path: Path, dtype: str) -> None:
    with pytest.raises(TypeError, match=r"array has dtype .*uint8, int8, int16, int32, float32"):
        write_idx(path, np.zeros(3, dtype))
    assert not path.exists()


def test_sizes_that_idx_does_not_have(path: Path) -> None:
    with pytest.raises(ValueError, match=r"shape \(0, 2147483648\)"):
        write_idx(path, np.empty((0, 2**31), np.uint8))
    assert not path.exists()


def test_writing_replaces_the_file_or_leaves_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(path, MATRIX[:1])
    write_idx(path, MATRIX)
    assert path.read_bytes() == PLAIN

    def stop(self: Path, content: bytes) -> None:
        with self.open("wb") as handle:
            handle.write(content[:3])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            write_idx(path, MATRIX[:1])
    assert path.read_bytes() == PLAIN
    assert list(path.parent.iterdir()) == [path]


def test_missing_file_and_folder(path: Path) -> None:
    assert "there is no file" in message_of(path)
    path.mkdir()
    assert "cannot be read" in message_of(path)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"", r"\(none\)"),
        (b"\0\0\x08", "00 00 08"),
        (b"GIF89a", "47 49 46 38"),
        (b"\0\1\x08\1\0\0\0\0", "00 01 08 01"),
        (b"\1\0\x08\1\0\0\0\0", "01 00 08 01"),
        (b"\0\0\x0a\1\0\0\0\0", "00 00 0a 01"),
        (b"\0\0\x0f\1\0\0\0\0", "00 00 0f 01"),
    ],
)
def test_bad_magic(path: Path, content: bytes, shown: str) -> None:
    for stored in (content, gzip.compress(content)):
        path.write_bytes(stored)
        with pytest.raises(ValueError, match=f"is no IDX file: it begins with the bytes {shown}, "):
            read_idx(path)
        message_of(path)


@pytest.mark.parametrize("length", range(4, len(PLAIN)))
def test_truncated(path: Path, length: int) -> None:
    path.write_bytes(PLAIN[:length])
    message = message_of(path)
    assert "is truncated" in message
    assert ("header of 2 axes takes 12 bytes" in message) == (length < 12)
    if length >= 12:
        assert f"shape (2, 3) of uint8 takes 6 bytes, {length - 12} follow" in message


def test_trailing_bytes(path: Path) -> None:
    path.write_bytes(PLAIN + b"\0")
    assert "has trailing bytes: shape (2, 3) of uint8 takes 6 bytes, 7 follow" in message_of(path)


def test_a_huge_announced_shape_is_not_allocated(path: Path) -> None:
    path.write_bytes(bytes([0, 0, 0x0E, 3]) + b"\xff" * 12 + bytes(8))
    assert "is truncated" in message_of(path)


@pytest.mark.parametrize("header", [[8, 65] + [0, 0, 0, 1] * 65, [8, 3] + [0] * 4 + [255] * 8])
def test_shapes_that_numpy_cannot_hold(path: Path, header: list[int]) -> None:
    path.write_bytes(bytes([0, 0, *header]) + b"\7" * (header[1] == 65))
    assert "has a shape that NumPy cannot hold" in message_of(path)


@pytest.mark.parametrize("damage", ["truncated", "stream", "checksum", "trailing"])
def test_damaged_gzip(path: Path, damage: str) -> None:
    packed = bytearray(gzip.compress(PLAIN))
    if damage == "truncated":
        del packed[-5:]
    elif damage == "stream":
        packed[10] = 0xFF  # no such kind of block
    elif damage == "checksum":
        packed[-8] ^= 1
    else:
        packed += b"more"
    path.write_bytes(packed)
    assert "is a damaged or truncated gzip file" in message_of(path)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), packed=st.booleans())
def test_damaged_bytes_give_a_value_error_or_an_array(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "mine.idx"
    content = bytearray(gzip.compress(PLAIN) if packed else PLAIN)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    message = ""
    try:
        array = read_idx(path)
    except ValueError as error:
        message = str(error)
    else:
        assert array.nbytes <= 6
    assert not message or "mine.idx" in message
    assert "\n" not in message
