"""Where simulated muons start: on the faces of a box around everything, at the true rate.

A muon that reaches any panel, of whatever tilt, enters the box through its top or a side, each
as often as the flux through that face says: I·cosθ through the top, I·sinθ·cosφ through a side.
So every surface inside sees its own right rate, and the live time is the number of muons over
the summed rate of the faces, without weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.kernels import source as kernel
from muscan.model.events import Muons
from muscan.model.flux import CHARGE_RATIO, FluxModel, Intensity, check_momentum_range, load_flux

N_LOG_P = 512
N_COS = 128


@dataclass(frozen=True)
class Source:
    """Muons that enter a box from above and from its sides.

    Attributes
    ----------
    tables : SourceTables
        What the kernel draws from.
    flux : FluxModel
        The flux that it follows.
    rate_hz : float
        Muons that enter the box in a second [1/s].
    """

    tables: kernel.SourceTables
    flux: FluxModel
    rate_hz: float

    def draw(self, n: int, seed: int | np.random.SeedSequence = 0) -> Muons:
        """Return ``n`` muons as they enter the box.

        Parameters
        ----------
        n : int
            Number of muons; they are ``n / rate_hz`` seconds' worth.
        seed : int or SeedSequence
            Where chance starts.
        """
        rng = np.random.Generator(np.random.PCG64(seed))
        momentum, charge = np.empty(n, np.float32), np.empty(n, np.int8)
        position, direction = np.empty((n, 3), np.float32), np.empty((n, 3), np.float32)
        kernel.draw_muons(rng, self.tables, momentum, charge, position, direction)
        return Muons(np.arange(n, dtype=np.uint64), momentum, charge, position, direction)


def make_source(
    bounds: NDArray[np.float64],
    flux: str | Path | FluxModel | Intensity = "guan2015",
    momentum_range: tuple[float, float] = (0.1, 10_000.0),
    *,
    rate_scale: float = 1.0,
    sides: bool = True,
) -> Source:
    """Return the source of muons that enter a box.

    Parameters
    ----------
    bounds : ndarray, shape (2, 3)
        Lowest and highest corner of the box [mm].
    flux : str, FluxModel or callable
        As in `muscan.model.flux.load_flux`.
    momentum_range : tuple of float
        Momenta that are drawn [GeV].
    rate_scale : float
        Multiplies the flux, to match a measured rate.
    sides : bool
        Whether muons enter by the sides too; if not, the top alone is a horizontal plane.

    Raises
    ------
    InputError
        If the range is reversed, the scale not positive, or the flux vanishes in the range.
    """
    check_momentum_range(*momentum_range)
    if not (np.isfinite(rate_scale) and rate_scale > 0):
        raise InputError("rate scale", f"{rate_scale} is not a factor", "give a positive number")
    model = load_flux(flux)
    per_area = _cell_rates(model, momentum_range)
    if not per_area.any(axis=1).all():
        raise InputError(model.name, "the flux is zero in the momentum range", "widen the range")
    alias = np.empty((*per_area.shape, 2), np.float32)
    scratch = np.empty((2, per_area.shape[1]), np.int32)
    for kind in range(2):
        kernel.fill_alias(per_area[kind].copy(), alias[kind], scratch[0], scratch[1])
    low, high = np.asarray(bounds, dtype=float)
    x, y, z = (high - low) / 1000
    areas = np.array([x * y, *np.array([y * z, y * z, x * z, x * z]) * sides])
    plane, wall = per_area.sum(axis=1) * rate_scale
    rates = areas * np.array([plane, wall, wall, wall, wall])
    tables = kernel.SourceTables(
        low=low,
        high=high,
        face_cdf=np.cumsum(rates) / rates.sum(),
        alias=alias,
        n_cos=N_COS,
        log_p=float(np.log(momentum_range[0])),
        log_p_step=float(np.log(momentum_range[1] / momentum_range[0]) / N_LOG_P),
        positive=CHARGE_RATIO / (1 + CHARGE_RATIO),
    )
    return Source(tables, model, float(rates.sum()))


def _cell_rates(model: FluxModel, momentum_range: tuple[float, float]) -> NDArray[np.float64]:
    """Rate per area [m⁻² s⁻¹] in each cell of (log p, cosθ): horizontal, then vertical."""
    x, w = np.polynomial.legendre.leggauss(3)
    node, weight = (x + 1) / 2, w / 2
    low, high = np.log(momentum_range)
    p_step, c_step = (high - low) / N_LOG_P, 1 / N_COS
    p = np.exp(low + p_step * (np.arange(N_LOG_P)[:, None] + node)).ravel()
    c = (c_step * (np.arange(N_COS)[:, None] + node)).ravel()
    per_log_p = model.intensity(p[:, None], c[None, :]) * p[:, None]
    # Over azimuth, a horizontal face gathers 2π·cosθ and a vertical one 2·sinθ.
    rates = []
    for projected in (2 * np.pi * c, 2 * np.sqrt(1 - c**2)):
        nodes = (per_log_p * projected).reshape(N_LOG_P, 3, N_COS, 3)
        cells = np.einsum("aibj,i,j->ab", nodes, weight, weight)
        rates.append(cells.ravel() * p_step * c_step)
    return np.array(rates)
