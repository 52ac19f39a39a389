"""A study: many scans of random scenes, a folder of their records, tables and figures of them."""

from __future__ import annotations

import csv
import io as text_io
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from muscan import io, resources
from muscan.errors import InputError, MissingExtraError, nearest
from muscan.model.detector import load_detector
from muscan.model.material import load_materials
from muscan.pipeline.campaign import CampaignResult, run_campaign
from muscan.pipeline.common import PathLike, Progress
from muscan.studies.kinds import KINDS, Tables
from muscan.studies.matching import scans
from muscan.studies.operating import write_operating_points
from muscan.studies.scan import study_scan
from muscan.studies.scenes import study_scene

if TYPE_CHECKING:
    from distributed import Client

#: Folder of the records in a study's folder.
SCANS_FOLDER = "scans"
#: Kinds whose scans are drawn alike, so that in one folder they share them.
_SAME_SCANS = {"roc": "search", "time": "search", "weight": "search"}
_DEFAULT_SCENES = {"confusion": ("materials",)}
_DEFAULT_EXPOSURES = {"confusion": (300.0,)}
#: Scans of each kind of load: benign ones, and ones with a threat.
_LOADS: Mapping[str, tuple[bool, ...]] = {"confusion": (True,), "calibrate": (False,)}


@dataclass(frozen=True)
class Study:
    """What a study gave.

    Attributes
    ----------
    kind : str
    folder : Path
        Where its files are.
    tables : mapping of str to list of dict
        Its tables by name, each a list of rows; also written as CSV.
    files : list of Path
        Tables and figures that were written.
    n_scans, n_run, n_failed : int
        Scans in all, of these simulated now, and failed.
    seconds_per_scan : float
        Processor time of a scan, all exposures together [s].
    errors : list of str
        The errors of failed scans.
    """

    kind: str
    folder: Path
    tables: Tables
    files: list[Path]
    n_scans: int
    n_run: int
    n_failed: int
    seconds_per_scan: float
    errors: list[str] = field(default_factory=list)


