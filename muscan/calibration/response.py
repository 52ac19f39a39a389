"""How well the panels see: efficiency, resolution, noise, dead and hot channels, from the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from muscan.calibration.channels import Channels, count_channels
from muscan.calibration.clean import FloatArray
from muscan.calibration.probes import MAD, Probes, find_probes
from muscan.calibration.resolution import UNKNOWN, Resolution, measure_resolutions
from muscan.model.detector import Detector, Panel
from muscan.model.events import Hits

#: Probes wanted in a cell of an efficiency map, and the most cells along an axis.
PROBES_A_CELL, MOST_CELLS = 400, 8
#: A cell with fewer probes takes the panel's mean.
LEAST_PROBES = 25
#: Cells of a map of residuals along a panel's longer side, and residuals wanted in one.
RESIDUAL_CELLS, LEAST_RESIDUALS = 8, 50
#: A map is written where a flat efficiency has less than this chance.
FLAT = 1e-3


@dataclass(frozen=True)
class PanelResponse:
    """What was measured of one panel; NaN where the data do not tell.

    Attributes
    ----------
    name : str
    probes : int
        Muons that crossed it by the word of other panels.
    efficiency, efficiency_error : float
        Of its live part.
    cells : (a, b) float64
        Efficiency by cell, along u and v.
    cell_errors : (a, b) float64
    flat_probability : float
        Chance of cells as unlike as these if the efficiency is the same everywhere.
    noise_hz_per_m2, noise_error : float
        Hits far from the muon, by area and time in the gate.
    resolution : Resolution
    offset_mm, offset_error_mm : (2, c, d) float64
        Median residual of u and of v against the other panels, by cell; NaN where too few.
    channels : Channels
        Dead and hot ones.
    """

    name: str
    probes: int
    efficiency: float
    efficiency_error: float
    cells: FloatArray
    cell_errors: FloatArray
    flat_probability: float
    noise_hz_per_m2: float
    noise_error: float
    resolution: Resolution
    offset_mm: FloatArray
    offset_error_mm: FloatArray
    channels: Channels

    @property
    def is_flat(self) -> bool:
        """Whether one efficiency describes the panel."""
        return not self.flat_probability < FLAT


def measure_responses(
    hits: Hits,
    *,
    detector: Detector | None = None,
    flux: str = "guan2015",
    resolution: bool = True,
    tell: Callable[[float], None] | None = None,
) -> tuple[PanelResponse, ...]:
    """Measure every panel against the others.

    Parameters
    ----------
    hits : Hits
        Of any scan; a panel is tried against those of its own group where they suffice.
    detector : Detector, optional
        The (aligned) layout; that of the hits unless given.
    flux : str
        Flux model, for the momenta behind the scattering in the residuals.
    resolution : bool
        Whether to measure resolutions, which takes longest.
    tell : callable, optional
        Called with the fraction done.
    """
    layout = hits.detector if detector is None else detector
    channels = [count_channels(hits, layout, i) for i in range(len(layout.panels))]
    live = replace(
        layout,
        panels=tuple(
            replace(panel, dead_channels=found.dead)
            for panel, found in zip(layout.panels, channels, strict=True)
        ),
    )
    resolutions = (
        measure_resolutions(hits, layout, flux) if resolution else [UNKNOWN] * len(layout.panels)
    )
    found = []
    for index, panel in enumerate(layout.panels):
        probes = find_probes(hits, live, index)
        found.append(_measure(panel, probes, layout.gate_ns, resolutions[index], channels[index]))
        if tell is not None:
            tell((index + 1) / len(layout.panels))
    return tuple(found)


def corrected(detector: Detector, measured: Sequence[PanelResponse]) -> Detector:
    """Return a detector whose panels respond as measured, each a technology of its own.

    What the data do not tell stays as it was.
    """
    panels = []
    for panel, found in zip(detector.panels, measured, strict=True):
        changes: dict[str, object] = {"dead_channels": ((), ())}
        if np.isfinite(found.efficiency):
            best = float(found.cells.max())
            flat = found.is_flat or best <= 0
            changes["efficiency"] = round(found.efficiency if flat else best, 5)
            rows = [] if flat else np.round(found.cells / best, 4).tolist()
            changes["efficiency_map"] = tuple(map(tuple, rows)) or None
        if np.isfinite(found.noise_hz_per_m2):
            changes["noise_hz_per_m2"] = float(f"{found.noise_hz_per_m2:.4g}")
        changes["resolution_mm"] = _written_resolution(panel, found.resolution)
        technology = panel.technology.model_copy(update=changes)
        panels.append(
            replace(
                panel,
                technology=technology,
                technology_name=panel.name,
                dead_channels=found.channels.dead,
            )
        )
    return replace(detector, panels=tuple(panels))


def _written_resolution(panel: Panel, found: Resolution) -> tuple[float, float]:
    """Return the ``resolution_mm`` that makes the panel's sigma the measured one."""
    values = []
    pitch = panel.technology.pitch_mm or (0.0, 0.0)
    by_channel = panel.technology.readout == "pitch"
    for old, sigma, width in zip(
        panel.technology.resolution_mm, found.sigma_mm, pitch, strict=True
    ):
        own = sigma**2 - (width**2 / 12 if by_channel else 0.0)
        values.append(float(f"{np.sqrt(max(own, 0.0)):.4g}") if np.isfinite(sigma) else old)
    return values[0], values[1]


