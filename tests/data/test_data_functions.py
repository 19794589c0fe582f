"""package.module:function as a data set, from a package in the current folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bbnn_uq.data import LazyInputs, load_data, set_name

SETS = """
import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset, TensorDataset

from bbnn_uq.data import ArrayData, LazyInputs

X = np.arange(12.0).reshape(6, 2)
Y = [2, 0, 1, 1, 0, 0]
asked = []

def array(): return X
def rows(): return X.tolist()
def tensor(): return torch.tensor(X, requires_grad=True)
def frame(): return pd.DataFrame(X)
def dataset(): return Items(X)
def lazy(): return LazyInputs((6, 2), lambda rows: X[rows.start : rows.stop].astype(np.float32))
def mapped():
    np.save("x.npy", X)
    return np.load("x.npy", mmap_mode="r")
def store(): return Store(X)

def labelled(): return X, Y
def tensors(): return torch.tensor(X), torch.tensor(Y)
def series(): return pd.DataFrame(X), pd.Series(Y)
def pairs(): return TensorDataset(torch.tensor(X), torch.tensor(Y))
def whole(): return ArrayData("other", X.astype(np.float32), np.array(Y), 4, tuple("abcd"))

def by_split(split): return X[:2] if split == "train" else X[2:]
def options(split, input_shape=None, value_range=None, depth=3):
    asked.append((split, input_shape, value_range, depth))
    return X
late = X

class Items(Dataset):
    def __init__(self, x): self.x = x
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return self.x[i]

class Store:
    "As an array of HDF5: it has a shape and rows, and becomes an array as a whole."
    def __init__(self, x): self.x, self.shape, self.dtype = x, x.shape, x.dtype
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return self.x[i]
    def __array__(self, dtype=None, copy=None):
        asked.append("whole")
        return self.x

class Broken(Items):
    def __getitem__(self, i):
        if i == 4: raise RuntimeError("two\\nlines")
        return self.x[i]

class Ragged(Items):
    def __getitem__(self, i): return self.x[i][: 1 + (i < 3)]

def broken(): return Broken(X)
def ragged(): return Ragged(X)
def nothing(): pass
def number(): return 3
def mapping(): return {"x": X}
def text(): return "digits"
def stream(): return iter(X)
def triple(): return X, Y, Y
def empty(): return Items(X[:0])
def no_rows(): return X[:0]
def short(): return X, Y[:-1]
def halves(): return X, [0.5] * 6
def infinite(): return X + np.inf
def words(): return np.array([["a"]])
def fails(): raise RuntimeError("two\\nlines")
def leaves(): raise SystemExit(3)
def demanding(depth): return X
def few(): return ArrayData("few", X, np.array(Y), 2)
"""
X = np.arange(12.0).reshape(6, 2)


@pytest.fixture(autouse=True)
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "lab_data"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sets.py").write_text(SETS)
    (package / "wrong.py").write_text("def f(:")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield
    assert sys.path == before
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab_data"]:
        del sys.modules[name]


def asked() -> list:
    return sys.modules["lab_data.sets"].asked


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    "name", ["array", "rows", "tensor", "frame", "dataset", "lazy", "mapped", "store"]
)
def test_inputs_of_all_kinds(name: str, in_memory: bool) -> None:
    data = load_data(f"lab_data.sets:{name}", split="test", in_memory=in_memory)
    assert data.name == set_name(f"lab_data.sets:{name}") == name
    assert (data.x.shape, data.y, data.num_classes) == ((6, 2), None, None)
    lazy = not in_memory and name in ("dataset", "lazy", "mapped", "store")
    assert isinstance(data.x, LazyInputs if lazy else np.ndarray)
    for where in (slice(None), slice(1, 5, 2), 4):
        np.testing.assert_array_equal(data.x[where], X[where])
        assert data.x[where].dtype == np.float32
    assert asked() == (["whole"] if name == "store" and in_memory else [])


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("name", ["labelled", "tensors", "series", "pairs", "whole"])
def test_labels_in_all_forms(name: str, in_memory: bool) -> None:
    data = load_data(f"lab_data.sets:{name}", split="train", in_memory=in_memory)
    np.testing.assert_array_equal(data.x[:], X)
    assert data.y is not None
    assert (data.y.dtype, data.y.tolist()) == (np.int64, [2, 0, 1, 1, 0, 0])
    whole = name == "whole"
    assert data.num_classes == (4 if whole else 3)
    assert data.class_names == (tuple("abcd") if whole else None)
    assert data.name == name


def test_the_function_gets_what_it_takes() -> None:
    for split, rows in (("train", X[:2]), ("test", X[2:])):
        data = load_data("lab_data.sets:by_split", split=split)
        np.testing.assert_array_equal(data.x, rows)
    load_data("lab_data.sets:options", split="test")
    load_data("lab_data.sets:options", split="train", input_shape=[2], value_range=(0, 2))
    assert asked() == [("test", None, None, 3), ("train", (2,), (0.0, 2.0), 3)]
    with pytest.raises(ValueError, match=r"options has inputs of shape \(2,\), .* \(3,\); reshape"):
        load_data("lab_data.sets:options", split="test", input_shape=(3,))


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("lab_data.sets:absent", "has no attribute 'absent'"),
        ("lab_data.absent:array", "No module named 'lab_data.absent'"),
        ("lab_data.wrong:f", "SyntaxError"),
        ("lab_data.sets:late", "not a callable object"),
        ("lab_data.sets:fails", r"\(RuntimeError: two lines\); it must be package.module:function"),
        ("lab_data.sets:leaves", "SystemExit: 3"),
        ("lab_data.sets:demanding", "missing 1 required positional argument: 'depth'"),
        ("lab_data.sets:nothing", "returns a NoneType; return inputs"),
        ("lab_data.sets:number", "returns a int; return inputs"),
        ("lab_data.sets:mapping", "returns a dict; return inputs"),
        ("lab_data.sets:text", "returns a str; return inputs"),
        ("lab_data.sets:stream", "returns a iterator; return inputs"),
        ("lab_data.sets:triple", "returns a tuple; return inputs"),
        ("lab_data.sets:empty", "are empty; return at least one input"),
        ("lab_data.sets:no_rows", r"x in .*no_rows is empty \(shape \(0, 2\)\)"),
        ("lab_data.sets:short", r"y in .*short has shape \(5,\); give it as \(6,\)"),
        ("lab_data.sets:halves", "y in .*halves has dtype float64 and no integer"),
        ("lab_data.sets:infinite", "x in .*infinite has 12 NaN or infinite"),
        ("lab_data.sets:words", "x in .*words has dtype <U1; give real numbers"),
        ("lab_data.sets:broken", r"\(RuntimeError: two lines\)"),
        ("lab_data.sets:ragged", r"inputs of shapes \(2,\) and \(1,\)"),
        ("lab_data.sets:few", "y in .*few goes up to 2, and there are 2 classes"),
        ("cifar10:data", r"No module named 'cifar10'.*\(or is it cifar-10:FOLDER\?\)"),
    ],
)
def test_what_is_no_data_is_one_line(spec: str, part: str) -> None:
    with pytest.raises(ValueError, match=part) as caught:
        load_data(spec, split="test")
    assert spec in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["broken", "ragged"])
def test_faults_of_single_inputs_are_found_when_they_are_read(name: str) -> None:
    lazy = load_data(f"lab_data.sets:{name}", split="test", in_memory=False).x
    np.testing.assert_array_equal(lazy[:3], X[:3])
    with pytest.raises(ValueError, match=f"lab_data.sets:{name}"):
        lazy[2:5]
