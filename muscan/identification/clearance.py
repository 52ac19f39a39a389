"""Is there room left for a dangerous object? A sequential test in every cell of the volume.

The object to rule out is a cube (or anything that holds one) of a scattering density or more. A
cube of side s, wherever it is, holds a cell of a grid of cells of side s/2. So in each cell of
such a grid the muons through it are asked: is the scattering of the cargo alone more likely, or
that with the cell full of the object's matter? With p₁ and p₀ the densities of their angles,

    LLR = Σ ln p₁(θ | cargo + object) − ln p₀(θ | cargo)

is summed over the muons. Where an object is, it exceeds ln β at all times with a probability of at
least 1 − β (Wald, Ann. Math. Stat. 16:117, 1945; Ville's inequality holds it for any number of
looks). An object larger or denser than the cell's makes larger angles, and a larger sum. A load is
clear when every cell is below ln β.

The angle's density is a mixture over the classes of the sea-level spectrum,
with single large scatters and wrong pairs as a wide part. The cargo is the volume's background
times a factor that the muons' own likelihood gives; the statement is as good as that model is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from muscan.identification.background import contrast
from muscan.identification.segment import known_voxels
from muscan.kernels import clearance as kernel
from muscan.kernels.traversal import Grid
from muscan.model.events import Scatters
from muscan.model.spectrum import class_weights, sea_level_spectrum
from muscan.model.track_errors import AIR_DENSITY, OUTLIER_ANGLE, OUTLIER_FRACTION
from muscan.model.volume import Volume, VoxelGrid
from muscan.units import RAD2_PER_MM

FloatArray = NDArray[np.float64]

#: Scattering density of the object to rule out [mrad²/cm]: that of lead.
OBJECT_DENSITY: Final = 44.5
#: Muons with a larger angle are not used [mrad]: the slowest miss the panels below.
LARGEST_ANGLE: Final = 250.0
#: Limits of the factor on the cargo.
SCALES: Final = (1 / 30, 10.0)
#: Muons from which the cargo's factor is found; every second (third, …) of more is used.
CALIBRATION_MUONS: Final = 20_000
_LOG_U: Final = np.linspace(np.log(1e-4), np.log(1e6), 240)
_LOG_X: Final = np.linspace(np.log(1e-3), np.log(1e5), 160)


@dataclass(frozen=True)
class Clearance:
    """What the sequential test says.

    Attributes
    ----------
    cells : int
        Cells of the volume.
    open_cells : int
        Those in which an object is not ruled out.
    unseen_cells : int
        Those of the open ones that no muon crossed.
    highest : float
        Largest log likelihood ratio of any cell.
    cargo_scale : float
        Factor by which the muons scatter more than the volume's background says.
    """

    cells: int
    open_cells: int
    unseen_cells: int
    highest: float
    cargo_scale: float

    @property
    def clear(self) -> bool:
        """Whether an object is ruled out everywhere."""
        return self.open_cells == 0


def clearance(
    volume: Volume,
    scatters: Scatters,
    *,
    size_mm: float,
    miss: float,
    density: float = OBJECT_DENSITY,
    flux: str = "guan2015",
) -> Clearance:
    """Test whether a volume has room for an object.

    Parameters
    ----------
    volume : Volume
        From which the cargo is taken.
    scatters : Scatters
        Muons with both tracks.
    size_mm : float
        Side of the cube to rule out [mm].
    miss : float
        Probability β that an object is there and is ruled out all the same.
    density : float
        Scattering density of its matter, or less than that [mrad²/cm].
    flux : str
        Name of the flux model whose spectrum the muons have.
    """
    bounds = np.array([volume.grid.lower, volume.grid.upper])
    cells = VoxelGrid.from_bounds(bounds, size_mm / 2)
    background = contrast(volume, known_voxels(volume)).background
    cargo = np.maximum(background.astype(float) * RAD2_PER_MM, AIR_DENSITY * 1e-6)
    data = np.empty((len(scatters), 6))
    kernel.observe(
        _grid(volume.grid),
        scatters.in_position,
        scatters.in_direction,
        scatters.in_cov,
        scatters.out_position,
        scatters.out_direction,
        scatters.out_cov,
        cargo.ravel(),
        LARGEST_ANGLE * 1e-3,
        data,
    )
    cosine = float(np.abs(scatters.in_direction[:, 2]).mean())
    table = _table(flux, cosine, float(np.median(data[:, 1])))
    scale = _cargo_scale(data[:: 1 + len(data) // CALIBRATION_MUONS], table)
    ratio = np.zeros(int(np.prod(cells.shape)))
    muons = np.zeros(len(ratio), np.int64)
    kernel.add_ratios(
        _grid(cells),
        scatters.in_position.astype(float),
        scatters.out_position.astype(float),
        data,
        scale,
        density * RAD2_PER_MM,
        *table,
        ratio,
        muons,
    )
    open_cells = ratio > np.log(miss)
    return Clearance(
        cells=len(ratio),
        open_cells=int(open_cells.sum()),
        unseen_cells=int((muons == 0).sum()),
        highest=float(ratio.max()),
        cargo_scale=scale,
    )


def _grid(grid: VoxelGrid) -> Grid:
    low, step = grid.lower, grid.spacing
    corner = float(low[0]), float(low[1]), float(low[2])
    size = float(step[0]), float(step[1]), float(step[2])
    return Grid(*corner, *size, *grid.shape)


def _table(flux: str, cosine: float, noise: float) -> tuple[FloatArray, float, float, float, float]:
    """Return the log density of θ²/σ² at scattering X/σ², and where its axes begin and step.

    Both projections of the angle are normal with variance σ² + q X, with the same q; the mixture is
    normalised to what is below `LARGEST_ANGLE`. ``noise`` is a typical σ² [rad²].
    """
    power, weight = sea_level_spectrum(flux).powers(cosine, 0.0), class_weights()
    spread = 1 + power * np.exp(_LOG_X)[:, None]
    u = np.exp(_LOG_U)[:, None, None]
    limit = (LARGEST_ANGLE * 1e-3) ** 2 / noise
    kept = ((1 - np.exp(-limit / 2 / spread)) * weight).sum(axis=-1)
    core = (np.exp(-np.minimum(u / 2 / spread, 700.0)) / spread * weight).sum(axis=-1) / kept
    far = (OUTLIER_ANGLE * 1e-3) ** 2 / noise
    wide = np.exp(-np.minimum(u[:, :, 0] / 2 / far, 700.0)) / far
    table = np.log((1 - OUTLIER_FRACTION) * core + OUTLIER_FRACTION * wide)
    return (
        table,
        float(_LOG_U[0]),
        float(_LOG_U[1] - _LOG_U[0]),
        float(_LOG_X[0]),
        float(_LOG_X[1] - _LOG_X[0]),
    )


def _cargo_scale(data: FloatArray, table: tuple[FloatArray, float, float, float, float]) -> float:
    """Return the factor on the cargo that makes the muons' angles most likely."""
    out = np.empty(len(data))

    def loss(logarithm: float) -> float:
        kernel.log_densities(data, float(np.exp(logarithm)), *table, out)
        return -float(out.sum())

    limits = (float(np.log(SCALES[0])), float(np.log(SCALES[1])))
    found = minimize_scalar(loss, bounds=limits, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
