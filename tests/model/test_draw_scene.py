"""Scenes drawn from templates: the same for a seed, whole, and with their truth."""

import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscan.errors import InputError
from muscan.model.detector import load_detector
from muscan.model.draw import draw_scene, template_names, threat_names
from muscan.model.material import load_materials
from muscan.model.scene import check_in_detector, load_scene, parse_scene
from muscan.model.solids import overlap, sticks_out
from muscan.model.toml_writer import to_toml
from muscan.model.truth import scene_truth

DATABASE = load_materials()
IN_CONTAINERS = (
    "ball-bearings", "beverages", "cement", "clothing", "fruit", "household", "mixed-relief",
    "ore", "steel-coils", "tobacco",
)  # fmt: skip


def write(tmp_path, text):
    path = tmp_path / "template.toml"
    path.write_text('name = "test"\n' + text, encoding="utf-8")
    return path


def test_the_shipped_templates_are_those_of_customs_work():
    others = {"car", "parcel", "suitcase-liquids"}
    assert set(template_names()) == set(IN_CONTAINERS) | others
    assert all(threat_names(name) for name in template_names())


@pytest.mark.parametrize("name", sorted(template_names()))
def test_every_threat_fits_with_every_seed(name):
    for seed in range(3):
        benign = draw_scene(name, seed)
        assert benign.threats == ()
        check_in_detector(benign, load_detector(benign.detector))
        for threat in threat_names(name):
            scene = draw_scene(name, seed, threat)
            check_in_detector(scene, load_detector(scene.detector))
            assert scene.bodies[: len(benign.bodies)] != ()
            assert {body.name for body in benign.bodies} < {body.name for body in scene.bodies}
            assert all(hidden.startswith(threat) for hidden in scene.threats)


@pytest.mark.parametrize("name", IN_CONTAINERS)
def test_loads_of_containers_weigh_what_such_loads_weigh(name):
    truths = [scene_truth(draw_scene(name, seed), DATABASE) for seed in range(6)]
    loads = [truth.load_kg for truth in truths]
    assert all(4000 < load < 22_000 for load in loads)
    assert np.ptp(loads) > 100
    # Hapag-Lloyd, Container Specification (2019): 2200 to 2400 kg.
    assert all(2200 < truth.tare_kg < 2250 for truth in truths)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(["steel-coils", "car", "fruit"]))
def test_a_hidden_body_is_inside_its_mother_and_in_nothing_else(seed, name):
    scene = draw_scene(name, seed, threat=True)
    for hidden in scene.threats:
        index = next(i for i, body in enumerate(scene.bodies) if body.name == hidden)
        body = scene.bodies[index]
        assert sticks_out(scene.bodies[body.mother], body) < 0.02
        sisters = [b for i, b in enumerate(scene.bodies) if b.mother == body.mother and i != index]
        assert not any(overlap(body, sister) for sister in sisters)


def test_the_same_seed_gives_the_same_scene_and_another_another():
    one, same, other = (draw_scene("fruit", seed, threat=True) for seed in (5, 5, 6))
    assert one.text == same.text
    assert one.text != other.text


def test_the_drawn_text_is_the_scene():
    drawn = draw_scene("steel-coils", 3, "uranium")
    again = parse_scene(drawn.text, "again.toml")
    assert again.threats == drawn.threats
    assert scene_truth(again, DATABASE).total_kg == scene_truth(drawn, DATABASE).total_kg
    for one, two in zip(again.bodies, drawn.bodies, strict=True):
        assert np.array_equal(one.centre, two.centre)


def test_truth_of_a_shielded_cube():
    truth = scene_truth(draw_scene("ore", 1, "uranium"), DATABASE)
    (hidden,) = truth.threats
    lead, uranium = DATABASE["lead"], DATABASE["uranium"]
    assert hidden.size_mm == pytest.approx([160, 160, 160])
    sides = (8.0, 9.0, 10.0)
    masses = [uranium.density_g_cm3 * a**3 + lead.density_g_cm3 * (16**3 - a**3) for a in sides]
    assert min(abs(hidden.mass_kg - 1e-3 * mass) for mass in masses) < 0.01
    assert hidden.materials == ("lead", "uranium")
    assert hidden.categories == ("radioactive-shielding", "special-nuclear")
    assert lead.scattering_density < hidden.scattering_density < uranium.scattering_density


