from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bbnn_uq.data import fashion_mnist as module
from bbnn_uq.data import load_data

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
IMAGES = {"train": "train-images-idx3-ubyte.gz", "test": "t10k-images-idx3-ubyte.gz"}
LABELS = {"train": "train-labels-idx1-ubyte.gz", "test": "t10k-labels-idx1-ubyte.gz"}
needs_data = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="needs the Debian package dataset-fashion-mnist"
)


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of bytes, written by hand."""
    header = bytes([0, 0, 8, array.ndim])
    return header + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


class World:
    """A server, a Debian folder and a cache, all in a temporary folder, for a tiny data set."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.server, self.debian, self.home = root / "server", root / "debian", root / "home"
        self.cache = self.home / ".cache" / "bbnn-uq" / "fashion-mnist"
        self.server.mkdir()
        self.home.mkdir()
        self.arrays: dict[str, np.ndarray] = {}
        table = {}
        for number, (split, size) in enumerate({"train": 7, "test": 5}.items()):
            generator = np.random.default_rng(number)
            self.arrays[IMAGES[split]] = generator.integers(0, 256, (size, 28, 28), np.uint8)
            self.arrays[LABELS[split]] = generator.integers(0, 10, size, np.uint8)
            names = (IMAGES[split], LABELS[split])
            sums = [hashlib.sha256(idx_bytes(self.arrays[name])).hexdigest() for name in names]
            table[split] = tuple(map(module._File, names, sums))
        self.fill(self.server)
        patch.setattr(module, "_FILES", table)
        patch.setattr(module, "_URL", f"{self.server.as_uri()}/")
        patch.setattr(module, "_DEBIAN_FOLDER", self.debian)
        patch.setenv("HOME", str(self.home))
        patch.delenv("XDG_CACHE_HOME", raising=False)

    def fill(self, folder: Path, level: int = 9) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in self.arrays.items():
            (folder / name).write_bytes(gzip.compress(idx_bytes(array), level))

    def check(self, split: str) -> None:
        data = load_data("fashion-mnist", split=split)
        np.testing.assert_array_equal(np.rint(data.x[:, 0] * 255), self.arrays[IMAGES[split]])
        np.testing.assert_array_equal(data.y, self.arrays[LABELS[split]])

    def message(self, split: str = "test", input_shape: tuple[int, ...] | None = None) -> str:
        with pytest.raises(ValueError, match=r"^fashion-mnist") as caught:
            load_data("fashion-mnist", split=split, input_shape=input_shape)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_is_downloaded_once(world: World, split: str) -> None:
    world.check(split)
    names = {IMAGES[split], LABELS[split]}  # only what is needed, and no temporary file
    assert names_in(world.cache) == names
    for name in names:
        assert (world.cache / name).read_bytes() == (world.server / name).read_bytes()
    shutil.rmtree(world.server)
    world.check(split)


def test_the_debian_package_needs_no_download(world: World) -> None:
    world.fill(world.debian, level=1)  # other compressed bytes, the same content
    shutil.rmtree(world.server)
    world.check("train")
    world.check("test")
    assert names_in(world.home) == set()


def test_files_that_the_user_put_into_the_cache(world: World) -> None:
    world.fill(world.cache, level=1)
    shutil.rmtree(world.server)
    world.check("test")


