"""The iron-barrel file of muograph 0.1.22: its layout, and where its bodies stand.

The file (Geant4 10.07) comes with a sentence, "a barrel of iron containing cubes of uranium, lead
and iron, and cubes of uranium, lead and iron outside it", and without a geometry. `BODIES` were
fitted to it with the energies in the file, which no method that is compared is given (`fit`):

    python -m benchmarks.iron_barrel barrel_and_cubes_scattering.csv

A body is the box for which the angles, scaled by momentum, are most likely given the length of
each muon's straight line inside it. Only lines and angles enter, no vertices and no image.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.stats import rankdata

import muscan
from benchmarks.scaling import numpy_vertices
from muscan.model.detector import Detector, parse_detector
from muscan.model.events import Hits, Scatters, pair_tracks
from muscan.model.volume import VoxelGrid
from muscan.units import MUON_MASS_GEV

FloatArray = np.ndarray

FILE = "data/iron_barrel/barrel_and_cubes_scattering.csv"
PLANES_MM = (-100.0, -400.0, -700.0, -1700.0, -2000.0, -2300.0)
BOUNDS_MM = np.array([[-500.0, -300.0, -1500.0], [500.0, 300.0, -900.0]])


@dataclass(frozen=True)
class Body:
    """A box: material by its measured density, centre and size [mm]."""

    name: str
    material: str
    centre: tuple[float, float, float]
    size: tuple[float, float, float]


#: Results of `fit`, rounded to 5 mm; its edges agree to 1.5 mm across. Along z it finds the inner
#: boxes 143 to 151 mm high and the outer ones 71 to 76 mm, which are taken for cubes as they are 80
#: mm wide. The materials are from the densities λ of the boxes with momenta measured
#: (`muscan.reconstruction.region`): 66, 38, 76 inside; 13, 71, 43 mrad²/cm outside, where iron,
#: uranium and lead have 14, 79 and 45.
BODIES = (
    Body("inside 1", "uranium", (-200, 0, -1200), (70, 120, 150)),
    Body("inside 2", "lead", (0, 0, -1200), (70, 120, 150)),
    Body("inside 3", "uranium", (250, 0, -1200), (120, 70, 150)),
    Body("outside 1", "iron", (-150, 250, -1200), (80, 80, 80)),
    Body("outside 2", "uranium", (0, 250, -1200), (80, 80, 80)),
    Body("outside 3", "lead", (150, 250, -1200), (80, 80, 80)),
)


def layout(resolution_mm: float) -> Detector:
    """Return six planes of nothing where the file has its hits."""
    text = f"""
name = "iron-barrel"
[inspection]
min_mm = {BOUNDS_MM[0].tolist()}
max_mm = {BOUNDS_MM[1].tolist()}
[technology.plane]
size_mm = [1300.0, 1300.0]
thickness_mm = 0.0
material = "air"
resolution_mm = [{resolution_mm}, {resolution_mm}]
"""
    for number, z in enumerate(PLANES_MM):
        text += f"""
[[panel]]
name = "{number}"
group = "{"upper" if number < 3 else "lower"}"
technology = "plane"
centre_mm = [0.0, 0.0, {z}]
"""
    return parse_detector(text, "iron-barrel")


def write_mapping(path: Path, momentum: bool) -> Path:
    """Write the mapping of the file's columns for the ``csv`` driver; its first has no name."""
    text = 'momentum = "E"\nmomentum_unit = "MeV"\n' if momentum else ""
    for number in range(len(PLANES_MM)):
        text += f'[[panel]]\npanel = {number}\nx = "X{number}"\ny = "Y{number}"\nz = "Z{number}"\n'
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path, resolution_mm: float, momentum: bool = False) -> Hits:
    """Read the file as any user would, by a mapping and a layout."""
    with tempfile.TemporaryDirectory() as folder:
        mapping = write_mapping(Path(folder) / "mapping.toml", momentum)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the energy is not read, which is meant
            hits = muscan.import_hits(path, mapping=mapping, detector=layout(resolution_mm))
    assert isinstance(hits, Hits)
    return hits


def truth(
    grid: VoxelGrid, material: str | None, grow: float = 0.0, shift: tuple[float, ...] = (0, 0, 0)
) -> np.ndarray:
    """Return the voxels of which at least half is in a body of a material, or in any."""
    share = np.zeros(grid.shape)
    for body in BODIES:
        if material not in (None, body.material):
            continue
        parts = []
        for axis in range(3):
            edges = grid.lower[axis] + grid.spacing[axis] * np.arange(grid.shape[axis] + 1)
            middle, half = body.centre[axis] + shift[axis], body.size[axis] / 2 + grow
            overlap = np.minimum(edges[1:], middle + half) - np.maximum(edges[:-1], middle - half)
            parts.append(np.maximum(overlap, 0.0) / grid.spacing[axis])
        share += np.einsum("i,j,k", *parts)
    return np.asarray(share >= 0.5)


def auc(values: FloatArray, inside: np.ndarray) -> float:
    """Return the probability that a voxel inside has more than one outside; ties count half."""
    ranks = rankdata(np.nan_to_num(values.astype(float)).ravel())[inside.ravel()]
    n = len(ranks)
    return float((ranks.sum() - n * (n + 1) / 2) / (n * (inside.size - n)))


def auc_range(values: FloatArray, grid: VoxelGrid, material: str | None) -> tuple[float, float]:
    """Return the least and largest AUC with the bodies grown, shrunk or moved by 10 mm."""
    moved = [tuple(sign * 10.0 * (axis == k) for k in range(3))
             for axis in range(3) for sign in (1, -1)]  # fmt: skip
    masks = [truth(grid, material, grow) for grow in (10.0, -10.0)]
    masks += [truth(grid, material, shift=shift) for shift in moved]
    found = [auc(values, mask) for mask in masks if mask.any()]
    return min(found), max(found)


