"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muscan.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written to, or the disk is full.
    """
    if not path.parent.is_dir():
        raise InputError(path, f"the folder {path.parent} does not exist", "create it first")
    if path.is_dir():
        raise InputError(path, "is a folder", "give the name of a file")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise InputError(
            path, f"cannot be written ({reason})", "check the folder's rights and the free space"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Remove what killed processes left in a folder to which no other writes."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def copy_file(source: Path, path: Path) -> None:
    """Copy a file whole or not at all; nothing where both are the same file."""
    if path.exists() and path.samefile(source):
        return
    with whole_file(path) as part:
        shutil.copyfile(source, part)
