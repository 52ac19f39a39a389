"""The verb that turns recorded data into hits, and what it tells of them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from muscan import io
from muscan.errors import InputError
from muscan.io import drivers
from muscan.model.detector import Detector, load_detector
from muscan.model.events import Hits, Run, join_hits
from muscan.pipeline.common import PathLike, Progress

#: Hits that an interrupted import may lose at most: what it keeps is whole blocks of these.
RESUME_ROWS: Final = 65_536


def import_hits(
    files: PathLike | Sequence[PathLike],
    *,
    driver: str = "csv",
    detector: PathLike | Detector | None = None,
    mapping: PathLike | None = None,
    live_time: float | None = None,
    output: PathLike | None = None,
    resume: bool = False,
    summarise: Callable[[Mapping[str, Any]], object] | None = None,
    progress: Progress | None = None,
) -> Hits | Path:
    """Turn recorded data of a panel driver into hits.

    Parameters
    ----------
    files : path or sequence of path
        What the driver reads, in order.
    driver : str
        Name of a driver, such as ``"csv"``.
    detector : str, Path or Detector, optional
        The layout; some drivers can infer one and say so.
    mapping : path, optional
        Mapping file (TOML) for drivers that take one.
    live_time : float, optional
        Live time [s]; from the time stamps unless given, else unknown.
    output : path, optional
        Hit file to write.
    resume : bool
        Keep what is whole in ``output`` + ``.unfinished`` if the import is interrupted, and go on
        from there if it is called again; the data are read from their start, to compare.
    summarise : callable, optional
        Is given what `survey` returns, for drivers that can tell more of the data than hits.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    Hits or Path

    Warns
    -----
    UserWarning
        With what the driver assumed, such as an inferred layout.

    Raises
    ------
    InputError
        If a file or option is wrong, if no hits are left, or if an import is to be resumed that
        was of other data.
    """
    if live_time is not None and not 0 < live_time < np.inf:
        raise InputError("--live-time", f"{live_time} s is not a time", "give a positive number")
    if resume and output is None:
        raise InputError("resume", "there is no file to resume", "give an output")
    paths = _paths(files)
    if output is not None:
        io.spare(Path(output), *paths, detector, mapping)
    source = _open_source(paths, driver, detector, mapping, progress)
    chunks = _nonempty(source, paths)
    if output is None:
        result: Hits | Path = replace(
            join_hits(list(chunks)), run=_with_live_time(source.run, live_time)
        )
    elif resume:
        result = Path(output)
        _import_on(result, source, chunks, live_time)
    else:
        result = Path(output)
        with io.HitsWriter(result, source.detector) as writer:
            for hits in chunks:
                writer.append(hits)
            writer.run = _with_live_time(source.run, live_time)
    for note in source.notes:
        warnings.warn(note, stacklevel=2)
    if summarise is not None and isinstance(source, drivers.Surveyed):
        summarise(source.survey())
    return result


def survey(
    files: PathLike | Sequence[PathLike],
    *,
    driver: str = "csv",
    detector: PathLike | Detector | None = None,
    mapping: PathLike | None = None,
    progress: Progress | None = None,
) -> Mapping[str, Any]:
    """Read recorded data as `import_hits` does, and tell of them without keeping hits.

    Parameters
    ----------
    files, driver, detector, mapping, progress
        As for `import_hits`.

    Returns
    -------
    dict of str to str, number, list or dict
        What the driver tells, such as occupancies and hot channels; for drivers that tell nothing
        of their own the layout, the live time and what was read, kept and dropped, by reason.

    Warns
    -----
    UserWarning
        With what the driver assumed, and what it would need to make hits.

    Raises
    ------
    InputError
        If a file or option is wrong.
    """
    source = _open_source(_paths(files), driver, detector, mapping, progress)
    facts: Mapping[str, Any]
    if isinstance(source, drivers.Surveyed):
        facts = source.survey()
    else:
        for _ in source.chunks():
            pass
        run, layout = source.run, source.detector
        facts = {
            "detector": f"{layout.name}, {len(layout.panels)} panels",
            "live time [s]": run.live_time_s if np.isfinite(run.live_time_s) else None,
            "counts": dict(run.counts),
        }
    for note in source.notes:
        warnings.warn(note, stacklevel=2)
    return facts


def _paths(files: PathLike | Sequence[PathLike]) -> list[Path]:
    return [Path(files)] if isinstance(files, (str, Path)) else [Path(file) for file in files]


def _open_source(
    paths: Sequence[Path],
    driver: str,
    detector: PathLike | Detector | None,
    mapping: PathLike | None,
    progress: Progress | None,
) -> drivers.HitSource:
    return drivers.open_source(
        driver,
        paths,
        detector=None if detector is None else load_detector(detector),
        mapping=None if mapping is None else Path(mapping),
        progress=progress,
    )


def _import_on(
    output: Path, source: drivers.HitSource, chunks: Iterator[Hits], live_time: float | None
) -> None:
    """Write hits behind those of an interrupted import, and give the file its name at the end."""
    part = output.with_name(output.name + ".unfinished")
    last = _last_hits(part)
    with io.LiveHitsWriter(
        part, source.detector, source.run, block_rows=RESUME_ROWS, resume=True
    ) as writer:
        there, passed = writer.rows, 0
        for hits in chunks:
            if hits.momenta is not None:
                raise InputError(
                    part, "a file to resume cannot hold measured momenta", "import it in one go"
                )
            known = min(max(there - passed, 0), len(hits))
            if last is not None and 0 < known == there - passed:
                _require_same(hits.take(slice(0, known)), last, part)
            passed += len(hits)
            if known < len(hits):
                writer.append(hits.take(slice(known, None)))
        if passed < there:
            _refuse_other(part)
        writer.run = _with_live_time(source.run, live_time)
    os.replace(part, output)


def _last_hits(part: Path) -> Hits | None:
    """Return the last hits of an interrupted import, None where there is none."""
    if not part.exists():
        return None
    last = None
    with warnings.catch_warnings():
        # That it is unfinished is why it is read.
        warnings.simplefilter("ignore")
        try:
            for hits in io.iter_hits(part):
                last = hits
        except InputError:
            if last is not None:
                raise
    return last


def _require_same(hits: Hits, last: Hits, part: Path) -> None:
    """Compare the last hits that are there with those of the data."""
    n = min(len(hits), len(last))
    for name in ("event_id", "panel", "u", "v"):
        one, other = getattr(hits, name)[-n:], getattr(last, name)[-n:]
        if not np.array_equal(one, other, equal_nan=name in "uv"):
            _refuse_other(part)


def _refuse_other(part: Path) -> None:
    raise InputError(part, "is an interrupted import of other data", "remove it to start anew")


def _nonempty(source: drivers.HitSource, paths: Sequence[Path]) -> Iterator[Hits]:
    rows = 0
    for hits in source.chunks():
        rows += len(hits)
        yield hits
    if rows == 0:
        counts = ", ".join(f"{name} {count}" for name, count in source.run.counts.items() if count)
        raise InputError(
            ", ".join(map(str, paths)),
            f"no hits are left after reading ({counts or 'there are none'})",
            "check the layout, and that the data are in its units",
        )


def _with_live_time(run: Run, live_time: float | None) -> Run:
    return run if live_time is None else replace(run, live_time_s=live_time)
