"""A layout of horizontal panels from the hits themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.io.drivers.columns import X, Y, Z
from muscan.io.drivers.rows import Rows, TableReader
from muscan.model.detector import Detector, parse_detector

#: Hits of one horizontal panel differ in z by no more than this [mm].
FLATNESS_MM: Final = 5.0
#: Resolution assumed where the hits do not tell it [mm].
DEFAULT_RESOLUTION_MM: Final = 1.0
#: A resolution from residuals is not trusted below this [mm].
LEAST_RESOLUTION_MM: Final = 0.01
#: Rows from which the resolution is taken, and the fewest residuals for it.
SAMPLE_ROWS: Final = 200_000
MIN_RESIDUALS: Final = 30
#: Standard deviation of a normal distribution over its median absolute deviation.
_SIGMA_PER_MAD: Final = 1.4826


class Plane(NamedTuple):
    """A panel as its hits show it: its label's index, and lowest and highest x, y, z [mm]."""

    label: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def z(self) -> float:
        """Height [mm]."""
        return float(self.low[2] + self.high[2]) / 2


def infer_layout(reader: TableReader, files: Sequence[Path]) -> tuple[Detector, tuple[str, ...]]:
    """Return a layout with one horizontal panel for each panel name, and what was assumed.

    The panels' extents are those of the hits; the widest gap in z parts the upper group from the
    lower one and is the inspected space. The resolution is that of straight lines through three
    planes of a group, an upper limit because it includes scattering, else
    `DEFAULT_RESOLUTION_MM`. The panels' matter is assumed: 10 mm of plastic scintillator.

    Raises
    ------
    InputError
        If a file is wrong, a panel is not horizontal, or all panels have the same z.
    """
    planes, sample = _survey(reader, files)
    source = files[0]
    labels = reader.labels
    for plane in planes:
        if plane.high[2] - plane.low[2] > FLATNESS_MM:
            raise InputError(
                source,
                f"panel '{labels[plane.label]}' has hits from z = {plane.low[2]:g} to "
                f"{plane.high[2]:g} mm: it is not horizontal",
                "give a layout with --detector",
            )
    levels = np.unique([plane.z for plane in planes])
    if len(levels) < 2 or levels[-1] - levels[0] < FLATNESS_MM:
        raise InputError(
            source, "the hits are in fewer than two planes", "give a layout with --detector"
        )
    gap = _widest_gap(levels)
    resolution, measured = _resolution(planes, sample, gap)
    text = _layout_text(planes, labels, gap, resolution, source)
    assumed = "from straight lines, scattering included" if measured else "assumed"
    notes = (
        f"no layout given: {len(planes)} horizontal panels inferred from the hits, "
        f"z = {', '.join(f'{z:g}' for z in sorted((p.z for p in planes), reverse=True))} mm",
        f"resolution {resolution:.3g} mm ({assumed}); matter of the panels assumed: "
        "10 mm of plastic scintillator",
    )
    return parse_detector(text, source), notes


def _survey(reader: TableReader, files: Sequence[Path]) -> tuple[list[Plane], Rows]:
    """Return the extents of the hits of each panel, and the first rows."""
    low: dict[int, NDArray[Any]] = {}
    high: dict[int, NDArray[Any]] = {}
    sample: list[Rows] = []
    sampled = 0
    for rows in _all_rows(reader, files):
        place = rows.fields[:, [X, Y, Z]]
        sound = np.isfinite(place).all(axis=1)
        for label in np.unique(rows.label[sound]).tolist():
            own = place[sound & (rows.label == label)]
            low[label] = np.minimum(low.get(label, np.inf), own.min(axis=0))
            high[label] = np.maximum(high.get(label, -np.inf), own.max(axis=0))
        if sampled < SAMPLE_ROWS:
            sample.append(rows.take(sound))
            sampled += len(rows.event_id)
    if not low:
        raise InputError(files[0], "no row has finite x, y and z")
    planes = [Plane(label, low[label], high[label]) for label in low]
    planes.sort(key=lambda plane: _rank(reader.labels[plane.label]))
    return planes, Rows(*(np.concatenate(parts) for parts in zip(*sample, strict=True)))


def _all_rows(reader: TableReader, files: Sequence[Path]) -> Iterator[Rows]:
    for path in files:
        yield from reader.read(path)


