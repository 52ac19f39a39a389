"""Lines through nested bodies against closed forms and against dense sampling of points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscan.kernels import geometry as kernel
from muscan.model.material import load_materials
from muscan.model.pose import rotation_matrix
from muscan.model.scene import Scene, parse_scene
from muscan.model.solids import Body, VoxelMap
from muscan.simulation.world import bodies_to_geometry

NESTED = """
name = "nested"
[[body]]
name = "block"
material = "concrete"
size_mm = [400, 300, 500]
rotation_deg = [10, 20, 30]
[[body.body]]
name = "pipe"
shape = "cylinder"
material = "steel"
radius_mm = 80
height_mm = 280
axis = "x"
centre_mm = [20, 10, -60]
[[body.body.body]]
name = "bore"
shape = "cylinder"
material = "water"
radius_mm = 60
height_mm = 260
axis = "z"
[[body.body]]
name = "ball"
shape = "sphere"
material = "lead"
radius_mm = 70
centre_mm = [0, 0, 150]
[[body]]
name = "slab"
material = "aluminium"
size_mm = [600, 600, 20]
centre_mm = [0, 0, 400]
[[body]]
name = "resting on it"
material = "iron"
size_mm = [100, 100, 100]
centre_mm = [100, 0, 460]
"""

DATABASE = load_materials()


def contains(body: Body, points):
    """Whether points (n, 3) are in a body, its daughters included."""
    local = (points - body.centre) @ body.rotation
    if body.shape == "sphere":
        return np.linalg.norm(local, axis=1) <= body.half[0]
    if body.shape == "cylinder":
        across = np.hypot(local[:, 0], local[:, 1])
        return (across <= body.half[0]) & (np.abs(local[:, 2]) <= body.half[2])
    return (np.abs(local) <= body.half).all(axis=1)


def path_lengths(g, start, direction, length):
    """Walk a straight line as the transport does; return the length in each material."""
    lengths = np.zeros(int(g.bodies["material"].max(initial=0)) + 50)
    at, gone, steps = 0, 0.0, 0
    while gone < length:
        x, y, z = start + gone * direction
        leave = length - gone
        if at > 0:
            leave = min(leave, kernel.body_span(g.bodies[at], x, y, z, *direction)[1])
        if leave <= 0:
            at = int(g.bodies[at]["mother"])
            continue
        daughter, border = kernel.next_daughter(g.bodies, g.nodes, at, x, y, z, *direction, leave)
        material, step = int(g.bodies[at]["material"]), border
        if g.bodies[at]["kind"] == kernel.VOXELS:
            material, step = kernel.voxel_step(g.bodies[at], g.voxels, x, y, z, *direction, border)
        lengths[material] += step
        gone += step
        steps += 1
        assert steps < 1000
        if step < border:
            continue
        if daughter >= 0:
            at = daughter
        elif gone < length:
            at = int(g.bodies[at]["mother"])
    return lengths


def sampled_lengths(bodies, materials, start, direction, length, n=40_000):
    """The same from points along the line: the last body that holds a point is its own."""
    points = start + ((np.arange(n) + 0.5) * (length / n))[:, None] * direction
    owner = np.full(n, materials[0])
    for body, material in zip(bodies[1:], materials[1:], strict=True):
        owner[contains(body, points)] = material
    return np.bincount(owner, minlength=50) * (length / n)


def lines(seed, n):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        start = np.array([*rng.uniform(-300, 300, 2), 700.0])
        end = np.array([*rng.uniform(-300, 300, 2), -400.0])
        length = float(np.linalg.norm(end - start))
        yield start, (end - start) / length, length


def world(scene: Scene):
    medium = Body("world", "box", np.array([1000.0, 1000, 1000]), "air")
    return bodies_to_geometry(medium, scene.bodies, (), scene.materials(DATABASE))


def test_lengths_in_nested_bodies_are_those_of_sampled_points():
    scene = parse_scene(NESTED, "nested.toml")
    g, _ = world(scene)
    bodies = [Body("world", "box", np.full(3, 1e3), "air"), *scene.bodies]
    materials = g.bodies["material"]
    assert len(materials) == len(bodies)
    for start, direction, length in lines(1, 60):
        walked = path_lengths(g, start, direction, length)
        sampled = sampled_lengths(bodies, materials, start, direction, length)
        assert walked.sum() == pytest.approx(length)
        assert walked[:50] == pytest.approx(sampled, abs=0.4)


def test_lengths_in_a_voxel_map_are_those_of_sampled_points():
    rng = np.random.default_rng(5)
    ids = rng.integers(0, 3, (7, 5, 9)).astype(np.uint16)
    voxels = VoxelMap(ids, ("water", "iron", "lead"), (60.0, 80.0, 50.0))
    rotation = rotation_matrix((15, -25, 40))
    body = Body("map", "voxels", voxels.half, "air", np.array([30.0, -20, 100]), rotation,
                voxels=voxels)  # fmt: skip
    g, materials = world(Scene("map", (body,)))
    index = {material.name: i for i, material in enumerate(materials)}
    for start, direction, length in lines(2, 40):
        n = 40_000
        points = start + ((np.arange(n) + 0.5) * (length / n))[:, None] * direction
        local = (points - body.centre) @ rotation + voxels.half
        cell = np.floor(local / np.array(voxels.spacing)).astype(int)
        inside = ((cell >= 0) & (cell < ids.shape)).all(axis=1)
        owner = np.zeros(n, int)
        numbers = np.array([index[name] for name in voxels.materials])
        owner[inside] = numbers[ids[tuple(cell[inside].T)]]
        sampled = np.bincount(owner, minlength=50) * (length / n)
        walked = path_lengths(g, start, direction, length)
        assert walked[:50] == pytest.approx(sampled, abs=0.8)


def test_bodies_of_their_mothers_matter_are_invisible():
    text = """
    name = "stack"
    [[cartons]]
    name = "goods"
    count = [3, 2, 2]
    carton_mm = [100, 100, 100]
    material = "paper"
    """
    scene = parse_scene(text, "stack.toml")
    g, _ = world(scene)
    assert len(scene.bodies) == 13
    assert len(g.bodies) == 13  # the world and 12 cartons, without the space they take
    assert (g.bodies["mother"][1:] == 0).all()


def test_touching_bodies_leave_no_gap():
    scene = parse_scene(NESTED, "nested.toml")
    g, materials = world(scene)
    index = [material.name for material in materials]
    lengths = path_lengths(g, np.array([100.0, 0, 700]), np.array([0.0, 0, -1]), 305.0)
    assert lengths[index.index("iron")] == pytest.approx(100)
    assert lengths[index.index("aluminium")] == pytest.approx(15)
    assert lengths[index.index("air")] == pytest.approx(190)


coordinate = st.floats(-300, 300)
cosine = st.floats(-1, 1)


@settings(max_examples=200)
@given(
    point=st.tuples(coordinate, coordinate, coordinate),
    towards=st.tuples(cosine, cosine, cosine).filter(lambda d: np.linalg.norm(d) > 0.1),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
)
@pytest.mark.parametrize("shape", ["box", "cylinder", "sphere"])
def test_a_span_ends_on_the_surface(shape, point, towards, angles):
    half = np.full(3, 90.0) if shape == "sphere" else np.array([90.0, 90.0, 140.0])
    body = Body("b", shape, half, "iron", np.array([10.0, 20, 30]), rotation_matrix(angles))
    g, _ = world(Scene("one", (body,)))
    direction = np.array(towards) / np.linalg.norm(towards)
    enter, leave = kernel.body_span(g.bodies[1], *point, *direction)
    steps = np.linspace(-1000, 1000, 4001)
    inside = contains(body, np.array(point) + steps[:, None] * direction)
    if enter <= leave:
        assert inside.sum() * 0.5 == pytest.approx(leave - enter, abs=1.01)
        if leave - enter > 1e-3:
            middle = np.array(point) + (enter + leave) / 2 * direction
            assert contains(body, middle[None])[0]
    else:
        assert inside.sum() <= 1


def test_chords_in_closed_form():
    sphere = Body("s", "sphere", np.full(3, 50.0), "iron")
    g, _ = world(Scene("one", (sphere,)))
    enter, leave = kernel.body_span(g.bodies[1], 30.0, 0.0, 200.0, 0.0, 0.0, -1.0)
    assert (enter, leave) == pytest.approx((160.0, 240.0))  # √(50² − 30²) = 40
    box = Body(
        "b", "box", np.array([50.0, 50.0, 50.0]), "iron", rotation=rotation_matrix((0, 0, 45))
    )
    g, _ = world(Scene("one", (box,)))
    enter, leave = kernel.body_span(g.bodies[1], -200.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    assert leave - enter == pytest.approx(100 * np.sqrt(2))
