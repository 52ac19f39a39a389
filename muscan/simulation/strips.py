"""Raw data of strips: what the front end writes of the signals that panels see."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels.strips import REACH, SignalColumns, StripModel, digitise
from muscan.model.detector import Detector
from muscan.model.strips import StripRows

#: Rows that are written at a time.
_ROOM = 1 << 18


def build_strips(detector: Detector) -> StripModel:
    """Return how the strips of a detector respond.

    Raises
    ------
    InputError
        If a panel has none.
    """
    for panel in detector.panels:
        if panel.technology.readout != "pitch":
            problem = f"panel '{panel.name}' has no strips, so that it gives no raw channels"
            remedy = 'give its technology readout = "pitch" and a pitch_mm'
            raise InputError(detector.name, problem, remedy)
    technologies = [panel.technology for panel in detector.panels]
    strips = [technology.strips for technology in technologies]
    measured = np.array(
        [[axis in technology.measures for axis in "uv"] for technology in technologies]
    )
    pitch = np.array([technology.pitch_mm or (0.0, 0.0) for technology in technologies])
    spread = np.array([one.charge_spread_mm for one in strips])
    dead = [panel.dead_channels for panel in detector.panels]
    highest = max((number for axes in dead for axis in axes for number in axis), default=-1)
    is_dead = np.zeros((len(dead), 2, highest + 1), np.bool_)
    for row, axes in zip(is_dead, dead, strict=True):
        for flags, numbers in zip(row, axes, strict=True):
            flags[list(numbers)] = True
    return StripModel(
        half=detector.half_sizes,
        pitch=np.where(measured, pitch, 0.0),
        spread=spread,
        gain=np.array([one.gain_adc for one in strips]),
        pedestal=np.array([one.pedestal_adc for one in strips]),
        noise=np.array([one.noise_adc for one in strips]),
        threshold=np.array([one.threshold_adc for one in strips]),
        largest=np.array([one.largest_adc for one in strips]),
        jitter=np.array([one.time_jitter_ns for one in strips]),
        dead=is_dead,
    )


def empty_signals(capacity: int) -> SignalColumns:
    """Return columns for that many signals."""
    return SignalColumns(
        panel=np.empty(capacity, np.uint16),
        u=np.empty(capacity),
        v=np.empty(capacity),
        time=np.empty(capacity),
        amplitude=np.empty(capacity),
        n=np.zeros(1, np.int64),
    )


def digitised(rng: np.random.Generator, model: StripModel, signals: SignalColumns) -> StripRows:
    """Return the rows that the strips write of signals, in the order of time."""
    with np.errstate(divide="ignore", invalid="ignore"):
        strips = np.where(model.pitch > 0, 2 * (REACH * model.spread / model.pitch + 1), 0)
    room = max(_ROOM, 2 * int(strips.max()) + 2)
    parts: list[tuple[NDArray[Any], ...]] = []
    first = 0
    while first < signals.n[0]:
        columns = (
            np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room), np.empty(room),
        )  # fmt: skip
        n, first = digitise(rng, model, signals, first, *columns)
        parts.append(tuple(column[:n] for column in columns))
    if not parts:
        parts.append((np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0), np.empty(0)))
    rows = StripRows(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return rows.take(np.argsort(rows.time, kind="stable"))