def _rank(label: str) -> tuple[int, int]:
    """Sort numbers by value, before names, which stay in the order in which they were met."""
    return (0, int(label)) if label.isdecimal() else (1, 0)


def _widest_gap(levels: NDArray[np.float64]) -> tuple[float, float]:
    """Return the heights below and above the widest gap; of equal ones, the middle one."""
    width = np.diff(levels)
    widest = np.flatnonzero(width > width.max() - FLATNESS_MM)
    chosen = widest[np.argmin(np.abs(widest - (len(width) - 1) / 2))]
    return float(levels[chosen]), float(levels[chosen + 1])


def _resolution(
    planes: Sequence[Plane], sample: Rows, gap: tuple[float, float]
) -> tuple[float, bool]:
    """Return the resolution [mm], and whether it was measured.

    The residual of the middle one of three hits on a line, r = y1 - (1 - f) y0 - f y2, has the
    variance (1 + (1 - f)² + f²) σ².
    """
    tops = sorted((p for p in planes if p.z >= gap[1]), key=lambda p: -p.z)
    bottoms = sorted((p for p in planes if p.z <= gap[0]), key=lambda p: -p.z)
    found = []
    for group in (tops, bottoms):
        for first, middle, last in zip(group, group[1:], group[2:], strict=False):
            if min(a.z - b.z for a, b in pairwise((first, middle, last))) < FLATNESS_MM:
                continue
            f = (first.z - middle.z) / (first.z - last.z)
            hits = [_single_hits(sample, plane.label) for plane in (first, middle, last)]
            events = np.intersect1d(np.intersect1d(hits[0][0], hits[1][0]), hits[2][0])
            if len(events) < MIN_RESIDUALS:
                continue
            y0, y1, y2 = (place[np.searchsorted(ids, events)] for ids, place in hits)
            residual = y1 - (1 - f) * y0 - f * y2
            spread = np.median(np.abs(residual - np.median(residual, axis=0)), axis=0)
            found.append(_SIGMA_PER_MAD * spread / np.sqrt(1 + (1 - f) ** 2 + f**2))
    if not found:
        return DEFAULT_RESOLUTION_MM, False
    return max(float(np.median(found)), LEAST_RESOLUTION_MM), True


def _single_hits(sample: Rows, label: int) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """Return the events with one hit in a panel, sorted, and its x and y."""
    own = sample.take(sample.label == label)
    ids, first, count = np.unique(own.event_id, return_index=True, return_counts=True)
    single = count == 1
    return ids[single], own.fields[first[single]][:, [X, Y]]


def _layout_text(
    planes: Sequence[Plane],
    labels: Sequence[str],
    gap: tuple[float, float],
    resolution: float,
    source: Path,
) -> str:
    low = np.min([plane.low for plane in planes], axis=0)
    high = np.max([plane.high for plane in planes], axis=0)
    # Whole millimetres: the extent of hits is no better known.
    low, high = np.floor(low), np.maximum(np.ceil(high), np.floor(low) + 1)
    name = _quoted(source.name.split(".")[0])
    lines = [
        f"name = {name}",
        'description = "Horizontal panels inferred from the hits"',
        f"source = {_quoted(source.name)}",
        "",
        "[inspection]",
        f"min_mm = [{low[0]}, {low[1]}, {gap[0]}]",
        f"max_mm = [{high[0]}, {high[1]}, {gap[1]}]",
        "",
        "[technology.inferred]",
        'description = "Matter assumed: 10 mm of plastic scintillator"',
        f"size_mm = [{high[0] - low[0]}, {high[1] - low[1]}]",
        "thickness_mm = 10.0",
        f"resolution_mm = [{resolution:.6g}, {resolution:.6g}]",
    ]
    for plane in planes:
        begin, end = np.floor(plane.low), np.maximum(np.ceil(plane.high), np.floor(plane.low) + 1)
        centre, size = (begin + end) / 2, end - begin
        group = "upper" if plane.z >= gap[1] else "lower"
        lines += [
            "",
            "[[panel]]",
            f"name = {_quoted(labels[plane.label])}",
            f'group = "{group}"',
            'technology = "inferred"',
            f"centre_mm = [{centre[0]}, {centre[1]}, {plane.z}]",
            f"size_mm = [{size[0]}, {size[1]}]",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a text as a TOML string; what cannot stand in one becomes a question mark."""
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return json.dumps(printable, ensure_ascii=False)
