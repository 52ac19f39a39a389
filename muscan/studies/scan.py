"""One scan of a study: from a scene's name to a small record, in memory.

The truth is taken from the scene and put into the record beside what the chain found; the chain
itself (track, reconstruct, identify) sees hits only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from muscan import pipeline
from muscan.errors import InputError
from muscan.model.containers import container_of
from muscan.model.events import Hits, MomentumMeasurements, Tracks
from muscan.model.material import MaterialDatabase, load_materials
from muscan.model.scene import Scene
from muscan.model.truth import scene_truth
from muscan.studies.scenes import study_scene

NS_PER_S = 1e9
#: Alerts are kept however often chance makes them; the operating point is chosen afterwards.
EVERY_ALERT = 1e9
#: Where chance starts is drawn from the seed, the scene's name and whether it has a threat.
_SIMULATION = 0x6D75


def study_scan(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Simulate a scan, and identify what is in it after each exposure.

    Parameters
    ----------
    parameters : mapping
        ``scene`` (see `study_scene`), ``threat`` (bool or name), ``seed``, ``exposures`` [s],
        ``method``, ``voxel`` [mm], ``detector`` (empty for the scene's own), and ``weigh``
        (bool), as weighing takes longer than all the rest.

    Returns
    -------
    dict
        ``scanner``, ``truth`` (threats and masses), and ``results``: for each exposure the report
        as in ``alerts.json``, the mass of the load (`muscan.weigh`) given what most of it is, and
        the time that each step took.
    """
    scene = study_scene(parameters["scene"], parameters["seed"], parameters["threat"])
    exposures = sorted(parameters["exposures"])
    began = time.process_time()
    hits = pipeline.simulate(
        scene,
        detector=parameters["detector"] or None,
        minutes=exposures[-1] / 60,
        seed=_simulation_seed(parameters),
        workers=1,
    )
    assert isinstance(hits, Hits)  # a path only where an output is named
    seconds = {"simulate": time.process_time() - began}
    return {
        "scanner": hits.detector.name,
        "container": container_of(scene),
        "truth": _truth(scene),
        "seconds": _rounded(seconds),
        "results": [_after(hits, exposure, parameters, scene) for exposure in exposures],
    }


def cut_exposure(hits: Hits, seconds: float) -> Hits:
    """Return the events of the first seconds of a run, as if it had been stopped then.

    Parameters
    ----------
    hits : Hits
        Hits of an event adjacent.
    seconds : float
        At most the live time [s].

    Raises
    ------
    InputError
        If the run is shorter.
    """
    live_time = hits.run.live_time_s
    if seconds > live_time * (1 + 1e-9):
        raise InputError("exposure", f"{seconds} s of a run of {live_time} s", "record for longer")
    starts = np.flatnonzero(np.diff(hits.event_id, prepend=hits.event_id[:1] + np.uint64(1)))
    first = np.minimum.reduceat(hits.time, starts) if len(hits) else hits.time
    # All of the whole run: a hit's own time resolution may take it past the end.
    inside = (first < seconds * NS_PER_S) | (seconds >= live_time * (1 - 1e-9))
    rows = np.repeat(inside, np.diff(np.append(starts, len(hits))))
    momenta = hits.momenta
    if momenta is not None:
        kept = np.isin(momenta.event_id, hits.event_id[starts[inside]])
        momenta = MomentumMeasurements(
            momenta.event_id[kept], momenta.momentum[kept], momenta.sigma[kept]
        )
    run = replace(hits.run, live_time_s=float(seconds), counts={})
    return replace(hits.take(rows), run=run, momenta=momenta)


def _after(
    hits: Hits, exposure: float, parameters: Mapping[str, Any], scene: Scene
) -> dict[str, Any]:
    """Identify what is there after an exposure [s]; of the scene, only its papers are known."""
    seconds: dict[str, float] = {}

    def timed(step: str, function: Any, *args: Any, **options: Any) -> Any:
        began = time.process_time()
        result = function(*args, **options)
        seconds[step] = time.process_time() - began
        return result

    tracks = timed("track", pipeline.track, cut_exposure(hits, exposure), workers=1)
    volume = timed(
        "reconstruct",
        pipeline.reconstruct,
        tracks,
        method=parameters["method"],
        voxel=parameters["voxel"],
        workers=1,
    )
    report, _ = timed(
        "identify",
        pipeline.identify,
        volume,
        tracks=tracks,
        materials=_database(),
        container=container_of(scene),
        false_alarms=EVERY_ALERT,
        workers=1,
    )
    load = timed("weigh", _weigh, tracks, scene) if parameters["weigh"] else None
    return {
        "exposure_s": float(exposure),
        "report": report.model_dump(mode="json"),
        "load_kg": load,
        "seconds": _rounded(seconds),
    }


def _weigh(tracks: Tracks, scene: Scene) -> dict[str, float | None] | None:
    """Weigh the load as what its papers say that it is; None where that cannot be done."""
    declared = _declared(scene)
    if not declared:
        return None
    try:
        load = pipeline.weigh(
            tracks,
            cargo=declared,
            container=container_of(scene),
            materials=_database(),
        )
    except InputError:
        return None
    return load.mass_kg.model_dump()


def _declared(scene: Scene) -> str:
    """Return the material of most of the load, as a manifest would tell it; no threat is told."""
    masses: dict[str, float] = {}
    for body, mass in zip(scene.bodies, scene.masses_kg(_database()), strict=True):
        shell = any(body.name.split("/")[0] == name for name in scene.containers)
        if not shell and body.voxels is None and body.name not in scene.threats:
            masses[body.material] = masses.get(body.material, 0.0) + float(mass)
    known = {name: mass for name, mass in masses.items() if name in _database()}
    return max(known, key=lambda name: known[name], default="")


def _truth(scene: Scene) -> dict[str, Any]:
    truth = scene_truth(scene, _database())
    threats = [
        {
            "name": threat.name,
            "materials": list(threat.materials),
            "categories": list(threat.categories),
            "centre_mm": threat.centre_mm.tolist(),
            "size_mm": threat.size_mm.tolist(),
            "mass_kg": threat.mass_kg,
            "scattering_density": threat.scattering_density,
        }
        for threat in truth.threats
    ]
    return {"threats": threats, "total_kg": truth.total_kg, "tare_kg": truth.tare_kg}


def _simulation_seed(parameters: Mapping[str, Any]) -> int:
    """Return a seed of its own for the muons: those of a load with and without threat differ."""
    words = [_SIMULATION, int(parameters["seed"]), *f"{parameters['threat']}".encode()]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {step: round(value, 3) for step, value in seconds.items()}


@lru_cache(maxsize=1)
def _database() -> MaterialDatabase:
    return load_materials()
