"""What is under the cursor: scattering density, likely materials, and the muons that saw it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muscan.identification.match import Candidates, candidates, posterior
from muscan.model.events import Scatters
from muscan.model.material import load_materials
from muscan.model.volume import MaterialMap, Volume

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """What a volume says of one voxel.

    Attributes
    ----------
    index : tuple of int
        Of the voxel, x y z.
    position : ndarray, shape (3,)
        Its centre [mm].
    density, sigma : float
        Scattering density and standard deviation [mrad²/cm]; NaN and inf where unknown.
    n_muons : int
        Muons that went through.
    likely : tuple of (str, float)
        Materials that this voxel alone allows, with probabilities, the most probable first.
    label : str
        What the classified volume says, neighbours taken into account; empty where there is none.
    """

    index: tuple[int, int, int]
    position: FloatArray
    density: float
    sigma: float
    n_muons: int
    likely: tuple[tuple[str, float], ...]
    label: str = ""

    def text(self) -> str:
        """Return the reading in two or three lines."""
        x, y, z = self.position
        place = f"({x:.0f}, {y:.0f}, {z:.0f}) mm, {self.n_muons} muons"
        if not np.isfinite(self.density):
            return f"{place}\nunknown: no muon went here"
        sigma = f" ± {self.sigma:.2g}" if np.isfinite(self.sigma) else ", uncertainty unknown"
        lines = [place, f"λ = {self.density:.3g}{sigma} mrad²/cm"]
        if self.likely:
            lines.append(", ".join(f"{name} {share:.0%}" for name, share in self.likely))
        if self.label:
            lines.append(f"with its neighbours: {self.label}")
        return "\n".join(lines)


def read_at(
    volume: Volume, position: ArrayLike, materials: MaterialMap | None = None, most: int = 4
) -> Reading | None:
    """Return what a volume says at a point, or None outside of it.

    Parameters
    ----------
    volume : Volume
        Scattering density.
    position : array_like, shape (3,)
        [mm].
    materials : MaterialMap, optional
        On the same grid.
    most : int
        How many materials to name.
    """
    fractional = (np.asarray(position, dtype=float) - volume.grid.origin) / volume.grid.spacing
    if not np.isfinite(fractional).all():
        return None
    i, j, k = np.rint(fractional).astype(int)
    if not all(0 <= n < size for n, size in zip((i, j, k), volume.grid.shape, strict=True)):
        return None
    density, sigma = float(volume.values[i, j, k]), float(volume.uncertainty[i, j, k])
    label = ""
    if materials is not None and materials.labels.shape == volume.values.shape:
        share = float(materials.probability[i, j, k])
        label = f"{materials.names[int(materials.labels[i, j, k])]} {share:.0%}"
    return Reading(
        index=(int(i), int(j), int(k)),
        position=volume.grid.position([i, j, k]),
        density=density,
        sigma=sigma,
        n_muons=int(volume.n_muons[i, j, k]),
        likely=_likely(density, sigma, most),
        label=label,
    )


def _likely(density: float, sigma: float, most: int) -> tuple[tuple[str, float], ...]:
    if not (np.isfinite(density) and np.isfinite(sigma) and sigma > 0):
        return ()
    kinds = _kinds()
    shares = posterior(kinds, np.array([density]), np.array([sigma]))[0]
    order = np.argsort(-shares, kind="stable")[:most]
    return tuple((kinds.names[n], float(shares[n])) for n in order if shares[n] >= 0.01)


@lru_cache(maxsize=1)
def _kinds() -> Candidates:
    return candidates(load_materials())


def brightest_on_ray(volume: Volume, start: ArrayLike, stop: ArrayLike) -> FloatArray | None:
    """Return the centre of the voxel with the highest value on a ray, as a 3D picture shows it.

    Parameters
    ----------
    volume : Volume
        Unknown voxels are passed over.
    start, stop : array_like, shape (3,)
        Ends of the ray [mm].

    Returns
    -------
    ndarray, shape (3,), or None
        [mm]; None if the ray meets no known voxel.
    """
    grid = volume.grid
    a = (np.asarray(start, dtype=float) - grid.origin) / grid.spacing
    b = (np.asarray(stop, dtype=float) - grid.origin) / grid.spacing
    steps = int(2 * np.abs(b - a).max()) + 2
    index = np.rint(a + np.linspace(0, 1, steps)[:, None] * (b - a)).astype(int)
    index = index[((index >= 0) & (index < np.array(grid.shape))).all(axis=1)]
    if not len(index):
        return None
    values = volume.values[tuple(index.T)]
    if np.isnan(values).all():
        return None
    return grid.position(index[int(np.nanargmax(values))])


def meeting(scatters: Scatters) -> tuple[FloatArray, FloatArray]:
    """Return the points at which incoming and outgoing track come closest.

    Where the two are nearly parallel, that is half-way down between the trackers.

    Returns
    -------
    near_in, near_out : ndarray, shape (n, 3)
        On the incoming and on the outgoing track [mm].
    """
    a, u = scatters.in_position.astype(float), scatters.in_direction.astype(float)
    b, v = scatters.out_position.astype(float), scatters.out_direction.astype(float)
    along = (u * v).sum(axis=1)
    apart = 1 - along**2
    w = b - a
    wu, wv = (w * u).sum(axis=1), (w * v).sum(axis=1)
    parallel = apart < 1e-6
    safe = np.where(parallel, 1.0, apart)
    s = np.where(parallel, wu / 2, (wu - along * wv) / safe)
    t = np.where(parallel, -wv / 2, (along * wu - wv) / safe)
    # Never behind a tracker: the crossing of two bent tracks is a guess, the trackers are not.
    s, t = np.clip(s, 0, np.maximum(wu, 0)), np.clip(t, -np.maximum(wv, 0), 0)
    return a + s[:, None] * u, b + t[:, None] * v


def tracks_through(scatters: Scatters, low: ArrayLike, high: ArrayLike) -> Scatters:
    """Return the muons whose incoming or outgoing piece goes through a box, most scattered first.

    Parameters
    ----------
    scatters : Scatters
        Pairs of tracks.
    low, high : array_like, shape (3,)
        Corners of the box [mm].
    """
    near_in, near_out = meeting(scatters)
    through = _cross(scatters.in_position.astype(float), near_in, low, high)
    through |= _cross(near_out, scatters.out_position.astype(float), low, high)
    chosen = scatters.take(np.flatnonzero(through))
    cosine = (chosen.in_direction.astype(float) * chosen.out_direction).sum(axis=1)
    return chosen.take(np.argsort(cosine, kind="stable"))


def _cross(
    start: FloatArray, stop: FloatArray, low: ArrayLike, high: ArrayLike
) -> NDArray[np.bool_]:
    """Tell which segments meet a box (the slab method)."""
    way = stop - start
    way = np.where(np.abs(way) < 1e-9, 1e-9, way)
    first = (np.asarray(low, dtype=float) - start) / way
    second = (np.asarray(high, dtype=float) - start) / way
    enter = np.minimum(first, second).max(axis=1)
    leave = np.maximum(first, second).min(axis=1)
    return (enter <= leave) & (leave >= 0) & (enter <= 1)
