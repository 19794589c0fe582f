"""SVHN's files, written by SciPy: MATLAB version 5 as the published ones are."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from bbnn_uq.data import load_data, svhn

FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (32, 32, 3, count), np.uint8)


def message_of(folder: Path) -> str:
    """The error of the test split, which must fit one line and say where to get the file."""
    with pytest.raises(ValueError, match="from http://ufldl") as caught:
        svhn(folder, split="test")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_every_byte_has_its_place_and_ten_means_zero(tmp_path: Path, compressed: bool) -> None:
    x, y = images(11), np.array([[10], *([digit] for digit in range(1, 10)), [10]])
    savemat(tmp_path / FILES["test"], {"X": x, "y": y.astype(np.uint8)}, do_compression=compressed)
    data = svhn(str(tmp_path), split="test")
    assert data.x.shape == (11, 3, 32, 32)
    assert (data.x.dtype, data.x.flags.c_contiguous) == (np.float32, True)
    for image, channel, row, column in ((0, 0, 0, 0), (3, 1, 31, 0), (9, 2, 5, 30)):
        wanted = np.float32(x[row, column, channel, image]) / np.float32(255)
        assert data.x[image, channel, row, column] == wanted
    assert data.x.sum(dtype=float) == pytest.approx(x.sum(dtype=float) / 255, rel=1e-6)
    assert data.y is not None
    assert (data.y.dtype, data.y.tolist()) == (np.int64, [*range(10), 0])
    assert (data.name, data.num_classes) == ("svhn", 10)
    assert data.class_names == tuple("0123456789")


def test_splits_are_files_of_their_own_and_labels_may_be_floats(tmp_path: Path) -> None:
    for count, name in enumerate(FILES.values(), 2):
        savemat(tmp_path / name, {"X": images(count), "y": np.full((count, 1), 3.0), "z": "a"})
    sizes = [len(load_data(f"svhn:{tmp_path}", split=split).x) for split in FILES]
    assert sizes == [2, 3]
    with pytest.raises(ValueError, match="split must be one of train, test, got 'extra'"):
        svhn(tmp_path, split="extra")


def test_no_folder_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^there is no folder '.*nowhere'; check the path$"):
        svhn(tmp_path / "nowhere", split="test")
    assert f"{str(tmp_path)!r} lacks test_32x32.mat;" in message_of(tmp_path)
    (tmp_path / FILES["test"]).mkdir()
    with pytest.raises(ValueError, match=r"test_32x32\.mat' cannot be read"):
        svhn(tmp_path, split="test")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"X": images(2)}, "y is absent, wanted is a number for each image"),
        ({"y": [[1], [2]]}, r"X is absent, wanted is \(32, 32, 3, N\) of uint8"),
        ({"X": images(2) / 255, "y": [[1], [2]]}, r"X is \(32, 32, 3, 2\) of float64"),
        ({"X": images(2)[:28], "y": [[1], [2]]}, r"X is \(28, 32, 3, 2\) of uint8"),
        ({"X": images(2)[..., 0], "y": [[1]]}, r"X is \(32, 32, 3\) of uint8"),
        ({"X": np.empty((32, 32, 3, 0), np.uint8), "y": []}, "X is "),
        ({"X": images(2), "y": [[1], [2], [3]]}, r"y is \(3, 1\) of int64"),
        ({"X": images(2), "y": ["one", "two"]}, "y is .* of <U3"),
        ({"X": images(2), "y": {"a": 1}}, "y is "),
        ({"X": images(3), "y": [[10], [0], [11]]}, "image 1 has the label 0, wanted is a digit"),
        ({"X": images(2), "y": [[1], [11]]}, "image 1 has the label 11"),
        ({"X": images(2), "y": [[1.5], [2]]}, "image 0 has the label 1.5"),
        ({"X": images(1), "y": [[np.nan]]}, "image 0 has the label nan"),
    ],
)
def test_foreign_content(tmp_path: Path, content: dict, part: str) -> None:
    savemat(tmp_path / FILES["test"], content)
    assert "test_32x32.mat' is damaged or no file of svhn" in message_of(tmp_path)
    with pytest.raises(ValueError, match=part):
        svhn(tmp_path, split="test")


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / FILES["test"]
    savemat(path, {"X": images(4), "y": np.ones((4, 1))}, do_compression=True)
    whole = path.read_bytes()
    savemat(path, {"X": np.ones(3)}, format="4")
    contents = [path.read_bytes(), b"", b"\x80\x04}.", b"MATLAB 7.3 MAT-file" + bytes(600)]
    for content in (*contents, whole[:60], whole[:200], whole[:-40]):
        path.write_bytes(content)
        assert "is damaged or no file of svhn" in message_of(tmp_path)


def test_bytes_that_are_changed_give_data_or_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / FILES["test"]
    savemat(path, {"X": images(1), "y": np.ones((1, 1))}, do_compression=True)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(100):
        content = bytearray(whole)
        for place in generator.integers(len(whole), size=3):
            content[place] = generator.integers(256)
        path.write_bytes(content)
        with suppress(ValueError):
            assert svhn(tmp_path, split="test").input_shape == (3, 32, 32)