def test_rest_lies_on_what_is_below(tmp_path):
    path = write(
        tmp_path,
        '[[body]]\nname = "room"\nmaterial = "air"\nsize_mm = [1000, 1000, 1000]\n'
        '[[body]]\nname = "table"\ninside = "room"\nmaterial = "wood"\nsize_mm = [999, 999, 200]\n'
        'centre_mm = [0, 0, { uniform = [-400, -400] }]\n'
        '[[threat]]\nname = "cube"\ninside = ["room"]\nrest = true\n'
        'body = { material = "lead", size_mm = [100, 100, 100] }\n',
    )  # fmt: skip
    for seed in range(5):
        (hidden,) = scene_truth(draw_scene(path, seed, threat=True), DATABASE).threats
        assert hidden.centre_mm[2] == pytest.approx(-250, abs=3)


def test_random_values_stay_in_their_limits(tmp_path):
    path = write(
        tmp_path,
        '[let]\nkind = { choose = [{ m = "iron", a = 100 }, { m = "lead", a = 200 }] }\n'
        '[[rows]]\nname = "cube"\nbase_mm = [0, 0, 0]\ncount = [{ whole = [1, 3] }, 2, 1]\n'
        "pitch_mm = [500, 500, 0]\njitter_mm = [10, 0, 0]\n"
        '[[rows.unit]]\nbody = { material = "$kind.m", size_mm = ["$kind.a", '
        "{ uniform = [50, 60] }, 40] }\n",
    )
    counts, kinds = set(), set()
    for seed in range(30):
        bodies = draw_scene(path, seed).bodies
        counts.add(len(bodies))
        kinds |= {(body.material, float(body.half[0])) for body in bodies}
        assert all(25 <= body.half[1] <= 30 for body in bodies)
        assert all(body.bounds()[0][2] == pytest.approx(0) for body in bodies)
    assert counts == {2, 4, 6}
    assert kinds == {("iron", 50.0), ("lead", 100.0)}


@pytest.mark.parametrize(
    "text, said",
    [
        ("x = { uniform = [2, 1] }", "the lower limit comes first"),
        ('[[rows]]\nname = "a"\nbase_mm = [0,0,0]\ncount = [0,1,1]\npitch_mm = [1,1,1]\n'
         '[[rows.unit]]\nbody = {}', "each count is 1 to 100"),
        ('[[rows]]\nname = "a"\nbase_mm = [0,0,0]\ncount = [1,1,1]\npich_mm = [1,1,1]\n'
         '[[rows.unit]]\nbody = {}', "did you mean 'pitch_mm'"),
        ('[[rows]]\nname = "a"\nbase_mm = [0,0,0]\ncount = [1,1,1]\npitch_mm = [1,1,1]\n'
         '[[rows.unit]]\nbody = { name = "b" }', "name of a unit follows from its row"),
        ('[let]\na = { choose = [1, 2], weights = [1] }', "one weight for each choice"),
        ('[let]\nsize = 1\n[[body]]\nname = "a"\nmaterial = "iron"\nsize_mm = "$sise"',
         "did you mean 'size'"),
    ],
)  # fmt: skip
def test_wrong_templates_are_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(InputError) as caught:
        draw_scene(write(tmp_path, text), 0)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_threat_that_fits_nowhere_is_said(tmp_path):
    path = write(
        tmp_path,
        '[[body]]\nname = "box"\nmaterial = "wood"\nsize_mm = [{ uniform = [90, 95] }, 100, 100]\n'
        '[[threat]]\nname = "cube"\ninside = ["box"]\n'
        'body = { material = "lead", size_mm = [100, 100, 100] }\n',
    )
    with pytest.raises(InputError, match="'cube' fits into none of 1 bodies"):
        draw_scene(path, 0, threat=True)
    with pytest.raises(InputError, match="did you mean 'cube'"):
        draw_scene(path, 0, threat="cub")


def test_scenes_without_chance_are_drawn_as_they_are():
    assert draw_scene("container", 7).text == load_scene("container").text
    with pytest.raises(InputError, match="no \\[\\[threat\\]\\]"):
        draw_scene("container", 7, threat=True)
    assert load_scene("fruit", 4).text == draw_scene("fruit", 4).text
    with pytest.raises(InputError, match="did you mean 'fruit'"):
        draw_scene("friut", 0)


def test_a_threat_that_is_no_body_is_refused():
    body = '[[body]]\nname = "cube"\nmaterial = "lead"\nsize_mm = [10, 10, 10]\n'
    assert parse_scene(f'name = "a"\nthreats = ["cube"]\n{body}', "a.toml").threats == ("cube",)
    with pytest.raises(InputError, match="no body is called 'cub'; did you mean 'cube'"):
        parse_scene(f'name = "a"\nthreats = ["cub"]\n{body}', "a.toml")


json_like = st.recursive(
    st.text(max_size=8) | st.integers(-1000, 1000) | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=5), json_like, max_size=4))
def test_written_toml_reads_back(data):
    assert tomllib.loads(to_toml(data)) == data