@dataclass(frozen=True)
class _Lines:
    """Muons as straight lines from the top of the volume to its bottom, and what they scatter.

    start, way : (n, 3) top of the line [mm] and from there to its bottom
    angles : (n, 2) in two planes [mrad]; power : (n,) (p0/βp)² with p0 = 3 GeV
    """

    start: FloatArray
    way: FloatArray
    angles: FloatArray
    power: FloatArray

    def take(self, rows: np.ndarray) -> _Lines:
        return _Lines(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def chords_cm(self, low: FloatArray, high: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            first, second = (low - self.start) / self.way, (high - self.start) / self.way
        begin = np.minimum(first, second).max(axis=1).clip(0, 1)
        end = np.maximum(first, second).min(axis=1).clip(0, 1)
        return np.maximum(end - begin, 0) * np.linalg.norm(self.way, axis=1) / 10


def _lines(scatters: Scatters, least_momentum: float) -> _Lines:
    p, u, q, w = (
        np.asarray(column, float)
        for column in (
            scatters.in_position,
            scatters.in_direction,
            scatters.out_position,
            scatters.out_direction,
        )
    )
    # The energy is taken as kinetic, as muograph's reader of ROOT files does.
    kinetic = np.asarray(scatters.momentum, float)
    momentum = np.sqrt(kinetic**2 + 2 * kinetic * MUON_MASS_GEV)
    top = p + u * ((BOUNDS_MM[1, 2] - p[:, 2]) / u[:, 2])[:, None]
    bottom = q + w * ((BOUNDS_MM[0, 2] - q[:, 2]) / w[:, 2])[:, None]
    e1 = np.cross(u, [0.0, 1.0, 0.0])
    e1 /= np.linalg.norm(e1, axis=1)[:, None]
    angles = 1e3 * np.stack([(w * e1).sum(axis=1), (w * np.cross(u, e1)).sum(axis=1)], axis=1)
    power = 9.0 * (momentum**2 + MUON_MASS_GEV**2) / momentum**4
    return _Lines(top, bottom - top, angles, power).take(momentum > least_momentum)


def fit(scatters: Scatters, body: Body, least_momentum: float = 5.0) -> FloatArray:
    """Return the edges of the most likely box near a body, shape (2, 3) [mm].

    The angles have Student's distribution with six degrees of freedom and the width that the
    box's length, and a common rest along the line, give them; all of it is fitted.
    """
    lines = _lines(scatters, least_momentum)
    centre, half = np.array(body.centre, float), np.array(body.size) / 2
    at = lines.start + lines.way * ((centre[2] - lines.start[:, 2]) / lines.way[:, 2])[:, None]
    near = (np.abs(at - centre)[:, :2] < half[:2] + 55).all(axis=1)
    # The barrel's wall is at |y| = 190 mm.
    near &= np.abs(at[:, 1]) < 150 if abs(centre[1]) < 150 else at[:, 1] > 205
    lines = lines.take(near)
    total = np.linalg.norm(lines.way, axis=1) / 600

    def cost(x: FloatArray) -> float:
        if (x[3:6] - x[:3] < 20).any():
            return 1e9
        density, rest, along = np.exp(x[6:])
        width = lines.power * (density * lines.chords_cm(x[:3], x[3:6]) + rest + along * total)
        width += 0.3**2
        tail = np.log1p((lines.angles**2).sum(axis=1) / (6 * width))
        return float((np.log(width) + 4 * tail).sum())

    x = np.concatenate([centre - half, centre + half, np.log([40.0, 1.0, 1.0])])
    steps = np.diag([15.0] * 6 + [0.5] * 3)
    for sign in (1, -1, 1, -1):
        start = np.vstack([x, x + sign * steps])
        options = {"initial_simplex": start, "maxfev": 4000, "xatol": 0.05, "fatol": 0.02}
        x = minimize(cost, x, method="Nelder-Mead", options=options).x
    return x[:6].reshape(2, 3)


def vertex_heights(scatters: Scatters, body: Body) -> tuple[float, float]:
    """Return mean and spread of the vertices' z in a body's core [mm], 5 to 30 GeV.

    Weighted by the square of angle times momentum, of which the largest 2 % are cut.
    """
    points, angles = numpy_vertices(scatters)
    momentum = np.asarray(scatters.momentum, float)
    offset = np.abs(points - body.centre)
    core = np.array([0.42 * body.size[0], 0.42 * body.size[1], 130.0])
    inside = (offset < core).all(axis=1) & (momentum > 5) & (momentum < 30)
    weight = (angles * momentum)[inside] ** 2
    weight = np.minimum(weight, np.quantile(weight, 0.98))
    z = points[inside, 2]
    mean = float(np.average(z, weights=weight))
    return mean, float(np.sqrt(np.average((z - mean) ** 2, weights=weight)))


def main() -> None:
    tracks = muscan.track(read(Path(sys.argv[1]), 0.1, momentum=True))
    scatters = pair_tracks(tracks)
    for body in BODIES:
        low, high = fit(scatters, body)
        edges = ", ".join(f"{a:.1f} … {b:.1f}" for a, b in zip(low, high, strict=True))
        mean, spread = vertex_heights(scatters, body)
        print(f"{body.name} ({body.material}): x, y, z {edges} mm; "
              f"vertices at z {mean:.1f} mm, spread {spread:.1f} mm")  # fmt: skip


if __name__ == "__main__":
    main()
