"""IDX, the file format of MNIST and its kin: ``read_idx`` and ``write_idx``."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from bbnn_uq._files import atomic_path
from bbnn_uq.data.arrays import open_file, quoted

__all__ = ["decompress", "parse_idx", "read_idx", "write_idx"]

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_REMEDY = "fetch or write it again"


def read_idx(path: str | os.PathLike[str]) -> Shaped[np.ndarray, "..."]:
    """Read an array from an IDX file, gzipped or plain.

    A file is two zero bytes, a byte for the dtype (08 uint8, 09 int8, 0b int16, 0c int32,
    0d float32, 0e float64), a byte for the number of axes, their sizes as 4-byte integers, and the
    entries, the last axis changing fastest. All numbers are big-endian.

    Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, "File
    formats".

    Args:
        path: the file; its first bytes, not its name, tell whether it is gzipped.

    Returns:
        The array, in the dtype of the file and the byte order of this machine.

    Raises:
        ValueError: the file is missing, damaged, truncated, longer than its header says or no IDX
            file. The message names the file, the fault and the remedy.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
        >>> _ = path.write_bytes(bytes([0, 0, 0x08, 1, 0, 0, 0, 3, 7, 0, 2]))
        >>> read_idx(path)
        array([7, 0, 2], dtype=uint8)
    """
    with open_file(path) as handle:
        content = handle.read()
    return parse_idx(decompress(content, quoted(path)), quoted(path))


def write_idx(path: str | os.PathLike[str], array: Shaped[np.ndarray, "..."]) -> None:
    """Write an array as an IDX file, gzipped when the name ends in ``.gz``.

    The layout is that of :func:`read_idx`. The file is written beside its place and renamed, and
    equal arrays give equal files.

    Args:
        path: the file.
        array: of any shape; uint8, int8, int16, int32, float32 or float64, in any byte order.

    Raises:
        TypeError: IDX has no such dtype.
        ValueError: IDX has no such size, or the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "halves.gz"
        >>> write_idx(path, np.array([[0.5, 1.5]], np.float32))
        >>> read_idx(path)
        array([[0.5, 1.5]], dtype=float32)
    """
    dtype = array.dtype.newbyteorder(">")
    code = next((code for code, known in _DTYPES.items() if np.dtype(known) == dtype), None)
    if code is None:
        names = ", ".join(np.dtype(known).name for known in _DTYPES.values())
        raise TypeError(f"array has dtype {array.dtype}, IDX holds {names}; convert it first")
    if any(size >= 2**31 for size in array.shape):
        raise ValueError(f"array has shape {array.shape}; IDX sizes end below 2**31, so split it")
    header = struct.pack(f">BBBB{array.ndim}i", 0, 0, code, array.ndim, *array.shape)
    content = header + array.astype(dtype).tobytes()
    if Path(path).suffix.lower() == ".gz":
        content = gzip.compress(content, mtime=0)  # a time would make equal arrays unequal files
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def decompress(content: bytes, file: str) -> bytes:
    """``content`` itself, or what it holds when it is gzipped; ``file`` names it in errors."""
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        raise ValueError(f"{file} is a damaged or truncated gzip file; {_REMEDY}") from None


def parse_idx(content: bytes, file: str) -> Shaped[np.ndarray, "..."]:
    """The array in the bytes of a plain IDX file; ``file`` names them in errors."""
    magic = content[:4]
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise ValueError(
            f"{file} is no IDX file: it begins with the bytes {magic.hex(' ') or '(none)'}, wanted "
            "are 00 00, a dtype (08, 09 or 0b to 0e) and the number of axes; check the path"
        )
    dtype, rank = np.dtype(_DTYPES[magic[2]]), magic[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise ValueError(
            f"{file} is truncated: the header of {rank} axes takes {start} bytes, it has "
            f"{len(content)}; {_REMEDY}"
        )
    shape = struct.unpack_from(f">{rank}I", content, 4)
    wanted, found = math.prod(shape) * dtype.itemsize, len(content) - start
    if found != wanted:
        raise ValueError(
            f"{file} {'is truncated' if found < wanted else 'has trailing bytes'}: shape {shape} "
            f"of {dtype.name} takes {wanted} bytes, {found} follow the header; {_REMEDY}"
        )
    try:
        array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    except ValueError as error:  # more axes than NumPy has, or a size 0 beside enormous ones
        raise ValueError(f"{file} has a shape that NumPy cannot hold ({error})") from None
    return array.astype(dtype.newbyteorder("="))  # a copy: the bytes are read-only
