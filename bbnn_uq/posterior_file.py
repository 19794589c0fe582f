"""The safetensors file of a posterior or of a mixture: tensors by section, and a JSON header.

A posterior's tensors are ``SECTION/NAME``; those of member k of a mixture ``k/SECTION/NAME``. The
header, under ``bbnn_uq`` in the file's metadata, holds the format version, the kind, and what each
member says about itself.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bbnn_uq._files import atomic_path

__all__ = ["FORMAT_VERSION", "Member", "PosteriorFormatError", "read_members", "write_members"]

FORMAT_VERSION = 1
KINDS = ("posterior", "mixture")
_HEADER = "bbnn_uq"


class PosteriorFormatError(ValueError):
    """A file is not a posterior that this version can read; the message says which and why."""


@dataclass
class Member:
    """One posterior as it stands in a file: section → name → tensor, and JSON values."""

    sections: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def write_members(path: str | os.PathLike[str], kind: str, members: list[Member]) -> None:
    """Write a posterior (one member) or a mixture, whole or not at all."""
    tensors = {}
    for number, member in enumerate(members):
        prefix = f"{number}/" if kind == "mixture" else ""
        for section, named in member.sections.items():
            # Copies, since a member may be in a mixture twice and the format shares no memory.
            tensors |= {f"{prefix}{section}/{name}": t.clone() for name, t in named.items()}
    header = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "members": [member.about for member in members],
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: json.dumps(header)})


def read_members(path: str | os.PathLike[str]) -> tuple[str, list[Member]]:
    """Read what :func:`write_members` wrote: the kind and the members.

    Raises:
        FileNotFoundError: there is no such file.
        PosteriorFormatError: it is truncated, foreign, or of a newer format version.
    """
    name = os.fspath(path)
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"posterior file {name!r} does not exist; `bbnn-uq train` or posterior.save writes one"
        )
    try:
        with safe_open(path, framework="pt") as file:
            kind, abouts = _header(name, (file.metadata() or {}).get(_HEADER))
            # A file of safetensors is no mapping: it has keys() and cannot be iterated over.
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise PosteriorFormatError(
            f"{name!r} is not a readable safetensors file, it may be truncated: {error}"
        ) from None
    members = [Member({}, about) for about in abouts]
    for key, value in tensors.items():
        number, rest = key.split("/", 1) if kind == "mixture" else ("0", key)
        section, _, parameter = rest.partition("/")
        if not number.isdecimal() or int(number) >= len(members):
            raise PosteriorFormatError(f"{name!r} holds a tensor {key!r} of no member")
        members[int(number)].sections.setdefault(section, {})[parameter] = value
    return kind, members


def _header(name: str, text: str | None) -> tuple[str, list[dict[str, Any]]]:
    if text is None:
        raise PosteriorFormatError(
            f"{name!r} is a safetensors file but no bbnn-uq posterior: it lacks the "
            f"{_HEADER!r} header"
        )
    try:
        header = json.loads(text)
        version = header["format_version"]
    except (ValueError, KeyError, TypeError):
        raise PosteriorFormatError(f"{name!r} has a damaged {_HEADER!r} header") from None
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise PosteriorFormatError(
            f"{name!r} has format version {version!r}, and this bbnn-uq reads up to "
            f"{FORMAT_VERSION}; upgrade bbnn-uq"
        )
    kind, members = header.get("kind"), header.get("members")
    if kind not in KINDS:
        raise PosteriorFormatError(f"{name!r} holds a {kind!r}, not a posterior")
    if not isinstance(members, list) or not members or (kind == "posterior" and len(members) > 1):
        raise PosteriorFormatError(f"{name!r} has a damaged {_HEADER!r} header")
    return kind, members
