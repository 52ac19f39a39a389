"""Text files, plain or compressed with gzip, as blocks of whole lines."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from muscan.errors import InputError

#: Text read at a time [bytes].
BLOCK: Final = 1 << 22
#: A longer line is taken for a sign that the file is no text [bytes].
MAX_LINE: Final = 1 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"


def text_blocks(path: Path, advance: Callable[[float], None] | None = None) -> Iterator[bytes]:
    """Yield a file's text in blocks that end with a line feed.

    Parameters
    ----------
    path : Path
        Of the file; whether it is compressed is told by its first bytes, not its name.
    advance : callable, optional
        Called with the fraction of the file that has been read.

    Raises
    ------
    InputError
        If the file cannot be read, is cut off, or has a line of more than `MAX_LINE` bytes.
    """
    rest = b""
    number = 0
    try:
        size = max(path.stat().st_size, 1)
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP_MAGIC
            stream: io.BufferedIOBase | gzip.GzipFile = (
                gzip.GzipFile(fileobj=raw) if packed else raw
            )
            while data := stream.read(BLOCK):
                cut = data.rfind(b"\n") + 1
                if len(rest) + (cut or len(data)) > MAX_LINE and b"\n" not in data[:MAX_LINE]:
                    raise InputError(path, f"line {number + 1} is endless", "give a text file")
                if cut:
                    number += data.count(b"\n")
                    yield rest + data[:cut]
                    rest = data[cut:]
                else:
                    rest += data
                if advance is not None:
                    advance(raw.tell() / size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            path, f"the compressed data are cut off or damaged after line {number}", "copy it again"
        ) from error
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})") from error
    if rest.strip():
        yield rest + b"\n"
