"""Fixed matter: shares of voxels against closed forms, and what em makes of it."""

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.model.material import load_materials
from muscan.model.scene import parse_scene
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.survival import stopping_density
from muscan.model.volume import VoxelGrid
from muscan.reconstruction import reconstruct
from muscan.reconstruction.fixed import FixedMatter, rasterise

GRID = VoxelGrid.from_bounds([[-200, -200, -200], [200, 200, 200]], 50)


def scene(bodies):
    return parse_scene('name = "shell"\n' + bodies, "shell")


def test_a_thin_wall_is_exact():
    wall = """
[[body]]
name = "wall"
shape = "box"
material = "iron"
size_mm = [2, 100, 100]
centre_mm = [10, 0, 0]
"""
    iron = load_materials()["iron"]
    found = rasterise(scene(wall), GRID)
    expected = np.zeros(GRID.shape)
    expected[4, 3:5, 3:5] = 2 / 50
    assert found.scattering == pytest.approx(expected * iron.scattering_density)
    assert found.stopping == pytest.approx(expected * stopping_density(iron))


def test_a_daughter_takes_its_mothers_place():
    shell = """
[[body]]
name = "shell"
shape = "box"
material = "iron"
size_mm = [300, 300, 300]
[[body]]
name = "room"
inside = "shell"
shape = "box"
material = "air"
size_mm = [200, 200, 200]
"""
    found = rasterise(scene(shell), GRID).scattering
    iron = load_materials()["iron"].scattering_density
    assert found[3:5, 3:5, 3:5] == pytest.approx(0, abs=1e-9)
    total = found.sum() * GRID.voxel_volume_mm3
    assert total == pytest.approx(iron * (300.0**3 - 200.0**3))


@pytest.mark.parametrize(
    "shape, volume",
    [
        ('shape = "sphere"\nradius_mm = 120', 4 / 3 * np.pi * 120**3),
        ('shape = "cylinder"\nradius_mm = 100\nheight_mm = 260', np.pi * 100**2 * 260),
        ('shape = "box"\nsize_mm = [200, 100, 100]\nrotation_deg = [0, 0, 30]', 2e6),
    ],
)
def test_other_shapes_keep_their_volume(shape, volume):
    body = f'[[body]]\nname = "it"\nmaterial = "iron"\n{shape}\n'
    found = rasterise(scene(body), GRID).scattering
    iron = load_materials()["iron"].scattering_density
    assert found.sum() * GRID.voxel_volume_mm3 / iron == pytest.approx(volume, rel=0.02)
    assert found.max() <= iron * (1 + 1e-9)


def test_nothing_fixed_is_an_error():
    away = '[[body]]\nname = "far"\nshape = "box"\nmaterial = "iron"\nsize_mm = [9, 9, 9]\n'
    away += "centre_mm = [5000, 0, 0]\n"
    with pytest.raises(InputError, match="no body stands in the space"):
        rasterise(scene(away), GRID)


def test_em_keeps_what_is_fixed(toy):
    grid = VoxelGrid.from_bounds([[-300, -300, -200], [300, 300, 200]], 100)
    spectrum = sea_level_spectrum()
    rng = np.random.default_rng(2)
    known = np.zeros(grid.shape)
    known[:, :, 1] = 10.0
    load = known + 0.5
    muons = toy.straight(4000, 500, 350, 0.2, rng)
    scan, _ = toy.scatter(
        muons.take(np.abs(muons.in_position[:, :2]).max(axis=1) < 800),
        load, grid, spectrum, rng, moliere=True,
    )  # fmt: skip
    fixed = FixedMatter("layer", known, known / 2)
    image = reconstruct(scan, grid, "em", spectrum=spectrum, fixed=fixed)
    assert image.attributes["fixed"] == "layer"
    assert (image.values[image.n_muons > 0] > known[image.n_muons > 0]).all()
    assert np.array_equal(image.channels["fixed"], known.astype("f4"))
    excess = image.values - known
    inner = excess[1:5, 1:5]
    assert np.median(inner) == pytest.approx(0.5, rel=0.25)
    with pytest.raises(InputError, match="knows no fixed matter"):
        reconstruct(scan, grid, "poca", fixed=fixed)
