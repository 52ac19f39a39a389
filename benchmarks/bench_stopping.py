"""Stopping density of blocks: ``python -m benchmarks.bench_stopping [--minutes M] [--joint]``.

Two blocks at a time stand in the layout ``blocks-lab`` in muscan's own simulation, whose truth is
known. Each is fitted as one region; so is a piece of air. Printed beside the truth are the density
and its 68 % interval, and the muons lost behind each beside those that the true matter would lose.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

from muscan.model.detector import Detector, load_detector
from muscan.model.events import Tracks, pair_tracks
from muscan.model.material import load_materials
from muscan.model.scene import parse_scene
from muscan.model.survival import stopping_density
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction.stopping import StoppingImage
from muscan.simulation import Simulation
from muscan.tracking import find_tracks


class Block(NamedTuple):
    name: str
    material: str
    density_g_cm3: float | None
    size_mm: float


WATER = Block("water", "water", None, 600)
#: As much scattering as water has.
IRON = Block("loose iron", "iron", 0.382, 600)
PARAFFIN = Block("paraffin", "paraffin", None, 600)
ALUMINIUM = Block("aluminium", "aluminium", None, 300)
LEAD = Block("lead", "lead", None, 200)
LIGHT = Block("light goods", "water", 0.4, 600)
AIR = Block("air", "air", None, 600)
#: Blocks at x = -600 and 600 mm, and the seed.
SCENES = ((WATER, IRON, 1), (PARAFFIN, ALUMINIUM, 2), (LEAD, LIGHT, 3))
AIR_CENTRE = (0.0, 1200.0, 0.0)
VOXEL_MM = 50.0


def scene_text(first: Block, second: Block) -> str:
    text = 'name = "blocks"\n'
    for block, x in ((first, -600.0), (second, 600.0)):
        size = [block.size_mm] * 3
        text += f'[[body]]\nname = "{block.name}"\nshape = "box"\nmaterial = "{block.material}"\n'
        text += f"size_mm = {size}\ncentre_mm = [{x}, 0, 0]\n"
        if block.density_g_cm3 is not None:
            text += f"density_g_cm3 = {block.density_g_cm3}\n"
    return text


def simulated(first: Block, second: Block, detector: Detector, minutes: float, seed: int) -> Tracks:
    scene = parse_scene(scene_text(first, second), "blocks")
    simulation = Simulation(scene, detector, minutes=minutes, seed=seed)
    return Tracks.join([find_tracks(hits) for hits, _ in simulation.chunks()])


def cube(grid: VoxelGrid, centre: tuple[float, float, float], size: float) -> np.ndarray:
    places = np.meshgrid(*(grid.centres(axis) for axis in range(3)), indexing="ij")
    near = [np.abs(x - c) < size / 2 for x, c in zip(places, centre, strict=True)]
    return near[0] & near[1] & near[2]


def truth(block: Block) -> tuple[float, float]:
    """Return stopping density [g/cm³] and scattering density [mrad²/cm]."""
    material = load_materials()[block.material]
    if block.density_g_cm3 is not None:
        material = material.with_density(block.density_g_cm3)
    return stopping_density(material), material.scattering_density


def expected_lost(image: StoppingImage, masks: list, blocks: list[Block]) -> list[float]:
    """Return how many muons the true matter would keep from being seen again behind each block."""
    problem = image.problem
    shares = [image.shares(mask) for mask in masks]
    stopping, scattering = (
        sum(share * value for share, value in zip(shares, values, strict=True)) / 10
        for values in zip(*map(truth, blocks), strict=True)
    )
    problem.renew(stopping, np.maximum(scattering, 8e-5))
    problem.fit_efficiency(stopping)
    missing = 1 - problem.chances(stopping)
    return [float(missing[problem.integrals(share) > 0].sum()) for share in shares]


def scattering(tracks: Tracks, grid: VoxelGrid, detector: Detector) -> Volume:
    from muscan.reconstruction import reconstruct

    return reconstruct(pair_tracks(tracks), grid, "em", detector=detector)


def run(minutes: float, joint: bool) -> None:
    detector = load_detector("blocks-lab")
    grid = VoxelGrid.from_bounds(detector.bounds, VOXEL_MM)
    print(
        "| block | true | fit (68 %) | pull | lost | expected |" + (" with em |" if joint else "")
    )
    print("|---|---|---|---|---|---|" + ("---|" if joint else ""))
    inside, number = 0, 0
    for first, second, seed in SCENES:
        tracks = simulated(first, second, detector, minutes, seed)
        blocks = [first, second, AIR]
        places = ((-600.0, 0.0, 0.0), (600.0, 0.0, 0.0), AIR_CENTRE)
        masks = [
            cube(grid, place, block.size_mm) for place, block in zip(places, blocks, strict=True)
        ]
        images = [StoppingImage(tracks, grid)]
        if joint:
            volume = scattering(tracks, grid, detector)
            images.append(StoppingImage(tracks, grid, scattering=volume))
        fits = [[image.region(mask) for image in images] for mask in masks]
        expected = expected_lost(images[0], masks, blocks)
        for block, (fit, *others), lost in zip(blocks, fits, expected, strict=True):
            true = truth(block)[0]
            side = fit.high - fit.density if true > fit.density else fit.density - fit.low
            pull = (fit.density - true) / max(side, 1e-3)
            inside, number = inside + (fit.low <= true <= fit.high), number + 1
            line = f"| {block.name} | {true:.3g} | {fit.density:.3g} ({fit.low:.3g}…{fit.high:.3g})"
            line += f" | {pull:+.1f} | {fit.n_lost} | {lost:.0f} |"
            for other in others:
                line += f" {other.density:.3g} ({other.low:.3g}…{other.high:.3g}) |"
            print(line, flush=True)
    print(f"\n{inside} of {number} true densities in their 68 % intervals.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="exposure (default 2)")
    parser.add_argument("--quick", action="store_true", help="half a minute")
    parser.add_argument("--joint", action="store_true", help="with the scattering from em, too")
    options = parser.parse_args()
    run(0.5 if options.quick else options.minutes, options.joint)


if __name__ == "__main__":
    main()
