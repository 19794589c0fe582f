"""Folders of images. Pixels are chosen by hand, so that what must come out is known."""

from __future__ import annotations

import os
import pickle
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from bbnn_uq.data import LazyInputs, image_folder, load_data

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


def save(path: Path, pixels: np.ndarray = GREY, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def message_of(folder: Path, **options: object) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        image_folder(folder, **{"split": "test", **options})
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


def only(folder: Path, **options: object) -> np.ndarray:
    """The one image in a folder, by both ways to read it."""
    data = image_folder(folder, **{"split": "test", **options})
    lazy = image_folder(folder, **{"split": "test", "in_memory": False, **options})
    assert isinstance(lazy.x, LazyInputs)
    assert lazy.x.shape == data.x.shape
    np.testing.assert_array_equal(lazy.x[:], data.x)
    assert len(data.x) == 1
    assert data.x.dtype == np.float32
    return data.x[0]


def test_classes_are_folders_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    for number, name in enumerate(["dog/b.png", "dog/a.PNG", "Cat/z.jpg", "cow/10.png"]):
        save(folder / name, np.full((4, 6), number, np.uint8))
    data = load_data(folder, split="test")
    assert data.class_names == ("Cat", "cow", "dog")
    assert data.y is not None
    assert (data.y.dtype, data.y.tolist(), data.num_classes) == (np.int64, [0, 1, 2, 2], 3)
    assert np.rint(data.x[:, 0, 0, 0] * 255).tolist() == [2, 3, 1, 0]
    assert (data.name, data.x.shape) == ("pets", (4, 1, 4, 6))
    assert data.x.flags.c_contiguous


def test_a_flat_folder_has_no_labels_and_leaves_out_what_is_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("2.png", "10.png", ".hidden.png", ".git/1.png"):
        save(tmp_path / name)
    for name in ("README.md", "Thumbs.db", "png", "notes/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    os.symlink(tmp_path / ".hidden.png", tmp_path / "3.png")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as special:  # as a pipe is, which would wait for a writer
        special.bind("4.png")
    data = image_folder(tmp_path, split="train")
    assert (data.y, data.num_classes, data.class_names) == (None, None, None)
    assert len(data.x) == 3
    assert load_data(".", split="test").name == tmp_path.name
    assert load_data(f"..{os.sep}{tmp_path.name}{os.sep}", split="test").name == tmp_path.name


def test_one_folder_alone_is_no_class(tmp_path: Path) -> None:
    save(tmp_path / "all" / "1.png")
    data = image_folder(tmp_path, split="test")
    assert (len(data.x), data.y, data.class_names) == (1, None, None)


def test_splits_share_their_classes(tmp_path: Path) -> None:
    for place, count in (("train/a", 3), ("train/c", 1), ("test/b", 2), ("test/c", 1)):
        for number in range(count):
            save(tmp_path / place / f"{number}.png")
    for split, labels in (("train", [0, 0, 0, 2]), ("test", [1, 1, 2])):
        data = image_folder(tmp_path, split=split)
        assert data.y is not None
        assert (data.y.tolist(), data.class_names) == (labels, ("a", "b", "c"))
        assert data.name == tmp_path.name


def test_folders_through_links(tmp_path: Path) -> None:
    save(tmp_path / "real" / "1.png")
    save(tmp_path / "set" / "a" / "1.png")
    os.symlink(tmp_path / "real", tmp_path / "set" / "b")
    os.symlink(tmp_path / "set", tmp_path / "set" / "a" / "round")  # a circle, not followed
    assert image_folder(tmp_path / "set", split="test").class_names == ("a", "b")


def test_bytes_are_divided_by_255_and_channels_come_first(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    save(tmp_path / "a.png", colour)
    expected = (colour / np.float32(255)).transpose(2, 0, 1)
    np.testing.assert_array_equal(only(tmp_path), expected)
    grey = only(tmp_path, input_shape=(1, 4, 6))[0]
    luma = colour @ np.array([0.299, 0.587, 0.114]) / 255  # ITU-R BT.601
    np.testing.assert_allclose(grey, luma, atol=0.6 / 255)


def test_grey_and_colour_together_become_colour(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", np.stack([GREY, GREY, 255 - GREY], axis=2))
    x = image_folder(tmp_path, split="test").x
    np.testing.assert_array_equal(x[0], np.stack([GREY / np.float32(255)] * 3))
    np.testing.assert_array_equal(x[1, 2], (255 - GREY) / np.float32(255))


def wide() -> Image.Image:
    return Image.fromarray((np.arange(24).reshape(4, 6) * 2700).astype(np.uint16))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_divided_by_65535(tmp_path: Path, name: str) -> None:
    wide().save(tmp_path / name)
    expected = (np.arange(24).reshape(1, 4, 6) * 2700) / np.float32(65535)
    np.testing.assert_allclose(only(tmp_path), expected, rtol=1e-6)
    colour = only(tmp_path, input_shape=(3, 4, 6))
    np.testing.assert_allclose(colour, np.repeat(expected, 3, 0), rtol=1e-6)
    half = only(tmp_path, input_shape=(1, 2, 3))
    assert half.mean() == pytest.approx(expected.mean(), rel=0.02)


def test_one_bit_and_palettes(tmp_path: Path) -> None:
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    np.testing.assert_array_equal(only(tmp_path)[0], GREY > 100)
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 51, 255])
    image.save(tmp_path / "a.png")
    assert only(tmp_path)[:, 0, 0].tolist() == [1.0, 0.0, 0.0]
    assert only(tmp_path)[:, 0, 1].tolist() == [0.0, np.float32(0.2), 1.0]


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)  # black
    pixels[0, :, 3] = [255, 0, 102]  # opaque, transparent, two fifths
    save(tmp_path / "a.png", pixels)
    np.testing.assert_allclose(only(tmp_path)[:, 0], [[0, 1, 0.6]] * 3, atol=1e-6)
    np.testing.assert_allclose(only(tmp_path, input_shape=(1, 1, 3))[0], [[0, 1, 0.6]], atol=1e-6)
    save(tmp_path / "a.png", pixels[..., 2:])
    np.testing.assert_allclose(only(tmp_path)[0], [[0, 1, 0.6]], atol=1e-6)
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([0, 0, 0, 0, 51, 255])
    image.save(tmp_path / "a.png", transparency=0)
    assert only(tmp_path)[:, 0, 0].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_images_are_turned_as_their_orientation_says(
    tmp_path: Path, name: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / name, np.stack([GREY] * 3, axis=2), exif=exif, lossless=True)
    # The standard's table: which side of the picture the first row and column are.
    upright = {
        1: GREY,
        2: GREY[:, ::-1],
        3: GREY[::-1, ::-1],
        4: GREY[::-1],
        5: GREY.T,
        6: GREY.T[:, ::-1],
        7: GREY.T[::-1, ::-1],
        8: GREY.T[::-1],
    }[orientation]
    np.testing.assert_array_equal(only(tmp_path)[1], upright / np.float32(255))


def test_resizing_averages_over_all_pixels(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 200
    save(tmp_path / "a.png", stripes)
    small = only(tmp_path, input_shape=(1, 8, 4))
    assert small.shape == (1, 8, 4)
    # Picking every eighth pixel would give 0 or 200 throughout.
    np.testing.assert_allclose(small, 100 / 255, atol=4 / 255)
    save(tmp_path / "b.png", np.full((9, 5, 3), 51, np.uint8))
    x = image_folder(tmp_path, split="test", input_shape=(3, 8, 4)).x
    np.testing.assert_array_equal(x[1], np.full((3, 8, 4), np.float32(0.2)))


def test_sizes_that_differ_need_an_input_shape(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", GREY.T.copy())
    message = message_of(tmp_path, in_memory=False)
    assert "b.png' has 6 × 4 pixels" in message
    assert (
        "a.png' has 4 × 6; scale them to one size, or give input_shape, such as (3, 4, 6)"
        in message
    )
    for shape in ((2, 4, 6), (4, 6), (24,)):
        assert "become (1, H, W) or (3, H, W)" in message_of(tmp_path, input_shape=shape)


def test_folders_without_images(tmp_path: Path) -> None:
    assert "there is no folder" in message_of(tmp_path / "nowhere")
    assert f"{str(tmp_path)!r} holds no images (.bmp" in message_of(tmp_path)
    save(tmp_path / "b" / "1.png")
    (tmp_path / "a").mkdir()
    assert "/a' holds no images" in message_of(tmp_path)
    save(tmp_path / "1.png")
    assert "has images of its own and in folders" in message_of(tmp_path)


def test_a_split_alone_is_no_class(tmp_path: Path) -> None:
    save(tmp_path / "test" / "a" / "1.png")
    assert "/test' holds no images" in message_of(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "foreign", "short", "gone"])
def test_damaged_images_are_named(tmp_path: Path, damage: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    save(tmp_path / "a.png", noise)
    path = tmp_path / "b.png"
    save(path, noise)
    if damage == "gone":
        path.unlink()
        os.symlink(tmp_path / "nowhere", path)
    else:
        content = {"empty": b"", "foreign": b"GIF", "short": path.read_bytes()[:1000]}[damage]
        path.write_bytes(content)
    assert "b.png' cannot be read as an image (" in message_of(tmp_path)
    lazy = image_folder(tmp_path, split="test", input_shape=(1, 40, 60), in_memory=False).x
    assert lazy[0].shape == (1, 40, 60)
    with pytest.raises(ValueError, match=r"b\.png' cannot be read as an image"):
        lazy[1]


def test_pictures_of_programs_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\nshowpage\n")
    assert "of another format than BMP" in message_of(tmp_path)


def test_pixels_of_unknown_range(tmp_path: Path) -> None:
    for values in (GREY.astype(np.float32), GREY.astype(np.int32)):
        Image.fromarray(values).save(tmp_path / "a.tif")
        assert "32 bits, whose range is not known" in message_of(tmp_path)


@pytest.mark.parametrize("side", [10_000, 30_000])  # Pillow warns of the first
def test_decompression_bombs(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    content = (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    (tmp_path / "a.png").write_bytes(content)
    assert "pixels, which may be an attack" in message_of(tmp_path)


def test_opening_reads_headers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    monkeypatch.setattr(Image.Image, "convert", lambda *_args: pytest.fail("decoded"))
    lazy = image_folder(tmp_path, split="test", in_memory=False).x
    assert lazy.shape == (2, 1, 4, 6)
    monkeypatch.undo()
    np.testing.assert_array_equal(lazy[-1][0], GREY / np.float32(255))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy))[:], lazy[0:2])


def test_an_image_that_changes_after_it_was_listed(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    lazy = image_folder(tmp_path, split="test", in_memory=False).x
    save(tmp_path / "a.png", GREY.T.copy())
    with pytest.raises(ValueError, match="do not change images while they are read"):
        lazy[0]


def test_jpeg_as_pillow_decodes_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
    save(tmp_path / "a.jpg", photo, exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.asarray(ImageOps.exif_transpose(image), np.float32) / np.float32(255)
    assert expected.shape == (24, 16, 3)
    np.testing.assert_array_equal(only(tmp_path), expected.transpose(2, 0, 1))
