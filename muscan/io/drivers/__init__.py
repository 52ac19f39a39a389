"""Drivers: recorded data of panels to hits.

A driver is a callable that takes files and returns a `HitSource`. Ours are in `BUILTIN`; third
parties add theirs through the entry-point group ``muscan.drivers``::

    [project.entry-points."muscan.drivers"]
    acme = "muscan_acme:read_acme"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from muscan import plugins
from muscan.errors import InputError
from muscan.model.detector import Detector
from muscan.model.events import Hits, Run

#: Entry-point group of third-party drivers.
GROUP: Final = "muscan.drivers"
#: Our own drivers by name.
BUILTIN: Final[Mapping[str, str]] = {
    "csv": "muscan.io.drivers.csv:read_csv",
    "root": "muscan.io.drivers.root:read_root",
    "strips": "muscan.io.drivers.strips:read_strips",
    "v1190": "muscan.io.drivers.v1190:read_v1190",
}

#: Called with ``"import"`` and the fraction of the input that has been read, 0 to 1.
Progress = Callable[[str, float], None]


@runtime_checkable
class HitSource(Protocol):
    """What a driver returns: hits to be read once, in constant memory."""

    @property
    def detector(self) -> Detector:
        """The layout, given or inferred; known before any hit is read."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know, one sentence each: assumptions made, columns ignored."""

    @property
    def run(self) -> Run:
        """The run; live time and counts (read, kept, dropped by reason) are final at the end."""

    def chunks(self) -> Iterator[Hits]:
        """Yield the hits in chunks of bounded size.

        Events are never parted, their ids increase over all chunks, and a chunk may be empty.
        """


@runtime_checkable
class Surveyed(Protocol):
    """A source that can also tell what its data look like, as raw channels do."""

    def survey(self) -> Mapping[str, Any]:
        """Return facts to print: names, numbers, texts, and mappings of these.

        Of what was read so far; where nothing has been read yet, all data are read first. Must
        work without a layout and a mapping if the driver takes none to decode its files.
        """


class Driver(Protocol):
    """A panel driver.

    Reading starts no code that a data file names, and raises `muscan.errors.InputError` with the
    file and the line, entry or byte at fault.
    """

    def __call__(
        self,
        files: Sequence[Path],
        *,
        detector: Detector | None = None,
        mapping: Path | None = None,
        progress: Progress | None = None,
    ) -> HitSource:
        """Open files that are consecutive parts of one run.

        Parameters
        ----------
        files : sequence of Path
            In the order of recording.
        detector : Detector, optional
            The layout; a driver that cannot do without raises InputError.
        mapping : Path, optional
            A file (TOML) that tells what is where in the data.
        progress : callable, optional
            See `Progress`.
        """


def open_source(
    name: str,
    files: Sequence[Path],
    *,
    detector: Detector | None = None,
    mapping: Path | None = None,
    progress: Progress | None = None,
) -> HitSource:
    """Open files with the driver of a name; the parameters are those of `Driver`.

    Raises
    ------
    InputError
        If there is no such driver or file, or if the files are wrong.
    """
    driver: Driver = plugins.load(GROUP, BUILTIN, name)
    if not files:
        raise InputError(name, "no file to read")
    for path in files:
        if not path.is_file():
            problem = "is a folder" if path.is_dir() else "no such file"
            raise InputError(path, problem, "give the data files")
    return driver(files, detector=detector, mapping=mapping, progress=progress)
