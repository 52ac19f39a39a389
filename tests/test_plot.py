"""Pictures: that what is drawn is the data, with units on the axes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscan import plot
from muscan.errors import InputError
from muscan.model.volume import Volume, VoxelGrid


@pytest.fixture
def volume() -> Volume:
    grid = VoxelGrid(np.array([-90.0, -40.0, 5.0]), np.array([20.0, 20.0, 10.0]), (10, 5, 8))
    values = np.full(grid.shape, 0.7, "f4")
    values[2, 3, 4] = 79.0
    values[9, 0, 0] = np.nan
    return Volume(values, grid, "poca", values, np.ones(grid.shape, "u4"))


@given(st.floats(0, 80))
def test_the_scale_can_be_undone(density):
    place = float(plot.to_scale(density))
    assert 0 <= place <= 1
    assert float(plot.from_scale(place)) == pytest.approx(density, abs=1e-9)


def test_the_scale_grows_and_spreads_light_goods():
    density = np.linspace(0, 80, 500)
    assert (np.diff(plot.to_scale(density)) > 0).all()
    water, concrete = plot.to_scale([0.69, 2.2])
    assert concrete - water > 0.1


def test_material_ticks_are_25_over_x0():
    x0_cm = {"water": 36.08, "concrete": 11.55, "iron": 1.757, "lead": 0.5612, "uranium": 0.3166}
    for name, x0 in x0_cm.items():
        assert plot.MATERIAL_TICKS[name] == pytest.approx(25 / x0, rel=0.02)


def test_materials_have_colours_that_differ():
    found = plot.colours(list(plot.MATERIAL_TICKS.values()))
    assert found.shape == (6, 3)
    assert ((found >= 0) & (found <= 1)).all()
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1)[np.triu_indices(6, 1)]
    assert apart.min() > 0.25


def test_slices_show_the_voxel_where_it_is(volume):
    figure = plot.slices(volume, volume.grid.position([2, 3, 4]))
    above, front, side, bar = figure.axes
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in (above, front, side)]
    assert labels == [("x [mm]", "y [mm]"), ("x [mm]", "z [mm]"), ("y [mm]", "z [mm]")]
    image = above.get_images()[0]
    data = image.get_array()
    assert data.shape == (5, 10)
    assert data[3, 2] == 79
    x0, x1, y0, y1 = image.get_extent()
    assert (x0, x1, y0, y1) == (-100, 100, -50, 50)
    assert image.origin == "lower"
    # The pixel's middle is the voxel's centre.
    assert x0 + (2 + 0.5) * (x1 - x0) / 10 == volume.grid.position([2, 3, 4])[0]
    assert "mrad²/cm" in bar.get_ylabel()
    figure.canvas.draw()


def test_unknown_voxels_are_masked(volume):
    figure = plot.slices(volume, volume.grid.position([9, 0, 0]))
    assert figure.axes[0].get_images()[0].get_array().mask[0, 9]


def test_projections_keep_a_block_and_dilute_a_single_voxel(volume):
    single = plot.projections(volume).axes[0].get_images()[0].get_array()
    assert single.max() == pytest.approx((79 + 26 * 0.7) / 27, rel=1e-5)
    values = volume.values.copy()
    values[1:4, 1:4, 3:6] = 79
    block = Volume(values, volume.grid, "poca", values, volume.n_muons)
    found = plot.projections(block).axes[0].get_images()[0].get_array()
    assert found[2, 2] == pytest.approx(79, rel=1e-5)


def test_a_spectrum_integrates_to_the_number_of_muons(rng):
    momentum = rng.lognormal(1, 0.7, 4000)
    figure = plot.spectrum(np.append(momentum, [np.nan, -1]), bins=40)
    axes = figure.axes[0]
    x, y = axes.containers[0].lines[0].get_data()
    step = np.log(x[1] / x[0])
    assert y.sum() * step == pytest.approx(4000)
    assert "GeV/c" in axes.get_xlabel()


def test_residuals_tell_median_and_width(rng):
    figure = plot.residuals(rng.normal(0.3, 2.0, 20_000), quantity="Δx", units="mm")
    text = figure.axes[0].get_legend().get_texts()[1].get_text()
    median, width = (float(part.split()[-2 if "mm" in part else -1]) for part in text.split(","))
    assert median == pytest.approx(0.3, abs=0.06)
    assert width == pytest.approx(2.0, rel=0.03)
    assert figure.axes[0].get_xlabel() == "Δx [mm]"


def test_roc_curves_rise_in_order():
    figure = plot.roc({"em": ([0.5, 0.0, 1.0], [0.9, 0.4, 1.0])})
    x, y = figure.axes[0].lines[0].get_data()
    assert list(x) == [0.0, 0.5, 1.0]
    assert list(y) == [0.4, 0.9, 1.0]


def test_wrong_input(volume):
    with pytest.raises(InputError, match="point"):
        plot.slices(volume, [0, 1])
    with pytest.raises(InputError, match="momentum"):
        plot.spectrum([-1, np.nan])
    with pytest.raises(InputError, match="residuals"):
        plot.residuals([1.0])
    with pytest.raises(InputError, match="pair"):
        plot.roc({"a": ([0, 1], [1])})


def test_matplotlib_is_not_imported_before_a_picture_is_made():
    code = "import sys, muscan.plot; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
