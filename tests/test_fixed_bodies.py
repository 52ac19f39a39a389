"""Bodies that a layout says always stand in it: simulated, and known to a reconstruction."""

import numpy as np
import pytest

import muscan
from muscan.cli import main
from muscan.errors import InputError
from muscan.model.detector import parse_detector
from muscan.model.layout_text import layout_text
from muscan.model.scene import fixed_scene, parse_scene, with_fixed
from muscan.simulation import Simulation

LAYOUT = """
name = "bench"
[inspection]
min_mm = [-200, -200, -200]
max_mm = [200, 200, 200]
[technology.plane]
size_mm = [600, 600]
resolution_mm = [0.3, 0.3]
"""
for _group, _sign in (("upper", 1), ("lower", -1)):
    for _number, _z in enumerate((300, 400, 500)):
        LAYOUT += f"""
[[panel]]
name = "{_group}{_number}"
group = "{_group}"
technology = "plane"
centre_mm = [0, 0, {_sign * _z}]
"""
BODIES = """
[[body]]
name = "table"
shape = "box"
material = "iron"
size_mm = [400, 400, 40]
base_mm = [0, 0, -200]
[[body]]
name = "hole"
inside = "table"
shape = "cylinder"
material = "air"
radius_mm = 100
height_mm = 40
"""
FIXED = BODIES.replace("[[body]]", "[[fixed]]")
FLOOR = """
[[fixed]]
name = "floor"
shape = "box"
material = "concrete"
size_mm = [3000, 3000, 200]
centre_mm = [0, 0, -700]
"""
BLOCK = """
name = "block"
[[body]]
name = "block"
shape = "box"
material = "lead"
size_mm = [100, 100, 100]
"""


@pytest.fixture(scope="module")
def layout():
    return parse_detector(LAYOUT + FIXED, "bench")


def test_what_stands_there_is_simulated(layout):
    plain = parse_detector(LAYOUT, "bench")
    both = Simulation(parse_scene(BLOCK + BODIES, "block"), plain, minutes=0.5, seed=3)
    fixed = Simulation(parse_scene(BLOCK, "block"), layout, minutes=0.5, seed=3)
    assert [body.name for body in fixed.scene.bodies] == ["block", "table", "hole"]
    assert fixed.scene.text == BLOCK
    for (one, _), (other, _) in zip(both.chunks(), fixed.chunks(), strict=True):
        for name, column in one.columns().items():
            np.testing.assert_array_equal(getattr(other, name), column)


def test_a_body_of_the_same_name_takes_its_place(layout):
    own = BLOCK + BODIES.split('[[body]]\nname = "hole"')[0].replace("iron", "aluminium")
    found = with_fixed(parse_scene(own, "block"), layout)
    assert [(body.name, body.material) for body in found.bodies] == [
        ("block", "lead"), ("table", "aluminium"),
    ]  # fmt: skip
    other = own.replace("table", "desk")
    with pytest.raises(InputError, match="'desk' and 'table' overlap"):
        with_fixed(parse_scene(other, "block"), layout)


def test_a_layout_keeps_its_bodies_as_text(layout):
    again = parse_detector(layout_text(layout), "again")
    bodies = (fixed_scene(detector).bodies for detector in (layout, again))
    for one, other in zip(*bodies, strict=True):
        assert (one.name, one.material, one.mother) == (other.name, other.material, other.mother)
        np.testing.assert_array_equal(one.centre, other.centre)
        np.testing.assert_array_equal(one.half, other.half)
    assert fixed_scene(parse_detector(LAYOUT, "bench")) is None


@pytest.mark.parametrize(
    "wrong, message",
    [
        ('shape = "cube"', "fixed"),
        ('shape = "voxels"\nfile = "a.npz"\nmaterials = ["air"]\nvoxel_mm = [1, 1, 1]', "voxel"),
        ('shape = "box"\nmaterial = "iron"\nsize_m = [1, 1, 1]', "size_mm"),
    ],
)
def test_wrong_bodies_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        parse_detector(f'{LAYOUT}\n[[fixed]]\nname = "a"\n{wrong}\n', "bench")


def test_a_reconstruction_knows_what_stands_there(layout, tmp_path):
    simulation = Simulation(parse_scene(BLOCK, "block"), layout, minutes=2, seed=3)
    hits = muscan.simulate(parse_scene(BLOCK, "block"), detector=layout, minutes=2, seed=3)
    assert len(simulation.scene.bodies) == 3
    tracks = muscan.track(hits)
    path = tmp_path / "table.toml"
    path.write_text('name = "table"\n' + BODIES)
    options = {"method": "em", "voxel": 50, "iterations": 2, "smoothing": 1.0}
    known = muscan.reconstruct(tracks, **options)
    # The same bodies by --fixed add nothing: their names are the same.
    given = muscan.reconstruct(tracks, fixed=path, **options)
    table = known.channels["fixed"]
    np.testing.assert_array_equal(given.channels["fixed"], table)
    np.testing.assert_array_equal(given.values, known.values)
    iron = muscan.load_materials()["iron"].scattering_density
    assert table[0, 0, 0] == pytest.approx(iron * 40 / 50)
    # Of round bodies to 1/8 of a voxel at their faces.
    assert table[3:5, 3:5, 0].max() < 0.1 * iron
    assert (table[:, :, 2:] == 0).all()
    # What knows no fixed matter does without.
    assert "fixed" not in muscan.reconstruct(tracks, method="poca", voxel=50).channels


def test_what_stands_elsewhere_is_simulated_alone(tmp_path, capsys):
    path = tmp_path / "bench.toml"
    path.write_text(LAYOUT + FLOOR)
    hits = muscan.simulate(parse_scene(BLOCK, "block"), detector=path, minutes=0.5)
    volume = muscan.reconstruct(muscan.track(hits), method="em", voxel=100, iterations=1)
    assert "fixed" not in volume.channels
    with pytest.raises(SystemExit) as stopped:
        main(["detectors", "check", str(path)])
    assert stopped.value.code == 0
    assert "stands there always: floor" in capsys.readouterr().out
    path.write_text(LAYOUT + FLOOR.replace("-700", "-450"))
    with pytest.raises(SystemExit) as stopped:
        main(["detectors", "check", str(path)])
    assert stopped.value.code == 2
    assert "lower" in capsys.readouterr().err
