"""The scattering of a whole load, from the muons' angles alone.

A volume is of little use for the weight of a load: what a method cannot resolve it loses or
smears, and muons that scatter out of the panels are missing from it. Here the load is a map of
columns. A muon's angle in a plane is normal with the variance

    σ² + q f (t + c l/H),

σ the tracks' error, q the scattering power of the momentum, f Highland's factor, t the known
matter on the way (panels, air, the container), and c l/H the share l of the muon's path of the
column c = ∫ λ dz of its cell, H the height of the load. Momenta are not known: the density is a
mixture over the classes of the sea-level spectrum, less what the matter takes. For each cell the
most likely c is found. Offsets are not used: the angle alone does not ask where in the column
the matter stands.

Muons whose straight path comes near the edge of the panels behind the load are left out, and of
the others only angles up to `LARGEST_ANGLE` are used, with the density normalised to these: so
none is lost for having scattered much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from muscan.errors import InputError
from muscan.model.detector import Detector
from muscan.model.events import Scatters
from muscan.model.spectrum import class_weights, sea_level_spectrum
from muscan.model.track_errors import (
    AIR_DENSITY,
    FIXED_FACTOR,
    OUTLIER_ANGLE,
    OUTLIER_FRACTION,
    PanelScattering,
    highland_factor,
)
from muscan.units import MM_PER_CM, SCATTERING_DENSITY_X0_MRAD2

FloatArray = NDArray[np.float64]

#: Angles above this are not used [mrad]; as far as this a muon stays within the panels.
LARGEST_ANGLE: Final = 150.0
#: Side of a cell [mm]: wide enough for some hundred muons a minute.
CELL_MM: Final = 300.0
#: Columns that are tried [mrad²]: from a hundredth of a sheet of steel to 2 m of lead.
COLUMNS: Final = (0.05, 9000.0)
#: With fewer muons than this, a cell takes the mean of the others.
LEAST_MUONS: Final = 30
_LOSSES_GEV: Final = np.concatenate([[0.0], np.geomspace(0.01, 8.0, 50)])
_COSINES: Final = np.linspace(0.3, 1.0, 15)
#: Of more muons than this, every second (third, …) is used.
MOST_MUONS: Final = 1_000_000
#: The search begins with about this many muons a cell.
_FIRST: Final = 800
_STEPS: Final = 16
#: Half widths of the parabolas that end it, in ln c.
_WIDTHS: Final = (0.25, 0.15, 0.1)
_CHUNK: Final = 50_000


@dataclass(frozen=True)
class Surroundings:
    """Known matter around a load: a box with walls, as a container is.

    Attributes
    ----------
    inside : ndarray, shape (2, 3)
        Lowest and highest corner of the space that the load can take [mm].
    wall_mm : float
        Thickness of the walls, the roof and the bottom.
    wall_density : float
        Their scattering density [mrad²/cm].
    floor_column : float
        Further scattering of the floor, along the vertical [mrad²].
    """

    inside: FloatArray
    wall_mm: float = 0.0
    wall_density: float = 0.0
    floor_column: float = 0.0


@dataclass(frozen=True)
class LoadScattering:
    """The columns of a load.

    Attributes
    ----------
    column, sigma : ndarray, shape (nx, ny)
        ∫ λ dz of each cell and its standard deviation [mrad²].
    n_muons : ndarray of int, shape (nx, ny)
    cell_mm : ndarray, shape (2,)
        Size of a cell.
    lower : ndarray, shape (2,)
        Lowest corner of the map [mm].
    """

    column: FloatArray
    sigma: FloatArray
    n_muons: NDArray[np.int64]
    cell_mm: FloatArray
    lower: FloatArray

    def total(self, low: FloatArray | None = None, high: FloatArray | None = None) -> FloatArray:
        """Return ∫ λ dV and its standard deviation, of the whole or of a rectangle.

        Parameters
        ----------
        low, high : ndarray, shape (2,), optional
            Corners [mm]; cells count by the share of them that is inside.

        Returns
        -------
        ndarray, shape (2,), [mrad²/cm · litre]
        """
        share = np.ones(self.column.shape)
        if low is not None and high is not None:
            edges = [
                self.lower[i] + self.cell_mm[i] * np.arange(n + 1)
                for i, n in enumerate(self.column.shape)
            ]
            parts = [
                np.clip(np.minimum(e[1:], high[i]) - np.maximum(e[:-1], low[i]), 0, None)
                / self.cell_mm[i]
                for i, e in enumerate(edges)
            ]
            share = np.outer(*parts)
        litres = share * self.cell_mm.prod() * MM_PER_CM / 1e6
        error = float(np.sqrt(np.square(litres * self.sigma).sum()))
        return np.array([float((litres * self.column).sum()), error])


def load_scattering(
    scatters: Scatters,
    detector: Detector | None,
    around: Surroundings,
    loss_per_column: float,
    flux: str = "guan2015",
) -> LoadScattering:
    """Fit the columns of a load to the muons.

    Parameters
    ----------
    scatters : Scatters
        Muons with both tracks.
    detector : Detector, optional
        The layout; without it no muon is left out for the panels' edges.
    around : Surroundings
        Where the load stands, and in what.
    loss_per_column : float
        Momentum lost for a column of 1 mrad² [GeV]: the load's stopping over its scattering.
    flux : str
        Name of the flux model whose spectrum the muons have.

    Raises
    ------
    InputError
        If too few muons go through the load.
    """
    muons = _Muons(scatters, detector, around, flux)
    if len(muons.cell) < LEAST_MUONS:
        raise InputError("tracks", f"{len(muons.cell)} muons go through the load", "scan longer")
    column, sigma = muons.fit(loss_per_column)
    counts = np.bincount(muons.cell, minlength=column.size)
    seen = counts >= LEAST_MUONS
    mean = float(np.average(column[seen], weights=counts[seen])) if seen.any() else 0.0
    spread = float(column[seen].std()) if seen.any() else mean
    column, sigma = np.where(seen, column, mean), np.where(seen, sigma, max(spread, mean))
    shape = muons.shape
    return LoadScattering(
        column.reshape(shape), sigma.reshape(shape), counts.reshape(shape), muons.size, muons.lower
    )


class _Muons:
    """Angles, known matter and cells of the muons that are used."""

    def __init__(
        self, scatters: Scatters, detector: Detector | None, around: Surroundings, flux: str
    ) -> None:
        low, high = around.inside
        extent = high[:2] - low[:2]
        self.shape = tuple(np.maximum(np.rint(extent / CELL_MM), 1).astype(int).tolist())
        self.size, self.lower = extent / np.array(self.shape), low[:2]
        usable = np.flatnonzero(_usable(scatters, detector, low, high))
        used = scatters.take(usable[:: 1 + len(usable) // MOST_MUONS])
        start, stop = _crossing(used, low, high)
        middle = (start + stop) / 2
        index = np.floor((middle[:, :2] - self.lower) / self.size).astype(np.int64)
        inside = ((index >= 0) & (index < self.shape)).all(axis=1)
        used, start, stop, index = used.take(inside), start[inside], stop[inside], index[inside]
        self.cell = index[:, 0] * self.shape[1] + index[:, 1]
        self.angle = _angles(used)
        within = (np.abs(self.angle) < LARGEST_ANGLE).all(axis=1)
        used, self.cell, self.angle = used.take(within), self.cell[within], self.angle[within]
        start, stop = start[within], stop[within]
        self.share, self.known = _matter(start, stop, around)
        self.noise, fixed = _errors(used, detector)
        self.known += fixed
        cosine = -used.in_direction[:, 2].astype(float)
        row = np.rint(np.interp(cosine, _COSINES, np.arange(len(_COSINES)))).astype(np.int64)
        spectrum = sea_level_spectrum(flux)
        table = np.array([[spectrum.powers(c, loss) for loss in _LOSSES_GEV] for c in _COSINES])
        self.row, self.table = row, table

    def fit(self, loss_per_column: float) -> tuple[FloatArray, FloatArray]:
        """Return the most likely column of each cell and its standard deviation."""
        best = self._search(loss_per_column)
        curvature = np.ones_like(best)
        for width in _WIDTHS:
            below, here, above = (
                self._sums(best + step, loss_per_column) for step in (-width, 0.0, width)
            )
            curvature = np.maximum(2 * here - below - above, 1e-6) / width**2
            slope = (above - below) / (2 * width)
            best += np.clip(slope / curvature, -2 * width, 2 * width)
        column = np.exp(best)
        return column, column * np.minimum(1 / np.sqrt(curvature), 2.0)

    def _search(self, loss_per_column: float) -> FloatArray:
        """Find each cell's most likely ln c on some of the muons, by the golden section."""
        cells = int(np.prod(self.shape))
        stride = max(len(self.cell) // (cells * _FIRST), 1)
        ratio = (np.sqrt(5) - 1) / 2
        low, high = (np.full(cells, np.log(limit)) for limit in COLUMNS)
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        at_left, at_right = (self._sums(x, loss_per_column, stride) for x in (left, right))
        for _ in range(_STEPS):
            down = at_left > at_right
            low, high = np.where(down, low, left), np.where(down, right, high)
            fresh = np.where(down, high - ratio * (high - low), low + ratio * (high - low))
            value = self._sums(fresh, loss_per_column, stride)
            left, right, at_left, at_right = (
                np.where(down, fresh, right),
                np.where(down, left, fresh),
                np.where(down, value, at_right),
                np.where(down, at_left, value),
            )
        return np.asarray((low + high) / 2)

    def _sums(self, logs: FloatArray, loss_per_column: float, stride: int = 1) -> FloatArray:
        """Return the log likelihood of each cell, of all muons or every so many."""
        total = np.zeros(len(logs))
        for first in range(0, len(self.cell), _CHUNK * stride):
            rows = slice(first, first + _CHUNK * stride, stride)
            values = self._log_density(rows, np.exp(logs), loss_per_column)
            total += np.bincount(self.cell[rows], values, minlength=len(logs))
        return total

    def _log_density(self, rows: slice, column: FloatArray, loss_per_column: float) -> FloatArray:
        own = column[self.cell[rows]] * self.share[rows]
        spread = own + self.known[rows]
        loss = own * loss_per_column
        index = np.rint(np.interp(loss, _LOSSES_GEV, np.arange(len(_LOSSES_GEV)))).astype(int)
        power = self.table[self.row[rows], index]
        scale = highland_factor(spread / SCATTERING_DENSITY_X0_MRAD2)
        far = OUTLIER_ANGLE**2
        part, kept = np.ones_like(power), np.ones_like(power)
        single = np.ones(len(spread))
        for plane in (0, 1):
            noise = self.noise[rows, plane]
            square = np.square(self.angle[rows, plane])
            variance = noise[:, None] + power * (scale * spread)[:, None]
            part *= np.exp(-square[:, None] / (2 * variance)) / np.sqrt(variance)
            kept *= erf(LARGEST_ANGLE / np.sqrt(2 * variance))
            width = noise + far
            single *= np.exp(-square / (2 * width)) / np.sqrt(width)
            single /= erf(LARGEST_ANGLE / np.sqrt(2 * width))
        weight = class_weights()
        density = (1 - OUTLIER_FRACTION) * (part @ weight) / (
            kept @ weight
        ) + OUTLIER_FRACTION * single
        return np.asarray(np.log(np.maximum(density, 1e-300)))


def _usable(
    scatters: Scatters, detector: Detector | None, low: FloatArray, high: FloatArray
) -> NDArray[np.bool_]:
    """Tell which muons' straight paths keep their distance from the far panels' edges."""
    usable = np.isfinite(scatters.in_cov[:, 0, 0]) & np.isfinite(scatters.out_cov[:, 0, 0])
    usable &= scatters.in_direction[:, 2] < -0.3
    if detector is None:
        return usable
    place, way = scatters.in_position.astype(float), scatters.in_direction.astype(float)
    for panel in detector.panels:
        if panel.centre[2] >= low[2] or abs(panel.normal[2]) < 0.9:
            continue
        along = (panel.centre[2] - place[:, 2]) / way[:, 2]
        point = place + along[:, None] * way - panel.centre
        margin = 1e-3 * LARGEST_ANGLE * (high[2] - panel.centre[2])
        for axis, width in ((panel.u, panel.size[0]), (panel.v, panel.size[1])):
            usable &= np.abs(point @ axis) < max(width / 2 - margin, width / 4)
    return usable


def _crossing(
    scatters: Scatters, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return where muons pass the heights of the load's top and bottom, (n, 3) each [mm]."""
    ends = []
    for position, direction, height in (
        (scatters.in_position, scatters.in_direction, high[2]),
        (scatters.out_position, scatters.out_direction, low[2]),
    ):
        p, u = position.astype(float), direction.astype(float)
        ends.append(p + ((height - p[:, 2]) / np.minimum(u[:, 2], -0.05))[:, None] * u)
    return ends[0], ends[1]


def _angles(scatters: Scatters) -> FloatArray:
    """Return the projected angles in two planes across the incoming track, (n, 2) [mrad]."""
    u, w = scatters.in_direction.astype(float), scatters.out_direction.astype(float)
    bend = 1 / (1 - u[:, 2])
    first = np.stack([1 - bend * u[:, 0] ** 2, -bend * u[:, 0] * u[:, 1], u[:, 0]], axis=1)
    second = np.stack([-bend * u[:, 0] * u[:, 1], 1 - bend * u[:, 1] ** 2, u[:, 1]], axis=1)
    straight = (u * w).sum(1)
    return 1e3 * np.stack([(axis * w).sum(1) / straight for axis in (first, second)], axis=1)


def _errors(scatters: Scatters, detector: Detector | None) -> tuple[FloatArray, FloatArray]:
    """Return the variance of the angles (n, 2) [mrad²] and the panels' scattering (n,) [mrad²].

    The latter is over Highland's factor of a thin layer, as it is multiplied with that of the
    whole.
    """
    planes = [scatters.in_cov[:, k, k].astype(float) + scatters.out_cov[:, k, k] for k in (2, 3)]
    noise = 1e6 * np.stack(planes, axis=1)
    if detector is None:
        return noise, np.zeros(len(noise))
    panels = PanelScattering(detector)
    fixed = sum(
        panels.errors(position, direction, outgoing=out)[:, 0].astype(float)
        for position, direction, out in (
            (scatters.in_position, scatters.in_direction, False),
            (scatters.out_position, scatters.out_direction, True),
        )
    )
    fixed = 1e6 * np.asarray(fixed)
    return np.maximum(noise - fixed[:, None], 0.1 * noise), FIXED_FACTOR * fixed


def _matter(
    start: FloatArray, stop: FloatArray, around: Surroundings
) -> tuple[FloatArray, FloatArray]:
    """Return the share of each path in the load's height, and the known matter on it [mrad²]."""
    low, high = around.inside
    inner = _chord(start, stop, low, high)
    length = np.sqrt(np.square(stop - start).sum(axis=1))
    known = AIR_DENSITY * length
    if around.wall_mm:
        drop = np.maximum(start[:, 2] - stop[:, 2], 1.0)
        beyond = (stop - start) * (around.wall_mm / drop)[:, None]
        outer = _chord(start - beyond, stop + beyond, low - around.wall_mm, high + around.wall_mm)
        known += np.maximum(outer - inner, 0.0) * around.wall_density / MM_PER_CM
        known += around.floor_column * length / drop
    return inner / (high[2] - low[2]), known


def _chord(start: FloatArray, stop: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Return the length of straight paths in a box [mm]."""
    way = stop - start
    safe = np.where(np.abs(way) < 1e-9, 1e-9, way)
    first, second = (low - start) / safe, (high - start) / safe
    enter = np.clip(np.minimum(first, second).max(axis=1), 0.0, 1.0)
    leave = np.clip(np.maximum(first, second).min(axis=1), 0.0, 1.0)
    return np.asarray(np.maximum(leave - enter, 0.0) * np.sqrt(np.square(way).sum(axis=1)))
