"""Images in a folder, flat or with a folder for each class: ``image_folder``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from bbnn_uq.data.arrays import ArrayData, quoted

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["image_folder"]

_SUFFIXES = (
    ".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
    ".webp",
)  # fmt: skip
# Pillow would else try all it knows, and for some of those run other programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})


def image_folder(
    folder: str | os.PathLike[str],
    *,
    split: str,
    input_shape: tuple[int, ...] | None = None,
    in_memory: bool = True,
) -> ArrayData:
    """Images in a folder: those in each of its folders are a class, or all are without labels.

    With ``FOLDER/train`` and ``FOLDER/test`` both there, the split says which of them is read;
    otherwise the folder is used whole. Classes are numbered in the order of their names, which
    both splits share; images come in the order of their names. Read are BMP, GIF, JPEG,
    PBM/PGM/PPM, PNG, TIFF and WebP files by their endings, links to them included; hidden files
    and folders, files of other kinds and folders further down are left out.

    An image is turned as its EXIF orientation says; transparent parts are laid on white; of
    several frames the first is taken. Bytes are divided by 255, 16-bit grey by 65535. Colours
    become grey by the luma 0.299 R + 0.587 G + 0.114 B.

    Args:
        folder: the folder.
        split: ``"train"`` or ``"test"``.
        input_shape: (C, H, W) that images are brought to, with C = 1 for grey and 3 for red, green
            and blue; without regard to their aspect ratio, by Pillow's bilinear filter, which
            averages over all pixels that fall into one (antialiased). None for their own size,
            which must be the same for all, and grey if all of them are.
        in_memory: whether to decode all images now. Otherwise each is decoded when it is indexed.

    Returns:
        Images of shape (N, C, H, W) in [0, 1], named after the folder, with the names of the
        classes.

    Raises:
        ValueError: there is no such folder, or none with images; images differ in size; a file is
            no image, damaged, or of more pixels than Pillow decodes without a warning. For images
            that are decoded later the same error comes then.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp(), "pets")
        >>> for kind, grey in (("cat", 0), ("dog", 255)):
        ...     (folder / kind).mkdir(parents=True)
        ...     Image.new("L", (6, 4), grey).save(folder / kind / "1.png")
        >>> data = image_folder(folder, split="test")
        >>> data.x.shape, data.x.mean(axis=(1, 2, 3)).tolist(), data.class_names
        ((2, 1, 4, 6), [0.0, 1.0], ('cat', 'dog'))
    """
    files, labels, class_names = _listed(folder, split)
    shape = _check_shape(input_shape) if input_shape is not None else _common_shape(files)
    read = partial(_decoded, files, shape, input_shape is not None)
    if in_memory:
        x = read(range(len(files)))
    else:
        from bbnn_uq.data.lazy import LazyInputs  # late: it loads torch

        x = LazyInputs((len(files), *shape), read)
    y = None if labels is None else np.array(labels, np.int64)
    name = os.path.basename(os.path.abspath(folder))
    num_classes = None if class_names is None else len(class_names)
    return ArrayData(name, x, y, num_classes, class_names)


def _listed(
    folder: str | os.PathLike[str], split: str
) -> tuple[list[str], list[int] | None, tuple[str, ...] | None]:
    """Paths of the images in their order, their labels, and the names of the classes."""
    whole = os.fspath(folder)
    parts = [os.path.join(whole, part) for part in ("train", "test")]
    if all(map(os.path.isdir, parts)):
        place = os.path.join(whole, split)
    else:
        parts, place = [whole], whole
    images, folders = _entries(place)
    held = {name: _entries(os.path.join(place, name))[0] for name in folders}
    if images and any(held.values()):
        raise ValueError(
            f"{quoted(place)} has images of its own and in folders; put all of them into folders, "
            "one for each class, or none"
        )
    if images:
        return images, None, None
    empty = [name for name in folders if not held[name]]
    if empty or not folders:
        raise ValueError(
            f"{quoted(os.path.join(place, *empty[:1]))} holds no images "
            f"({', '.join(_SUFFIXES)}); name a folder of images, or one whose folders, or those of "
            "its train and test folders, are the classes"
        )
    names = sorted({name for part in parts for name in _entries(part)[1]})
    files = [path for name in folders for path in held[name]]
    if len(names) == 1:
        return files, None, None
    return files, [names.index(name) for name in folders for _ in held[name]], tuple(names)


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """Paths of the images and names of the folders in a folder, each in their order."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted((e for e in scan if not e.name.startswith(".")), key=lambda e: e.name)
    except FileNotFoundError:
        raise ValueError(f"there is no folder {quoted(folder)}; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{quoted(folder)} cannot be read ({reason}); check the path") from None
    images = [
        entry.path
        for entry in entries
        # A link that leads nowhere is kept, so that opening it says so.
        if not entry.is_dir() and (entry.is_file() or entry.is_symlink())
        if entry.name.lower().endswith(_SUFFIXES)
    ]
    return images, [entry.name for entry in entries if entry.is_dir()]