def _measure(
    panel: Panel, probes: Probes, gate_ns: float, resolution: Resolution, channels: Channels
) -> PanelResponse:
    n, seen = len(probes), int(probes.seen.sum())
    cells, errors, flat = _cells(panel, probes)
    noise, noise_error = _noise(panel, probes, gate_ns)
    offset, offset_error = _offsets(panel, probes)
    return PanelResponse(
        name=panel.name,
        probes=n,
        efficiency=seen / n if n else np.nan,
        efficiency_error=float(binomial_error(np.array(seen), np.array(n))),
        cells=cells,
        cell_errors=errors,
        flat_probability=flat,
        noise_hz_per_m2=noise,
        noise_error=noise_error,
        resolution=resolution,
        offset_mm=offset,
        offset_error_mm=offset_error,
        channels=channels,
    )


def binomial_error(seen: NDArray[np.int64], n: NDArray[np.int64]) -> FloatArray:
    """Return the standard deviation of a fraction, of the posterior with Jeffreys' prior."""
    a, b = seen + 0.5, n - seen + 0.5
    return np.where(n > 0, np.sqrt(a * b / ((a + b) ** 2 * (a + b + 1))), np.nan)


def _cells(panel: Panel, probes: Probes) -> tuple[FloatArray, FloatArray, float]:
    """Return efficiency and error by cell, and the chance of such cells if all are alike."""
    n = len(probes)
    if n == 0:
        return np.full((1, 1), np.nan), np.full((1, 1), np.nan), np.nan
    size = np.array(panel.size)
    wanted = max(n / PROBES_A_CELL, 1.0)
    shape = np.clip(np.rint(np.sqrt(wanted * size / size[::-1])), 1, MOST_CELLS).astype(int)
    index = ((probes.place / size + 0.5) * shape).astype(int)
    flat = np.ravel_multi_index(tuple(np.clip(index, 0, shape - 1).T), tuple(shape))
    tried = np.bincount(flat, minlength=shape.prod())
    seen = np.bincount(flat, weights=probes.seen, minlength=shape.prod()).astype(np.int64)
    mean = probes.seen.mean()
    enough = tried >= LEAST_PROBES
    cells = np.where(enough, seen / np.maximum(tried, 1), mean)
    errors = np.where(enough, binomial_error(seen, tried), np.nan)
    return cells.reshape(shape), errors.reshape(shape), _flat_probability(seen, tried, enough)


def _flat_probability(
    seen: NDArray[np.int64], tried: NDArray[np.int64], enough: NDArray[np.bool_]
) -> float:
    """Return the chance of the counts under one efficiency (likelihood ratio, χ²)."""
    if enough.sum() < 2:
        return np.nan
    k, n = seen[enough].astype(float), tried[enough].astype(float)
    mean = k.sum() / n.sum()
    lost, expected = n - k, n * (1 - mean)
    ratio = np.where(k > 0, k * np.log(np.maximum(k, 1e-300) / (n * mean)), 0.0)
    if expected.sum() > 0:
        ratio += np.where(lost > 0, lost * np.log(np.maximum(lost, 1e-300) / expected), 0.0)
    return float(chdtrc(len(k) - 1, 2 * ratio.sum()))


def _noise(panel: Panel, probes: Probes, gate_ns: float) -> tuple[float, float]:
    """Return the noise [Hz/m²] by the hits far from muons that the panel saw, and its error."""
    if not probes.seen.any():
        return np.nan, np.nan
    half = np.array(panel.size) / 2
    place = probes.place[probes.seen]
    # What is near the muon, as far as it is on the panel.
    low = np.maximum(place - probes.near, -half)
    high = np.minimum(place + probes.near, half)
    free = panel.size[0] * panel.size[1] - np.prod(high - low, axis=1)
    exposure = float(free.sum()) * 1e-6 * gate_ns * 1e-9
    if exposure <= 0:
        return np.nan, np.nan
    count = int(probes.far[probes.seen].sum())
    return count / exposure, float(np.sqrt(count + 1)) / exposure


def map_shape(panel: Panel, longest: int) -> tuple[int, int]:
    """Return cells along u and v, about square."""
    size = np.array(panel.size)
    a, b = np.maximum(np.rint(longest * size / size.max()), 1).astype(int)
    return int(a), int(b)


def _offsets(panel: Panel, probes: Probes) -> tuple[FloatArray, FloatArray]:
    """Return the median residual of u and v by cell [mm], and its standard deviation."""
    shape = map_shape(panel, RESIDUAL_CELLS)
    index = ((probes.place / np.array(panel.size) + 0.5) * shape).astype(int)
    cell = np.ravel_multi_index(tuple(np.clip(index, 0, np.array(shape) - 1).T), shape)
    middle, error = np.full((2, 2, shape[0] * shape[1]), np.nan)
    for number in range(shape[0] * shape[1]):
        own = probes.residual[cell == number]
        for axis in range(2):
            values = own[np.isfinite(own[:, axis]), axis]
            if len(values) >= LEAST_RESIDUALS:
                middle[axis, number] = np.median(values)
                # The median of a Gaussian is √(π/2) less sure than its mean.
                spread = MAD * np.median(np.abs(values - middle[axis, number]))
                error[axis, number] = np.sqrt(np.pi / 2) * spread / np.sqrt(len(values))
    return middle.reshape(2, *shape), error.reshape(2, *shape)
