"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from muscan.errors import InputError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written to, or the disk is full.
    """
    path = Path(path)
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


@contextmanager
def result_folder(path: Path) -> Iterator[Path]:
    """Yield a folder for results, made if missing; a new one goes again where nothing came into it.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(path, f"cannot be made ({error.strerror})", "choose another") from error
    try:
        yield path
    finally:
        if new:
            with suppress(OSError):  # what is not empty stays
                path.rmdir()


def spare(path: Path, *sources: object) -> None:
    """Refuse to write to ``path`` where it is one of the files that are read.

    Parameters
    ----------
    path : Path
        Of what is to be written.
    *sources : object
        Paths (or names) of what is read; anything else is no file.

    Raises
    ------
    InputError
        If it would be lost.
    """
    for source in sources:
        read = Path(source) if isinstance(source, (str, Path)) else None
        if read is not None and path.exists() and read.exists() and path.samefile(read):
            raise InputError(path, "is what is read, and would be lost", "write to another file")


def remove_parts(folder: Path) -> None:
    """Remove what killed processes left in a folder to which no other writes."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def copy_file(source: Path, path: Path) -> None:
    """Copy a file whole or not at all; nothing where both are the same file."""
    if path.exists() and path.samefile(source):
        return
    with whole_file(path) as part:
        shutil.copyfile(source, part)
