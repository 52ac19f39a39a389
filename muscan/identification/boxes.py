"""Boxes fitted to the muons around a region: place, size, scattering density, evidence.

The size and the density of a small object pull against each other: a smaller and denser box
scatters about as much. So the density is not the best one at the best size; sizes are summed over
with equal weight in the logarithm, which makes the interval as wide as the data say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from muscan.identification.likelihood import (
    LocalMuons,
    box_moments,
    log_density,
    with_cargo_scaled,
)
from muscan.model.track_errors import momentum_loss
from muscan.units import MM_PER_CM

FloatArray = NDArray[np.float64]

#: Scattering densities tried while the place is sought [mrad²/cm].
COARSE: Final = np.geomspace(0.4, 100.0, 9)
#: Those tried while it is climbed to, as multiples of the best so far.
NEARBY: Final = np.array([0.75, 1.0, 1.35])
#: Those tried at the place found, as multiples of the best one: a step is 16 %.
FINE: Final = np.geomspace(0.25, 4.0, 19)
#: Densities above this are not tried [mrad²/cm]: there is no such matter.
HIGHEST: Final = 110.0
#: Nor are densities less than this above the cargo's.
LOWEST: Final = 0.1
#: Widths and heights tried, as multiples of the best ones. The width is seen sharply, by the muons
#: that just miss the object; the height is not.
WIDTH_FACTORS: Final = (0.75, 0.9, 1.0, 1.1, 1.3)
HEIGHT_FACTORS: Final = (0.6, 0.8, 1.0, 1.25, 1.6)
#: Least width or height of a box [mm].
SMALLEST_MM: Final = 40.0
#: A box grows to this many times the first guess at most.
MOST_GROWTH: Final = 2.0
#: First and last step of the search for the place [mm].
FIRST_STEP_MM: Final = 40.0
LAST_STEP_MM: Final = 2.5
#: Of more muons through a box, every second (third, …) stands for its neighbours as well.
MOST_MUONS: Final = 2500
#: With fewer muons through it than this, a region is left as the volume shows it.
LEAST_MUONS: Final = 10


@dataclass(frozen=True)
class BoxFit:
    """What the muons say about an object.

    Attributes
    ----------
    centre, size : ndarray, shape (3,)
        Of the most probable box [mm].
    density : float
        Median scattering density [mrad²/cm].
    relative : float
        Standard deviation of its logarithm.
    volume_mm3 : float
        Volume of the most probable box.
    integral : float
        Mean of the integral of the excess density [mrad²/cm · cm³].
    integral_sigma : float
        Its standard deviation.
    cargo_share : float
        Share of the cargo in the scattering of the offsets, 0 for an object in air to 1 for one
        that cannot be told from its surroundings.
    gain : float
        Log likelihood over that of no object.
    n_muons : int
        Muons through the most probable box.
    """

    centre: FloatArray
    size: FloatArray
    density: float
    relative: float
    volume_mm3: float
    integral: float
    integral_sigma: float
    cargo_share: float
    gain: float
    n_muons: int

    @property
    def significance(self) -> float:
        """The gain as standard deviations of a normal distribution, √(2 ΔlnL)."""
        return float(np.sqrt(2 * max(self.gain, 0.0)))


def fit_box(
    muons: LocalMuons,
    centre: FloatArray,
    size: FloatArray,
    background: float,
    *,
    free_cargo: bool = False,
) -> BoxFit | None:
    """Fit a box of matter to the muons.

    Parameters
    ----------
    muons : LocalMuons
        Muons around the region, with the cargo that stands there without it.
    centre, size : ndarray, shape (3,)
        First guess [mm].
    background : float
        Scattering density of the cargo in the place of the object [mrad²/cm].
    free_cargo : bool
        Scale the cargo first to what the muons beside the object say.

    Returns
    -------
    BoxFit or None
        None if too few muons go through.
    """
    reach = np.maximum(size, 2 * SMALLEST_MM) * 0.75
    rows, _ = box_moments(muons, centre - reach, centre + reach)
    beside = np.ones(len(muons), dtype=bool)
    beside[rows] = False
    if len(rows) < LEAST_MUONS:
        return None
    scaled = with_cargo_scaled(muons, beside) if free_cargo else muons
    empty = log_density(scaled, scaled.cargo, scaled.cargo_loss)
    search = _Search(scaled, empty, background)
    return search.fit(*search.climb(centre, np.maximum(size, SMALLEST_MM)))


def _trials(
    centre: FloatArray, size: FloatArray, step: float
) -> Iterator[list[tuple[FloatArray, FloatArray]]]:
    """Yield pairs of opposite changes: along each axis, of the width and of the height."""
    for axis in range(3):
        change = step * (2.0 if axis == 2 else 1.0) * np.eye(3)[axis]
        yield [(centre + change, size), (centre - change, size)]
    for axes in ([True, True, False], [False, False, True]):
        factors = (1 + step / 100, 1 / (1 + step / 100))
        yield [
            (centre, np.where(axes, np.maximum(size * factor, SMALLEST_MM), size))
            for factor in factors
        ]


class _Search:
    """Likelihood of boxes against no box, for one set of muons."""

    def __init__(self, muons: LocalMuons, empty: FloatArray, background: float) -> None:
        self.muons, self.empty, self.background = muons, empty, background

    def profile(
        self, centre: FloatArray, size: FloatArray, densities: FloatArray
    ) -> tuple[FloatArray, int]:
        """Return the gain in log likelihood of a box at each density, and its muons."""
        rows, moments = box_moments(self.muons, centre - size / 2, centre + size / 2)
        if len(rows) < LEAST_MUONS:
            return np.zeros(len(densities)), len(rows)
        stride = 1 + len(rows) // MOST_MUONS
        crossing, moments = rows[::stride], moments[::stride]
        inside = self.muons.take(crossing)
        without = float(self.empty[crossing].sum())
        lost = float(momentum_loss(np.array(self.background / MM_PER_CM)))
        gains = []
        for density in densities:
            excess = (density - self.background) / MM_PER_CM
            more = float(momentum_loss(np.array(density / MM_PER_CM))) - lost
            elements = inside.cargo + excess * moments
            elements[:, 0] = np.maximum(elements[:, 0], 1e-3)
            elements[:, 2] = np.maximum(elements[:, 2], elements[:, 1] ** 2 / elements[:, 0])
            loss = np.maximum(inside.cargo_loss + more * moments[:, 0], 0.0)
            gains.append(float(log_density(inside, elements, loss).sum()) - without)
        return stride * np.array(gains), len(rows)

    def allowed(self, densities: FloatArray) -> FloatArray:
        """Return densities cut to what an object can have: more than the cargo's."""
        return np.clip(densities, 1.1 * self.background + LOWEST, HIGHEST)

    def cargo_share(self, centre: FloatArray, size: FloatArray, density: float) -> float:
        """Return the share of the cargo in the variance of the offsets through a box."""
        rows, moments = box_moments(self.muons, centre - size / 2, centre + size / 2)
        cargo = float(self.muons.cargo[rows, 2].sum())
        return cargo / max(cargo + density / MM_PER_CM * float(moments[:, 2].sum()), 1e-9)

    def best(
        self, centre: FloatArray, size: FloatArray, densities: FloatArray = COARSE
    ) -> tuple[float, float]:
        """Return the gain of a box at the best of a few densities, and that density."""
        densities = self.allowed(densities)
        gains, _ = self.profile(centre, size, densities)
        return float(gains.max()), float(densities[int(gains.argmax())])

    def climb(self, centre: FloatArray, size: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """Climb in place, size and density from a first guess, in steps that halve."""
        here, extent, step = centre.copy(), size.copy(), FIRST_STEP_MM
        largest = MOST_GROWTH * size
        value, density = self.best(here, extent)
        while step >= LAST_STEP_MM:
            moved = False
            for trials in _trials(here, extent, step):
                for place, wanted in trials:
                    shape = np.minimum(wanted, largest)
                    gain, at = self.best(place, shape, self.allowed(density * NEARBY))
                    if gain > value:
                        value, density, here, extent, moved = gain, at, place, shape, True
                        break
            step = step if moved else step / 2
        return here, extent, density

    def fit(self, centre: FloatArray, size: FloatArray, density: float) -> BoxFit:
        """Sum over sizes at a place; return the moments of the posterior."""
        densities = density * FINE
        densities = densities[self.allowed(densities) == densities]
        shapes, gains, counts = [], [], []
        for wide in WIDTH_FACTORS:
            for tall in HEIGHT_FACTORS:
                shape = np.maximum(size * [wide, wide, tall], SMALLEST_MM)
                gain, count = self.profile(centre, shape, densities)
                shapes.append(shape)
                gains.append(gain)
                counts.append(count)
        table = np.array(gains)
        peak = np.unravel_index(table.argmax(), table.shape)
        weight = np.exp(table - table.max())
        weight /= weight.sum()
        logs = np.log(densities)
        share = weight.sum(axis=0)
        median = float(np.exp(np.interp(0.5, np.cumsum(share) - share / 2, logs)))
        mean = float(share @ logs)
        step = logs[1] - logs[0]
        relative = float(np.sqrt(share @ (logs - mean) ** 2 + step**2 / 12))
        volumes = np.array([shape.prod() for shape in shapes]) / 1000.0
        integrals = volumes[:, None] * (densities - self.background)
        integral = float((weight * integrals).sum())
        variance = float((weight * (integrals - integral) ** 2).sum())
        best = shapes[int(peak[0])]
        return BoxFit(
            centre=centre,
            size=best,
            density=median,
            relative=relative,
            volume_mm3=float(best.prod()),
            integral=integral,
            integral_sigma=float(np.sqrt(variance + (step / np.sqrt(12) * integral) ** 2)),
            cargo_share=self.cargo_share(centre, best, median),
            gain=float(table.max()),
            n_muons=counts[int(peak[0])],
        )