@pytest.mark.parametrize(
    ("value", "place"),
    [("{root}/mine", "mine"), ("", "home/.cache"), ("relative", "home/.cache")],
)
def test_cache_folder(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", value.format(root=tmp_path))
    world.check("test")
    assert names_in(tmp_path / place / "bbnn-uq" / "fashion-mnist") == {
        IMAGES["test"],
        LABELS["test"],
    }
    assert not Path("relative").exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign", "other content"])
def test_a_damaged_copy_is_downloaded_again(world: World, damage: str) -> None:
    world.check("test")
    file = world.cache / IMAGES["test"]
    whole = file.read_bytes()
    file.write_bytes(
        {
            "truncated": whole[:-3],
            "empty": b"",
            "foreign": b"<html>",
            "other content": gzip.compress(gzip.decompress(whole)[:-1] + b"\0"),
        }[damage]
    )
    hidden = world.server.rename(world.server.with_name("hidden"))
    message = world.message()
    assert f"{str(file)!r} is damaged" in message
    hidden.rename(world.server)
    world.check("test")
    assert file.read_bytes() == whole


def test_its_shape_is_fixed(world: World) -> None:
    message = world.message("test", input_shape=(1, 8, 8))
    assert "has inputs of shape (1, 28, 28), wanted is input_shape (1, 8, 8); use noise" in message


def test_a_damaged_debian_file_is_passed_over(world: World) -> None:
    world.fill(world.debian)
    (world.debian / IMAGES["test"]).write_bytes(b"damaged")
    world.check("test")
    assert names_in(world.cache) == {IMAGES["test"]}
    assert (world.debian / IMAGES["test"]).read_bytes() == b"damaged"


def test_without_a_network_the_error_names_both_remedies(world: World) -> None:
    shutil.rmtree(world.server)
    message = world.message("train")
    assert f"{IMAGES['train']} is not on this machine" in message
    assert f"download fails ({world.server.as_uri()}/{IMAGES['train']} gives" in message
    assert "install the Debian package dataset-fashion-mnist" in message
    remedy = "put the four *-ubyte.gz files of github.com/zalandoresearch/fashion-mnist into"
    assert f"{remedy} {str(world.cache)!r}" in message


def test_a_wrong_download_is_not_kept(world: World) -> None:
    for content in (b"<html>", gzip.compress(b"other"), b"\x1f\x8b cut"):
        (world.server / IMAGES["test"]).write_bytes(content)
        message = world.message()
        assert f"{world.server.as_uri()}/{IMAGES['test']} is damaged" in message
        assert names_in(world.cache) == set()


def test_a_cache_that_cannot_be_made(world: World) -> None:
    (world.home / ".cache").write_text("a file in the way")
    message = world.message()
    assert "cannot create the folder" in message
    assert "install the Debian package" in message


def test_ctrl_c_in_a_download_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop:
        def __init__(self, *_: object, **__: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "progress_bar", Stop)
    with pytest.raises(KeyboardInterrupt):
        load_data("fashion-mnist", split="test")
    assert names_in(world.cache) == set()


def test_progress_counts_every_byte(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: dict[str, tuple[int, int]] = {}
    original = module.progress_bar

    class Counting:
        def __init__(self, label: str, total: int, *, enabled: bool) -> None:
            assert enabled
            self.label, self.total, self.done = label, total, 0
            self.bar = original(label, total, enabled=enabled)

        def __enter__(self):
            advance = self.bar.__enter__()

            def count(steps: int, note: str) -> None:
                self.done += steps
                advance(steps, note)

            return count

        def __exit__(self, *error: object) -> None:
            counted[self.label] = (self.done, self.total)
            self.bar.__exit__(*error)

    monkeypatch.setattr(module, "progress_bar", Counting)
    monkeypatch.setattr(module, "_CHUNK", 100)
    world.check("test")
    sizes = [os.path.getsize(world.server / name) for name in (IMAGES["test"], LABELS["test"])]
    assert counted == {
        "t10k-images, bytes": (sizes[0], sizes[0]),
        "t10k-labels, bytes": (sizes[1], sizes[1]),
    }


@needs_data
@pytest.mark.parametrize(("split", "size"), [("train", 60_000), ("test", 10_000)])
def test_the_real_data(
    split: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "_URL", tmp_path.as_uri())
    data = load_data("fashion-mnist", split=split, input_shape=(1, 28, 28))
    assert data.name == "fashion-mnist"
    assert data.x.shape == (size, 1, 28, 28)
    assert data.x.dtype == np.float32
    assert data.x.flags.c_contiguous
    assert data.x.flags.writeable
    assert data.num_classes == 10
    assert data.y is not None
    assert data.y.dtype == np.int64
    assert np.bincount(data.y).tolist() == [size // 10] * 10
    assert data.class_names is not None
    # Trousers, sandals and sneakers leave most of the picture black, unlike pullovers.
    fill = {name: (data.x[data.y == k] > 0).mean() for k, name in enumerate(data.class_names)}
    order = sorted(fill, key=lambda name: fill[name])
    assert set(order[:3]) == {"Trouser", "Sandal", "Sneaker"}
    assert order[-1] == "Pullover"
    # The files read without our reader: headers of 16 and 8 bytes, then the bytes themselves.
    pixels = np.frombuffer(gzip.decompress((DEBIAN / IMAGES[split]).read_bytes())[16:], np.uint8)
    labels = np.frombuffer(gzip.decompress((DEBIAN / LABELS[split]).read_bytes())[8:], np.uint8)
    levels = np.linspace(0, 1, 256).astype(np.float32)
    np.testing.assert_array_equal(data.x.ravel(), levels[pixels])
    np.testing.assert_array_equal(data.y, labels)
    assert list(tmp_path.iterdir()) == []


@needs_data
@pytest.mark.parametrize(
    ("name", "mtime", "md5"),
    [
        (IMAGES["test"], 1504176627, "bef4ecab320f06d8554ea6380940ec79"),
        (LABELS["test"], 1504176627, "bb300cfdad3c16e7a12a480ee83cd310"),
        (IMAGES["train"], 1504176606, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        (LABELS["train"], 1504176606, "25c81989df183df01b3e8a0aad5dffbe"),
    ],
)
def test_the_sums_are_those_of_the_published_files(name: str, mtime: int, md5: str) -> None:
    # Debian took name and time out of the gzip headers. With them back, the files have the MD5
    # sums that Fashion-MNIST's README gives, and their content has the SHA-256 sums pinned here.
    debian = (DEBIAN / name).read_bytes()
    header = b"\x1f\x8b\x08\x08" + mtime.to_bytes(4, "little") + debian[8:10]
    published = header + name.removesuffix(".gz").encode() + b"\0" + debian[10:]
    assert hashlib.md5(published, usedforsecurity=False).hexdigest() == md5
    pinned = {file.name: file.sha256 for files in module._FILES.values() for file in files}
    assert hashlib.sha256(gzip.decompress(published)).hexdigest() == pinned[name]
