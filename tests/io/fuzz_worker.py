"""Reads files that may be damaged, in a process of its own; see test_fuzz_readers.py.

Each line on stdin is a JSON list of a kind and a path; each is answered by a line: ``read``,
``refused: …``, or what must not be: ``memory: …``, ``failed: …``. The kind ``limit`` allows no more
memory than the process has then and `ROOM` more.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import traceback
import warnings
from pathlib import Path

from muscan import io
from muscan.errors import InputError
from muscan.io import audit
from muscan.io.drivers import open_source
from muscan.io.outbox import Outbox
from muscan.model.detector import load_detector
from muscan.model.material import check_materials
from muscan.model.scene import load_scene
from muscan.pipeline import track
from muscan.pipeline.sightings import Sightings

ROOM = 1_000_000_000
LAYOUT = "blocks-lab"


def drive(driver: str, path: Path, detector=LAYOUT, mapping: bool = False) -> None:
    """Read a driver's data with what stands beside them."""
    beside = path.parent
    layout = beside / "layout.toml"
    data = path
    if path.name == "mapping.toml":
        (data,) = (p for p in beside.iterdir() if p.suffix in (".csv", ".root"))
    source = open_source(
        driver,
        [data],
        detector=load_detector(layout) if layout.exists() else detector and load_detector(detector),
        mapping=beside / "mapping.toml" if mapping else None,
    )
    for _ in source.chunks():
        pass
    _ = source.run, source.notes, source.detector


def hits(path: Path) -> None:
    with contextlib.suppress(InputError):
        io.recover(path, path.with_name("recovered.h5"))
    io.describe(path)
    found = io.read_hits(path)
    track(found, workers=1)


def live(path: Path) -> None:
    """Read an unfinished file as who follows it, and as who finds it."""
    follower = io.HitsFollower(path)
    for _ in range(2):
        for _ in follower.poll():
            pass
    hits(path)


def journal(path: Path) -> None:
    io.recover(path.with_suffix(""), path.with_name("recovered.h5"))


def outbox(path: Path) -> None:
    box = Outbox(path)
    box.put("another", b"{}", ["stdout"])
    box.deliver({"stdout": lambda event_id, body: None}, now=True)
    box.unsent(), box.bodies(), box.errors()


def tracks(path: Path) -> None:
    io.describe(path)
    io.read_tracks(path)


READERS = {
    "hits": hits,
    "hits unfinished": live,
    "journal": journal,
    "audit": audit.verify,
    "outbox": outbox,
    "watch state": lambda path: Sightings(path.parent, Path("/hits.h5")),
    "tracks": tracks,
    "volume": io.describe,
    "materials": io.describe,
    "alerts": io.describe,
    "csv": lambda path: drive("csv", path),
    "csv inferred": lambda path: drive("csv", path, None),
    "csv gzip": lambda path: drive("csv", path),
    "csv wide": lambda path: drive("csv", path, mapping=True),
    "csv mapping": lambda path: drive("csv", path, mapping=True),
    "root": lambda path: drive("root", path, mapping=True),
    "root mapping": lambda path: drive("root", path, mapping=True),
    "root flat": lambda path: drive("root", path),
    "v1190": lambda path: drive("v1190", path, mapping=True),
    "v1190 mapping": lambda path: drive("v1190", path, mapping=True),
    "strips": lambda path: drive("strips", path, mapping=True),
    "strips mapping": lambda path: drive("strips", path, mapping=True),
    "layout": load_detector,
    "scene": load_scene,
    "material": check_materials,
}


def attempt(kind: str, path: Path) -> str:
    """Read a file, and tell what came of it."""
    try:
        READERS[kind](path)
    except InputError as error:
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(seen, MemoryError):
                return f"memory: {error}"
            seen = seen.__cause__ or seen.__context__
        line = str(error)
        return f"refused: {line}" if "\n" not in line else f"failed: two lines: {line!r}"
    except MemoryError as error:
        return f"memory: {error} {traceback.format_exc(limit=-3)!r}"
    except Exception as error:
        return f"failed: {type(error).__name__}: {error} {traceback.format_exc(limit=-4)!r}"
    return "read"


def limit_memory() -> str:
    """Allow no more than `ROOM` beyond what the process has now."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    return "limited"


def main() -> None:
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        kind, path = json.loads(line)
        answer = limit_memory() if kind == "limit" else attempt(kind, Path(path))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