def study(
    kind: str,
    *,
    output: PathLike,
    scenes: Sequence[str] | None = None,
    scans: int = 20,
    exposures: Sequence[float] | None = None,
    seed: int = 0,
    method: str = "em",
    voxel: float = 50.0,
    detector: PathLike | None = None,
    threat: str | None = None,
    workers: int | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> Study:
    """Make a study over random scenes, exposures and seeds, or go on with it.

    Parameters
    ----------
    kind : {"roc", "time", "weight", "confusion", "calibrate"}
        Detection against false alarms; detection and clearing against exposure; masses over the
        truth; what materials are taken for; the highest significance in benign scans.
    output : path
        Folder for the records, tables (CSV) and figures. What is there already is not made
        again; ``roc``, ``time`` and ``weight`` share their scans.
    scenes : sequence of str, optional
        Templates, scenes, ``uniform-DENSITY`` or ``materials`` (see `study_scene`); by default
        all templates of container loads, and ``materials`` for ``confusion``.
    scans : int
        Scans of each scene: so many without and so many with a threat.
    exposures : sequence of float, optional
        Exposures [s]; a longer one of a scan contains the shorter. By default 30, 60, 90 and
        120 s, for ``confusion`` 300 s.
    seed : int
        Same seed, same scans; different kinds of study do not share their scenes, but for those
        named above.
    method, voxel, detector
        As in `muscan.reconstruct` and `muscan.simulate`.
    threat : str, optional
        Name of the threat to hide; by default one of the template's is drawn.
    workers : int, optional
        Processes, of one thread each; one a processor unless given.
    client : distributed.Client, optional
        A Dask cluster that does the scans instead.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    Study

    Raises
    ------
    InputError
        If an option is wrong, or if every scan failed.
    """
    if kind not in KINDS:
        raise InputError("study", f"no such study '{kind}'", nearest(kind, KINDS))
    jobs = plan(
        kind,
        scenes=scenes,
        scans=scans,
        exposures=exposures,
        seed=seed,
        method=method,
        voxel=voxel,
        detector=detector,
        threat=threat,
    )
    folder = Path(output)
    made = run_campaign(
        study_scan,
        jobs,
        folder / SCANS_FOLDER,
        workers=workers,
        client=client,
        step=f"study {kind}",
        progress=progress,
    )
    return _written(kind, folder, jobs, made)


def plan(
    kind: str,
    *,
    scenes: Sequence[str] | None = None,
    scans: int = 20,
    exposures: Sequence[float] | None = None,
    seed: int = 0,
    method: str = "em",
    voxel: float = 50.0,
    detector: PathLike | None = None,
    threat: str | None = None,
) -> list[dict[str, Any]]:
    """Return the parameters of every scan of a study; options as in `study`.

    Raises
    ------
    InputError
        If an option is wrong; every scene is drawn once to see that it can be.
    """
    if scans < 1:
        raise InputError("--scans", f"{scans} is not a number of scans", "give 1 or more")
    if seed < 0:
        raise InputError("--seed", f"{seed} is negative", "give 0 or more")
    wanted_times = _DEFAULT_EXPOSURES.get(kind, _SEARCH) if exposures is None else exposures
    times = sorted({float(time) for time in wanted_times})
    if not times or not all(0 < time < math.inf for time in times):
        raise InputError("--exposures", f"{times} are not times", "give seconds, such as 30,60")
    _check_method(method, voxel)
    common: dict[str, Any] = {
        "exposures": times,
        "method": method,
        "voxel": float(voxel),
        "detector": _checked_detector(detector),
        "weigh": kind == "weight",
        "data": _data_version(),
    }
    jobs = []
    for name in scenes or _DEFAULT_SCENES.get(kind) or container_templates():
        wanted = threat or True
        loads = [wanted if load else False for load in _LOADS.get(kind, (False, True))]
        source = _described(name, seed, loads)
        for number in range(scans):
            drawn = _scene_seed(kind, name, seed, number)
            jobs += [
                {"scene": name, "source": source, "threat": load, "seed": drawn, **common}
                for load in loads
            ]
    return jobs


_SEARCH = (30.0, 60.0, 90.0, 120.0)
#: Of the form of a scan's record: folders with others make their scans anew.
_RECORD_VERSION = 2


def container_templates() -> tuple[str, ...]:
    """Return the names of the templates that are made for the container portal."""
    from muscan.model.draw import draw_scene, template_names

    return tuple(
        name for name in template_names() if draw_scene(name, 0).detector == "container-portal"
    )


def _check_method(method: str, voxel: float) -> None:
    from muscan.reconstruction import methods

    if method not in methods():
        raise InputError("--method", f"no such method '{method}'", nearest(method, methods()))
    if not 0 < voxel < math.inf:
        raise InputError("--voxel", f"{voxel} mm is not a size", "give a positive number")


def _checked_detector(detector: PathLike | None) -> str:
    if detector is None:
        return ""
    load_detector(detector)
    return str(detector)


def _data_version() -> str:
    """Return a short hash of what a scan's result depends on besides its parameters."""
    layouts = "".join(
        path.read_text(encoding="utf-8")
        for kind in ("detectors/scanners", "detectors/panels")
        for path in resources.names(kind).values()
    )
    return f"{_RECORD_VERSION}-{load_materials().version}-{zlib.crc32(layouts.encode()):08x}"


def _described(name: str, seed: int, loads: Sequence[bool | str]) -> str:
    """Draw a scene once, and return a short hash that tells when its template has changed."""
    drawn = [study_scene(name, seed, load) for load in loads]
    return f"{zlib.crc32(''.join(scene.text for scene in drawn).encode()):08x}"


def _scene_seed(kind: str, scene: str, seed: int, number: int) -> int:
    """Return the seed of a scan: calibration never sees the loads that it will be judged on."""
    words = [seed, number, *f"{_SAME_SCANS.get(kind, kind)}/{scene}".encode()]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def _written(
    kind: str, folder: Path, jobs: Sequence[Mapping[str, Any]], made: CampaignResult
) -> Study:
    """Make the tables and figures, and write them."""
    found = scans(jobs, made.records)
    tables = KINDS[kind](found)
    files = []
    if kind == "calibrate":
        files.append(write_operating_points(folder / "operating_points.csv", found))
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        io.write_text(path, _csv(table))
        files.append(path)
    summary = {
        "kind": kind,
        "n_scans": len(jobs),
        "n_failed": len(made.errors),
        "errors": sorted(set(made.errors.values())),
        "seconds_per_scan": round(made.seconds / max(len(made.good), 1), 2),
        "options": _options(jobs),
    }
    path = folder / f"{kind}.json"
    io.write_text(path, json.dumps(summary, indent=1) + "\n")
    with suppress(MissingExtraError):
        from muscan.studies.figures import draw

        files += draw(kind, tables, folder)
    return Study(
        kind,
        folder,
        tables,
        [*files, path],
        n_scans=len(jobs),
        n_run=made.n_run,
        n_failed=len(made.errors),
        seconds_per_scan=summary["seconds_per_scan"],  # type: ignore[arg-type]
        errors=summary["errors"],  # type: ignore[arg-type]
    )


def _options(jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all jobs share, and the scenes."""
    first = jobs[0]
    shared = {name: first[name] for name in ("exposures", "method", "voxel", "detector", "data")}
    return {"scenes": list(dict.fromkeys(job["scene"] for job in jobs)), **shared}


def _csv(table: Sequence[Mapping[str, Any]]) -> str:
    """Return a table as CSV: six digits, empty where a number is not finite."""
    buffer = text_io.StringIO()
    if table:
        writer = csv.DictWriter(buffer, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in table)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return value
