"""Inputs that stay on disk: the same values, bit for bit, as in memory."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from bbnn_uq import BernoulliPosterior, predict
from bbnn_uq.data import ArrayData, LazyInputs, load_data


def squares(count: int = 7) -> LazyInputs:
    return LazyInputs((count, 2), lambda rows: np.array([[i * i, i] for i in rows], np.float32))


def test_lazy_inputs_are_indexed_as_arrays_are() -> None:
    lazy = squares()
    array = np.array([[i * i, i] for i in range(7)], np.float32)
    assert (len(lazy), lazy.shape, lazy.dtype, repr(lazy)) == (
        7,
        (7, 2),
        np.float32,
        "LazyInputs(7, 2)",
    )
    for index in (0, 6, -1, -7, np.int64(3), torch.tensor(2)):
        np.testing.assert_array_equal(lazy[index], array[int(index)])
    for start in (None, 0, 2, -3, 9):
        for stop in (None, 0, 5, -1, 99):
            for step in (None, 1, 3, -1, -2):
                where = slice(start, stop, step)
                np.testing.assert_array_equal(lazy[where], array[where])
                assert lazy[where].dtype == np.float32
    assert [item[1] for item in lazy] == list(range(7))
    (batch,) = DataLoader(lazy, 7)
    np.testing.assert_array_equal(batch, array)
    for index in (7, -8):
        with pytest.raises(IndexError, match=f"index {index} is out of range for 7 inputs"):
            lazy[index]
    for index in ("a", [1, 2], 1.0):
        with pytest.raises(TypeError, match=r"x\[:\] reads all"):
            lazy[index]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", ">f4", "float64", "float16", "uint8", ">i2", "bool"])
def test_mapped_files_hold_what_is_read_from_them(tmp_path: Path, dtype: str, order: str) -> None:
    path = tmp_path / "mine.npz"
    values = np.random.default_rng(0).uniform(0, 255, (300, 3, 2)) * (dtype != "bool") + 0.0
    np.savez(path, other=np.ones(5), x=np.asarray(values.astype(dtype), order=order), y=range(300))
    whole = load_data(path, split="test")
    mapped = load_data(path, split="test", in_memory=False)
    plain = (dtype, order) == ("float32", "C")
    assert isinstance(mapped.x, np.memmap if plain else LazyInputs)
    assert (len(mapped.x), mapped.x.shape, mapped.input_shape) == (300, (300, 3, 2), (3, 2))
    for where in (slice(None), slice(250, 400), slice(None, None, -7), 5, -1):
        np.testing.assert_array_equal(mapped.x[where], whole.x[where])
        assert mapped.x[where].dtype == np.float32
        assert plain or mapped.x[where].flags.writeable
    np.testing.assert_array_equal(mapped.y, whole.y)
    assert type(mapped.y) is np.ndarray
    assert (mapped.num_classes, mapped.name) == (300, "mine")
    assert mapped.fingerprint() == whole.fingerprint()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mapped.x))[3:9], whole.x[3:9])


def test_compressed_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, x=np.arange(6).reshape(3, 2))
    data = load_data(path, split="test", in_memory=False)
    assert type(data.x) is np.ndarray
    assert data.x.tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_values_are_checked_when_they_are_read(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "mine.npz"
    x = np.ones((100, 3))
    x[70] = bad
    np.savez(path, x=x)
    lazy = load_data(path, split="test", in_memory=False).x
    assert lazy[:70].sum() == 210
    with pytest.raises(ValueError, match=r"mine.npz', from input 60 to 79, has 3 .*; re") as caught:
        lazy[60:80]
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"mine\.npz' has 3 "):
        load_data(path, split="test")


def test_faults_of_files_are_those_of_reading_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    for arrays in (
        {"z": np.ones(2)},
        {"x": np.ones(4)},
        {"x": np.ones((0, 3))},
        {"x": np.ones((2, 3)), "y": [0, -1]},
        {"x": np.array([["a"]])},
        {"x": np.array([[{}]], dtype=object)},
    ):
        np.savez(path, **arrays)
        messages = []
        for in_memory in (True, False):
            with pytest.raises(ValueError, match=r"mine\.npz") as caught:
                load_data(path, split="test", in_memory=in_memory)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_a_map_does_not_go_on_into_the_next_array(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.zeros((20, 30), np.float32), z=np.ones(50_000))
    with zipfile.ZipFile(path) as archive:
        short = archive.read("x.npy")[:-400]
        other = archive.read("z.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", short)
        archive.writestr("z.npy", other)
    with pytest.raises(ValueError, match=r"x in '.*mine\.npz' is damaged"):
        load_data(path, split="test", in_memory=False)


def test_class_names_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    x = np.ones((3, 2))
    np.savez(path, x=x, y=[0, 1, 1], class_names=["cat", "dog", "cow"])
    for in_memory in (True, False):
        data = load_data(path, split="test", in_memory=in_memory)
        assert (data.class_names, data.num_classes) == (("cat", "dog", "cow"), 3)
    np.savez(path, x=x, class_names=["cat", "dog"])
    assert load_data(path, split="test").class_names is None
    for y, names, part in (
        ([0, 2, 1], ["cat", "dog"], "y in .* goes up to 2, and there are 2 classes"),
        ([0, 1, 1], [0, 1], "class_names in .* dtype int64; give a string for each class"),
        ([0, 1, 1], [["cat", "dog"]], r"class_names in .* has shape \(1, 2\)"),
        ([0, 0, 0], ["cat"], r"class_names in .* has shape \(1,\)"),
    ):
        np.savez(path, x=x, y=y, class_names=names)
        with pytest.raises(ValueError, match=part):
            load_data(path, split="test")
    np.savez(path, x=x, y=[0, 1, 1], class_names=np.array(["cat", "dog"], object))
    with pytest.raises(ValueError, match=r"class_names in .* holds Python objects"):
        load_data(path, split="test")


def test_a_name_for_each_class() -> None:
    with pytest.raises(ValueError, match="class_names of a holds 1 names for 2 classes"):
        ArrayData("a", np.ones((2, 3), np.float32), np.array([0, 1]), 2, ("cat",))


def test_fingerprint_sees_values_order_and_shape() -> None:
    x = np.random.default_rng(0).random((1000, 4), np.float32)

    def of(inputs: object) -> str:
        return ArrayData("a", inputs, None, None).fingerprint()

    prints = [of(x), of(x[::-1]), of(x[:999]), of(x.reshape(1000, 2, 2)), of(x + 1)]
    last = x.copy()
    last[-1, 0] += 1
    assert len({*prints, of(last)}) == 6
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in prints)
    assert of(x.astype(">f4")) == of(x.astype(np.float64)) == of(np.asfortranarray(x)) == of(x)
    assert of(LazyInputs(x.shape, lambda rows: x[rows.start : rows.stop])) == of(x)
    assert of(x[:1]) != of(x[:2])


def test_fingerprint_reads_64_inputs_at_most() -> None:
    seen = []

    def read(rows: range) -> np.ndarray:
        seen.extend(rows)
        return np.zeros((len(rows), 2), np.float32)

    ArrayData("a", LazyInputs((10_000, 2), read), None, None).fingerprint()
    assert (len(seen), seen[0], seen[-1]) == (64, 0, 9999)
    assert len(set(np.diff(seen))) <= 2  # evenly spaced
    seen.clear()
    ArrayData("a", LazyInputs((63, 2), read), None, None).fingerprint()
    assert seen == list(range(63))


@pytest.mark.parametrize("dtype", ["float32", "uint8", ">f8"])
def test_predictions_are_those_of_inputs_in_memory(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.random.default_rng(0).uniform(0, 200, (50, 3)).astype(dtype))
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    normalisation = {"mean": [100.0, 90.0, 80.0], "std": [60.0, 50.0, 40.0]}
    posterior = BernoulliPosterior(
        {"0.weight": torch.full((2, 3), 0.1)}, {}, {"normalisation": normalisation}
    )
    whole, mapped = (
        predict(model, posterior, load_data(path, split="test", in_memory=way).x, num_samples=3)
        for way in (True, False)
    )
    np.testing.assert_array_equal(whole.probs, mapped.probs)