def _check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f"images in a folder become (1, H, W) or (3, H, W), got input_shape {shape}; "
            "use a model for such inputs"
        )
    return shape


def _common_shape(files: list[str]) -> tuple[int, int, int]:
    """The shape of all images, by their headers alone."""
    sizes: set[tuple[int, int]] = set()
    grey = True
    for path in files:
        with _opened(path) as image:
            size = _upright_size(image)
            grey = grey and image.mode in _GREY_MODES
        if sizes and size not in sizes:
            ((height, width),) = sizes
            raise ValueError(
                f"{quoted(path)} has {size[0]} × {size[1]} pixels and {quoted(files[0])} has "
                f"{height} × {width}; scale them to one size, or give input_shape, such as "
                f"(3, {height}, {width}), to have it done"
            )
        sizes.add(size)
    return 1 if grey else 3, *sizes.pop()


def _decoded(
    files: list[str], shape: tuple[int, ...], resize: bool, rows: range
) -> Float32[np.ndarray, "rows channels height width"]:
    x = np.empty((len(rows), *shape), np.float32)
    for place, row in enumerate(rows):
        with _opened(files[row]) as image:
            pixels = _pixels(image, shape, resize)
        if pixels.shape != shape:
            raise ValueError(
                f"{quoted(files[row])} gives {pixels.shape}, where its header and all other "
                f"images said {shape}; do not change images while they are read"
            )
        x[place] = pixels
    return x


def _pixels(image: Image, shape: tuple[int, ...], resize: bool) -> np.ndarray:
    """An opened image as floats (C, H, W) in [0, 1]."""
    from PIL import Image, ImageOps

    mode, form = image.mode, image.format
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if mode == "F" or (mode == "I" and form not in ("PNG", "PPM")):
        raise ValueError("its pixels have 32 bits, whose range is not known")
    largest = 255.0
    if mode.startswith("I"):
        largest = 65535.0
        image = Image.fromarray(np.asarray(image, np.float32))
    else:
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        image = image.convert("L" if shape[0] == 1 else "RGB")
    if resize:
        image = image.resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32) / np.float32(largest)
    return (
        np.broadcast_to(pixels, (shape[0], *pixels.shape))
        if pixels.ndim == 2
        else pixels.transpose(2, 0, 1)
    )


def _upright_size(image: Image) -> tuple[int, int]:
    """Height and width of an image once it is turned as its EXIF orientation says."""
    sideways = _orientation(image) > 4
    if sideways and image.format == "TIFF":  # Pillow turns these itself, some versions when read
        image.load()
        sideways = False
    width, height = image.size
    return (width, height) if sideways else (height, width)


def _orientation(image: Image) -> int:
    """EXIF orientation from 1 (upright) to 8."""
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode it to look on
        return 1
    orientation = image.getexif().get(0x0112)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


@contextmanager
def _opened(path: str) -> Iterator[Image]:
    """An image whose header was read; whatever goes wrong with it in the block is named."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                yield image
    except UnidentifiedImageError:
        reason = "it is damaged or of another format than " + ", ".join(_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        reason = f"it has more than {Image.MAX_IMAGE_PIXELS} pixels, which may be an attack"
    except Exception as error:  # foreign bytes can provoke any error
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = " ".join(text.split())
    else:
        return
    message = f"{quoted(path)} cannot be read as an image ({reason}); replace or delete it"
    raise ValueError(message) from None
