"""Layers without a window: where things are, in which colours, with which words."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from muscan.viewer import layers
from muscan.viewer.scan import load


def found(scan):
    return {options["name"]: (data, options, kind) for data, options, kind in layers.of_scan(scan)}


def test_a_folder_gives_every_layer_in_mm(folder):
    made = found(load([folder]))
    assert list(made) == [
        "scattering density", "uncertainty", "muon counts", "inspected space", "materials",
        "panels", "alerts", "alert labels",
    ]  # fmt: skip
    for _, options, _ in made.values():
        assert options["units"] == ("mm",) * 3
        assert options["axis_labels"] == ("z", "y", "x")
    hidden = [name for name, (_, options, _) in made.items() if options.get("visible") is False]
    assert hidden == ["uncertainty", "muon counts", "materials"]


def test_a_voxel_is_where_the_grid_says(volume):
    data, options, _ = layers.of_volume(volume)[0]
    index = (5, 9, 4)
    world = np.array(options["translate"]) + np.array(options["scale"]) * index[::-1]
    np.testing.assert_allclose(world[::-1], volume.grid.position(index))
    assert data[index[::-1]] == volume.values[index]
    np.testing.assert_allclose(options["translate"][::-1], volume.grid.origin)


def test_display_values_are_finite_and_otherwise_not_copied(volume):
    data = layers.display_values(volume)
    assert data[0, 0, 0] == 0
    assert np.isfinite(data).all()
    known = layers.Volume(
        np.ones((2, 3, 4), "f4"), volume.grid, "x", np.ones((2, 3, 4), "f4"),
        np.ones((2, 3, 4), "u4"),
    )  # fmt: skip
    assert np.shares_memory(layers.display_values(known), known.values)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 5.0, 80.0, 200.0])
def test_nothing_is_drawn_below_the_threshold(threshold):
    made = layers.colour_map(threshold)
    density, opacity = made["controls"] * 80, made["colors"][:, 3]
    assert (np.diff(made["controls"]) > 0).all()
    assert made["controls"][0] == 0
    assert made["controls"][-1] == 1
    assert (opacity[density < threshold - 1e-9] == 0).all()
    assert (opacity[density > threshold + 1e-9] > 0.3).all()
    assert (made["colors"] >= 0).all()
    assert (made["colors"] <= 1).all()


def test_box_edges_are_the_twelve_of_a_box():
    edges = layers.box_edges([0, 0, 0], [1, 2, 3])
    lengths = np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1)
    assert sorted(lengths) == [1] * 4 + [2] * 4 + [3] * 4
    assert len({tuple(sorted(map(tuple, edge))) for edge in edges}) == 12


def test_panels_are_outlined_in_their_places(bench):
    data, _, kind = layers.panels(bench)
    assert kind == "vectors"
    assert len(data) == 16
    assert sorted(set(data[:, 0, 0])) == [-700, -500, 500, 700]
    assert set(np.linalg.norm(data[:, 1], axis=1)) == {1000.0}


def test_alerts_say_material_mass_and_probability(report):
    boxes, labels = layers.of_alerts(report.alerts, {})
    assert len(boxes[0]) == 24
    texts = labels[1]["text"]["string"]["array"]
    assert texts == ["1  lead 80%, 43.6 kg", "2  lead 80%, 43.6 kg"]
    box = boxes[0][:12]
    low, high = np.array(report.alerts[0].extent_mm)
    ends = np.concatenate([box[:, 0], box.sum(axis=1)])[:, ::-1]
    np.testing.assert_allclose(ends.min(axis=0), low)
    np.testing.assert_allclose(ends.max(axis=0), high)


def test_a_dismissed_alert_is_grey_and_says_so(report):
    decided = {"bench-1-a": {"action": "dismissed"}}
    boxes, labels = layers.of_alerts(report.alerts, decided)
    assert labels[1]["text"]["string"]["array"][0].endswith("(dismissed)")
    first, second = boxes[1]["edge_color"][0], boxes[1]["edge_color"][12]
    assert np.ptp(first[:3]) == 0
    assert np.ptp(second[:3]) > 0.3


def test_no_alerts_make_empty_layers():
    boxes, labels = layers.of_alerts([], {})
    assert len(boxes[0]) == len(labels[0]) == 0


def test_hits_lie_on_their_panels(hits):
    data, options, _ = layers.of_hits(hits)
    panel = options["features"]["panel"]
    np.testing.assert_allclose(data[:, 0], hits.detector.centres[panel][:, 2])
    np.testing.assert_allclose(data[:, 2], hits.u[: len(data)], atol=1e-3)


def test_layers_need_neither_napari_nor_qt():
    code = (
        "import sys, muscan.viewer.layers, muscan.viewer.scan, muscan.viewer.probe, "
        "muscan.viewer.plugin, muscan.viewer.app;"
        "print([m for m in ('napari', 'qtpy', 'PySide6', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
