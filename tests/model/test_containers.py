"""Containers whose own matter is known."""

from __future__ import annotations

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.model.containers import container_of, container_spec, frame_boxes
from muscan.model.draw import draw_scene
from muscan.model.material import load_materials
from muscan.model.scene import load_scene

STEEL_G_CM3 = 7.8


def test_a_frame_is_the_posts_and_rails_of_the_scene():
    scene = draw_scene("fruit", 1)
    assert container_of(scene) == "20ft"
    boxes = list(frame_boxes("20ft", np.zeros(3), load_materials()))
    bodies = {
        body.name.split("/")[1]: body
        for body in scene.bodies
        if body.name.startswith("container/") and ("post" in body.name or "rail" in body.name)
    }
    assert {box.name.split("/")[1] for box in boxes} == set(bodies)
    for name, body in bodies.items():
        pieces = [box.bounds for box in boxes if box.name.split("/")[1] == name]
        assert np.min(pieces, axis=(0, 1)) == pytest.approx(body.centre - body.half, abs=1e-6)
        assert np.max(pieces, axis=(0, 1)) == pytest.approx(body.centre + body.half, abs=1e-6)
        volume = sum(np.prod(upper - lower) for lower, upper in pieces)
        assert volume == pytest.approx(8 * body.half.prod())


def test_a_frame_and_the_shell_weigh_what_containers_do():
    spec, tare = container_spec("20ft")
    boxes = frame_boxes("20ft", np.zeros(3), load_materials())
    frame = sum(np.prod(box.bounds[1] - box.bounds[0]) for box in boxes) * 1e-6 * STEEL_G_CM3
    assert 300 < frame < 700
    assert tare == pytest.approx(2200, rel=0.1)
    assert spec.frame


def test_what_is_in_no_container_has_none():
    assert container_of(load_scene("blocks")) == ""


def test_an_unknown_container_is_refused():
    with pytest.raises(InputError, match="no such container '20fd'"):
        container_spec("20fd")
