"""What a run leaves behind when it is stopped, and how it is found again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bbnn_uq._files import atomic_path
from bbnn_uq.cli.app import Interrupted
from bbnn_uq.npz_file import PROGRESS

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None

__all__ = ["HINT", "STATE", "run_state"]

STATE = ".run"
HINT = "what was done is kept; add --resume to the same command to go on from there"


@contextmanager
def run_state(folder: Path, configuration: dict[str, Any], *, resume: bool) -> Iterator[Path]:
    """A folder for the parts of a run, which outlives the block only when the run was stopped.

    It is removed when the block ends, when not even one part was finished, and when the block
    raises ValueError or TypeError in a new run: then the input was at fault. A fault of the
    machine, such as a full disk, leaves it.

    Args:
        folder: of the run's results.
        configuration: JSON values, everything that decides the numbers.
        resume: whether to go on with a run that was stopped, if there is one.

    Raises:
        ValueError: there is a stopped run and ``resume`` is not set, or it is of another
            configuration, damaged, or still at work.
    """
    state = folder / STATE
    manifest = state / "run.json"
    with _locked(folder, state):
        found = manifest.exists()
        if found and not resume:
            raise ValueError(
                f"{str(folder)!r} holds a run that was stopped; add --resume to continue it, "
                f"delete {str(state)!r} to start over, or choose another --out"
            )
        if found:
            _check_same(_read(manifest), configuration, state)
        try:
            if not found:
                with atomic_path(manifest) as temporary:
                    temporary.write_text(json.dumps(configuration, indent=2), encoding="utf-8")
            yield state
        except (ValueError, TypeError) as error:
            if not found or not _has_parts(state):
                shutil.rmtree(state, ignore_errors=True)
            else:
                error.add_note(f"the run in {str(state)!r} is kept")
            raise
        except BaseException as error:
            if not _has_parts(state):
                shutil.rmtree(state, ignore_errors=True)
                raise
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(HINT) from None
            error.add_note(HINT)
            raise
        shutil.rmtree(state, ignore_errors=True)


@contextmanager
def _locked(folder: Path, state: Path) -> Iterator[None]:
    """Two processes that add to the same files would leave nonsense, so the second gives up.

    The folder itself is locked: what is in it comes and goes.

    Raises:
        ValueError: another process has the lock.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another process works in {str(state)!r}; wait for it, or choose another --out"
                ) from None
        yield
    finally:
        os.close(handle)


def _has_parts(state: Path) -> bool:
    return any(state.rglob(PROGRESS))


def _read(manifest: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        values = json.loads(manifest.read_text(encoding="utf-8"))
        if isinstance(values, dict):
            return values
    raise ValueError(f"{str(manifest)!r} is damaged; delete {str(manifest.parent)!r} to start over")


def _check_same(before: dict[str, Any], now: dict[str, Any], state: Path) -> None:
    different = [
        f"{key} was {_shown(before.get(key))}, and is {_shown(now.get(key))}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]
    if different:
        raise ValueError(
            f"the run that was stopped in {str(state.parent)!r} is another one: "
            f"{'; '.join(different)}; give the same options, delete {str(state)!r} to start over, "
            "or choose another --out"
        )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
