"""Scenes: places of nested bodies, building blocks, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscan import resources
from muscan.errors import InputError
from muscan.model.detector import load_detector, parse_detector
from muscan.model.material import load_materials
from muscan.model.pose import rotation_matrix
from muscan.model.scene import Scene, check_in_detector, load_scene, parse_scene
from muscan.model.solids import Body, make_voxel_map, overlap, sticks_out

DATABASE = load_materials()
BOX = '[[body]]\nname = "{}"\nmaterial = "iron"\nsize_mm = [{}, {}, {}]\ncentre_mm = [{}, {}, {}]\n'


def scene(*bodies, head='name = "test"\n'):
    return parse_scene(head + "\n".join(bodies), "test.toml")


def refused(*bodies, head='name = "test"\n'):
    with pytest.raises(InputError) as caught:
        scene(*bodies, head=head)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("test.toml: ")
    return str(caught.value)


def find(found, name):
    return next(body for body in found.bodies if body.name == name)


# --- places -------------------------------------------------------------------------------------


def test_a_daughter_is_placed_from_its_mother():
    turned = scene(
        BOX.format("mother", 400, 200, 200, 1000, 0, 0) + "rotation_deg = [0, 0, 90]",
        BOX.format("daughter", 100, 20, 20, 100, 0, 0) + 'inside = "mother"',
    )
    daughter = find(turned, "daughter")
    assert daughter.centre == pytest.approx(np.array([1000.0, 100.0, 0.0]))
    assert daughter.bounds()[1] - daughter.bounds()[0] == pytest.approx(np.array([20, 100, 20]))
    assert turned.bodies[daughter.mother].name == "mother"


def test_nested_tables_mean_the_same_as_inside():
    flat = scene(
        BOX.format("daughter", 100, 20, 20, 100, 0, 0) + 'inside = "mother"',
        BOX.format("mother", 400, 200, 200, 1000, 0, 0),
    )
    nested = scene(
        BOX.format("mother", 400, 200, 200, 1000, 0, 0),
        BOX.format("daughter", 100, 20, 20, 100, 0, 0).replace("[[body]]", "[[body.body]]"),
    )
    for one, other in zip(flat.bodies, nested.bodies, strict=True):
        assert (one.name, one.mother) == (other.name, other.mother)
        assert (one.centre == other.centre).all()


def test_base_is_the_middle_of_the_lowest_face():
    standing = scene(
        '[[body]]\nname = "pipe"\nshape = "cylinder"\naxis = "x"\nmaterial = "steel"\n'
        "radius_mm = 50\nheight_mm = 400\nbase_mm = [0, 0, -300]"
    )
    low, high = standing.bodies[0].bounds()
    assert low == pytest.approx(np.array([-200, -50, -300]))
    assert high == pytest.approx(np.array([200, 50, -200]))


@pytest.mark.parametrize("axis, direction", [("x", 0), ("y", 1), ("z", 2)])
def test_a_cylinder_stands_along_its_axis(axis, direction):
    body = scene(
        f'[[body]]\nname = "pipe"\nshape = "cylinder"\naxis = "{axis}"\nmaterial = "steel"\n'
        "radius_mm = 50\nheight_mm = 400"
    ).bodies[0]
    extent = body.bounds()[1] - body.bounds()[0]
    assert extent[direction] == pytest.approx(400)
    assert np.delete(extent, direction) == pytest.approx(np.array([100, 100]))


# --- building blocks ----------------------------------------------------------------------------


def test_mass_of_a_container_is_about_the_usual_tare():
    box = scene('[[container]]\nname = "box"')
    # 20-ft ISO boxes weigh 2.0 to 2.4 t; corner posts, cross members and doors are left out.
    assert 1500 < box.mass_kg(DATABASE) < 2400
    shell = find(box, "box").volume_mm3() - find(box, "box/inside").volume_mm3()
    assert shell == pytest.approx(6058 * 2438 * 2591 - 6053 * 2433 * 2586, rel=1e-9)


def test_masses_of_pallet_drum_and_cartons_in_closed_form():
    pallet = scene(
        '[[pallet]]\nname = "p"\nload_material = "water"\nload_size_mm = [1000, 800, 500]'
    )
    air = DATABASE["air"].density_g_cm3
    beside = 200 * 800 * 500 * 1e-6 * air
    assert pallet.mass_kg(DATABASE) == pytest.approx(400 + 1200 * 800 * 144 * 1e-6 * 0.18 + beside)
    drum = scene('[[drum]]\nname = "d"\ncontents = "water"\nfill = 0.5')
    inside = np.pi * 291.5**2 * 878 * 1e-6
    steel = (np.pi * 292.5**2 * 880 * 1e-6 - inside) * DATABASE["steel"].density_g_cm3
    assert drum.mass_kg(DATABASE) == pytest.approx(steel + inside / 2 * (1 + air))
    stack = scene(
        '[[cartons]]\nname = "c"\ncount = [3, 2, 4]\ncarton_mm = [100, 200, 300]\ngap_mm = 10\n'
        'material = "paper"\ndensity_g_cm3 = 0.5'
    )
    space = 320 * 410 * 1230 - 24 * 6e6
    assert stack.mass_kg(DATABASE) == pytest.approx(24 * 3.0 + space * 1e-6 * air)


def test_what_is_inside_a_container_pallet_or_drum_is_in_its_goods():
    found = scene(
        '[[container]]\nname = "box"',
        '[[pallet]]\nname = "p"\ninside = "box"\nbase_mm = [0, 0, -1265]\n'
        'load_material = "paper"\nload_size_mm = [1000, 800, 900]',
        '[[drum]]\nname = "d"\ninside = "box"\nbase_mm = [2000, 0, -1265]\ncontents = "water"',
        BOX.format("in goods", 50, 50, 50, 0, 0, 0) + 'inside = "p"',
        BOX.format("in water", 50, 50, 50, 0, 0, 0) + 'inside = "d"',
        BOX.format("in air", 50, 50, 50, -2000, 0, 0) + 'inside = "box"',
    )
    mothers = {body.name: found.bodies[body.mother].name for body in found.bodies[1:]}
    assert mothers["in goods"] == "p"
    assert mothers["in water"] == "d/contents"
    assert mothers["in air"] == "box/inside"
    assert mothers["box/floor"] == "box/inside"
    assert find(found, "p").material == "paper"


@pytest.mark.parametrize("name", sorted(resources.names("scenes")))
def test_shipped_scenes_fit_their_detectors(name):
    shipped = load_scene(name)
    check_in_detector(shipped, load_detector(shipped.detector))
    assert shipped.materials(DATABASE)
    assert shipped.description
    again = parse_scene(shipped.text, "stored")
    assert [body.name for body in again.bodies] == [body.name for body in shipped.bodies]


def test_the_container_hides_a_cube_in_tonnes_of_cargo():
    shipped = load_scene("container")
    cube = find(shipped, "hidden cube")
    assert cube.volume_mm3() == pytest.approx(1e6)
    assert shipped.bodies[cube.mother].material == "furniture"
    shell = Scene("shell", shipped.bodies[:3]).mass_kg(DATABASE)
    assert 5000 < shipped.mass_kg(DATABASE) - shell < 10_000


def test_the_blocks_are_those_of_the_reference_data():
    places = {body.material: tuple(body.centre) for body in load_scene("blocks").bodies}
    assert places == {
        "aluminium": (-600, -600, 0),
        "iron": (600, -600, 0),
        "lead": (-600, 600, 0),
        "uranium": (600, 600, 0),
        "water": (0, 0, 0),
    }


# --- overlap ------------------------------------------------------------------------------------


def test_touching_is_no_overlap():
    stacked = scene(
        BOX.format("a", 100, 100, 100, 0, 0, 0), BOX.format("b", 100, 100, 100, 0, 0, 100)
    )
    assert len(stacked.bodies) == 2


def test_overlap_names_both():
    text = refused(
        BOX.format("a", 100, 100, 100, 0, 0, 0), BOX.format("b", 100, 100, 100, 0, 0, 99)
    )
    assert "bodies 'a' and 'b' overlap" in text


def test_a_daughter_outside_its_mother_is_named():
    text = refused(
        BOX.format("a", 100, 100, 100, 0, 0, 0),
        BOX.format("b", 20, 20, 20, 45, 0, 0) + 'inside = "a"',
    )
    assert "body 'b' sticks 5 mm out of 'a'" in text


angle = st.floats(-180, 180)
place = st.floats(-120, 120)


@settings(max_examples=150, deadline=None)
@given(
    shapes=st.tuples(*[st.sampled_from(["box", "cylinder", "sphere"])] * 2),
    where=st.tuples(place, place, place),
    turns=st.tuples(angle, angle, angle),
)
def test_overlap_is_that_of_sampled_points(shapes, where, turns):
    half = {"box": [60.0, 40.0, 80.0], "cylinder": [50.0, 50.0, 70.0], "sphere": [55.0] * 3}
    a = Body("a", shapes[0], np.array(half[shapes[0]]), "iron")
    b = Body("b", shapes[1], np.array(half[shapes[1]]), "iron", np.array(where),
             rotation_matrix(turns))  # fmt: skip
    rng = np.random.default_rng(1)
    low, high = np.maximum(a.bounds()[0], b.bounds()[0]), np.minimum(a.bounds()[1], b.bounds()[1])
    shared = False
    if (low < high).all():
        points = rng.uniform(low, high, (3000, 3))
        both = [max(_depth(a, x), _depth(b, x)) for x in points]
        shared = min(both) < -0.1
    if shared:
        assert overlap(a, b)
    assert overlap(a, b) == overlap(b, a)
    # Bodies apart by a separating direction do not overlap.
    axis = b.centre / (np.linalg.norm(b.centre) + 1e-9)
    if np.linalg.norm(b.centre) > a.reach(axis) + b.reach(axis) + 0.1:
        assert not overlap(a, b)


def _depth(body, point):
    """How far a point is outside a body; negative inside."""
    local = (point - body.centre) @ body.rotation
    if body.shape == "sphere":
        return np.linalg.norm(local) - body.half[0]
    if body.shape == "cylinder":
        return max(np.hypot(*local[:2]) - body.half[0], abs(local[2]) - body.half[2])
    return np.max(np.abs(local) - body.half)


@pytest.mark.parametrize("mother", ["box", "cylinder", "sphere"])
@pytest.mark.parametrize("daughter", ["box", "cylinder", "sphere"])
def test_how_far_a_daughter_sticks_out(mother, daughter):
    outer = Body("m", mother, np.full(3, 100.0), "iron")
    centre = np.array([0.0, 0.0, 60.0])
    inner = Body("d", daughter, np.array([20.0, 20, 20]), "iron", centre)
    out = sticks_out(outer, inner)
    far = {"box": np.hypot(np.sqrt(800), 80), "cylinder": np.hypot(20, 80), "sphere": 80.0}
    expected = far[daughter] - 100 if mother == "sphere" else -20
    assert out == pytest.approx(expected, abs=0.1)


# --- what is refused ----------------------------------------------------------------------------


def test_unknown_keys_suggest_the_nearest():
    text = refused(BOX.format("a", 1, 1, 1, 0, 0, 0).replace("material", "matreial"))
    assert "matreial: unknown key; did you mean 'material'?" in text
    assert "line 4" in text


@pytest.mark.parametrize("size", ["-100", "0", "inf", "nan"])
def test_sizes_must_be_positive(size):
    assert "size_mm" in refused(BOX.format("a", size, 1, 1, 0, 0, 0))


def test_a_body_needs_the_keys_of_its_shape():
    ball = '[[body]]\nname = "a"\nshape = "sphere"\nmaterial = "iron"\n'
    assert "a sphere needs radius_mm" in refused(ball)
    assert "a sphere has no size_mm" in refused(ball + "radius_mm = 5\nsize_mm = [1, 1, 1]")


def test_names_and_mothers():
    one = BOX.format("a", 10, 10, 10, 0, 0, 0)
    assert "body 'a' stands twice" in refused(one, one)
    assert "inside the unknown 'contaner'; did you mean 'container'?" in refused(
        '[[container]]\nname = "container"', one + 'inside = "contaner"'
    )
    assert "is inside itself" in refused(one + 'inside = "a"')
    assert "not both" in refused(one + "base_mm = [0, 0, 0]")


def test_unknown_materials_suggest_the_nearest():
    wrong = scene(BOX.format("a", 1, 1, 1, 0, 0, 0).replace('"iron"', '"uraniun"'))
    with pytest.raises(InputError, match=r"body 'a' is of unknown material 'uraniun'.*'uranium'"):
        wrong.materials(DATABASE)
    with pytest.raises(InputError, match="the medium is of unknown material"):
        scene(head='name = "test"\nmedium = "ether-wind"\n').materials(DATABASE)


def test_materials_of_its_own():
    own = scene(
        '[[material]]\nname = "heavy water"\nformula = "H2O"\ndensity_g_cm3 = 1.11',
        '[[material]]\nname = "iron"\nelements = {Fe = 3, Ni = 1}\ndensity_g_cm3 = 8',
        '[[material]]\nname = "slurry"\nmixture = {water = 1, lead = 1}\ndensity_g_cm3 = 1.8',
        *(
            BOX.format(name, 10, 10, 10, 20 * i, 0, 0).replace('"iron"', f'"{name}"')
            for i, name in enumerate(("heavy water", "iron", "slurry"))
        ),
    )
    found = own.materials(DATABASE)
    assert found["iron"].composition == {"Fe": 0.75, "Ni": 0.25}
    assert found["heavy water"].radiation_length_g_cm2 == pytest.approx(
        DATABASE["water"].radiation_length_g_cm2
    )
    mixed = 0.5 / DATABASE["water"].radiation_length_g_cm2
    mixed += 0.5 / DATABASE["lead"].radiation_length_g_cm2
    assert 1 / found["slurry"].radiation_length_g_cm2 == pytest.approx(mixed)
    assert own.mass_kg(DATABASE) == pytest.approx(1e-3 * (1.11 + 8 + 1.8))


def test_wrong_materials_of_its_own():
    head = 'name = "test"\n[[material]]\nname = "x"\ndensity_g_cm3 = 1\n'
    assert "exactly one of" in refused(head=head)
    assert "exactly one of" in refused(head=head + 'formula = "Fe"\nelements = {Fe = 1}\n')
    assert "no such element 'Xx'" in refused(head=head + "elements = {Xx = 1}\n")
    body = BOX.format("a", 1, 1, 1, 0, 0, 0).replace('"iron"', '"x"')
    wrong = scene(body, head=head + "mixture = {watre = 1}\n")
    with pytest.raises(InputError, match=r"unknown material 'watre'.*'water'"):
        wrong.materials(DATABASE)


def test_no_such_scene():
    with pytest.raises(InputError, match="no such scene; did you mean 'container'"):
        load_scene("contaner")


def test_a_scene_outside_its_detector(bench):
    outside = scene(BOX.format("crate", 100, 100, 100, 380, 0, 0))
    with pytest.raises(InputError, match=r"body 'crate' .* is not within the space that bench"):
        check_in_detector(outside, bench)
    exempt = scene(BOX.format("wall", 100, 100, 100, 380, 0, 0) + "surroundings = true")
    check_in_detector(exempt, bench)


def test_a_panel_inside_a_body(bench):
    solid = scene(BOX.format("crate", 100, 100, 600, 0, 0, 240) + "surroundings = true")
    with pytest.raises(InputError, match="panel 'b' of bench is in body 'crate'"):
        check_in_detector(solid, bench)


def test_overlapping_panels():
    text = load_detector("blocks-lab").text.replace("1600.0]\n", "1595.0]\n", 1)
    crowded = parse_detector(text.replace("1900.0]\n", "1600.0]\n", 1), "crowded.toml")
    with pytest.raises(InputError, match="panels '0' and '1' overlap"):
        check_in_detector(Scene("empty"), crowded)


# --- voxel maps ---------------------------------------------------------------------------------


def test_a_voxel_map_from_a_file(tmp_path):
    ids = np.zeros((4, 5, 6), int)
    ids[1:3, 2, 3] = 1
    np.savez(tmp_path / "map.npz", ids=ids)
    text = (
        'name = "phantom"\n[[body]]\nname = "phantom"\nshape = "voxels"\nfile = "map.npz"\n'
        'materials = ["water", "lead"]\nvoxel_mm = [10, 10, 20]\nbase_mm = [0, 0, 0]'
    )
    found = parse_scene(text, tmp_path / "phantom.toml")
    assert found.bounds == pytest.approx(np.array([[-20, -25, 0], [20, 25, 120]]))
    lead = 2 * 2e-3 * DATABASE["lead"].density_g_cm3
    assert found.mass_kg(DATABASE) == pytest.approx(lead + 118 * 2e-3)
    assert found.material_names() == ["air", "water", "lead"]
    np.save(tmp_path / "map.npy", ids)
    alone = parse_scene(text.replace("map.npz", "map.npy"), tmp_path / "phantom.toml")
    np.testing.assert_array_equal(alone.bodies[0].voxels.ids, ids)
    np.savez(tmp_path / "other.npz", voxels=ids)
    for name in ("none.npz", "other.npz", "phantom.toml"):
        (tmp_path / "phantom.toml").write_text(text)
        with pytest.raises(
            InputError, match=r"neither an \.npy file, nor an \.npz file with an arr"
        ):
            parse_scene(text.replace("map.npz", name), tmp_path / "phantom.toml")


@pytest.mark.parametrize(
    "ids, spacing, problem",
    [
        (np.zeros((2, 2), int), (1, 1, 1), "of shape"),
        (np.zeros((2, 2, 2)), (1, 1, 1), "type float64"),
        (np.full((2, 2, 2), 3), (1, 1, 1), "name material 3 to 3"),
        (np.zeros((2, 2, 2), int), (1, -1, 1), "voxels of"),
    ],
)
def test_wrong_voxel_maps_are_refused(ids, spacing, problem):
    with pytest.raises(InputError, match=problem):
        make_voxel_map(ids, ["water"], spacing)
