import numpy as np
import pytest

from muscan.identification.background import HIGHEST_BACKGROUND, contrast
from muscan.identification.segment import known_voxels


def above(volume):
    return contrast(volume, known_voxels(volume))


def test_flat_cargo_is_all_background(make_volume):
    result = above(make_volume(np.full((30, 25, 20), 1.3)))
    assert result.background == pytest.approx(1.3, abs=1e-5)
    assert result.significance == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_walls_and_stacks_are_background_up_to_their_edges(make_volume, axis):
    values = np.zeros((40, 40, 40))
    values[20:] = 1.5  # a stack that fills half of the space
    wall = [slice(None)] * 3
    wall[axis] = slice(3, 4)
    values[tuple(wall)] = 6.0
    result = above(make_volume(values, sigma=0.2))
    assert result.significance.max() < 3.0


def test_small_object_stands_above_stack_and_floor(make_volume):
    values = np.full((40, 40, 30), 1.0)
    values[:, :, 0] = 5.0
    values[10:12, 20:22, 10:12] = 40.0
    values[30:32, 8:10, 0] = 40.0
    result = above(make_volume(values, sigma=0.5))
    assert result.background[11, 21, 11] == pytest.approx(1.0, abs=0.2)
    peak = np.unravel_index(result.significance.argmax(), values.shape)
    assert values[peak] == 40.0
    assert result.significance[30, 8, 0] > 20.0
    assert 3.0 < result.background[30, 8, 0] < 5.5  # the filter mixes in what lies above


def test_a_slab_of_lead_is_no_background(make_volume):
    values = np.full((40, 40, 20), 0.5)
    values[:, :, 9:11] = 44.5
    result = above(make_volume(values, sigma=0.5))
    assert result.background.max() <= HIGHEST_BACKGROUND
    assert (result.significance[:, :, 9] > 20.0).all()


def test_texture_of_the_cargo_is_part_of_the_noise(make_volume):
    rng = np.random.default_rng(1)
    texture = rng.normal(1.5, 0.4, (40, 40, 30)).clip(0.1)
    result = above(make_volume(texture, sigma=0.01))
    assert result.significance.max() < 6.0


def test_unknown_voxels_have_no_significance(make_volume):
    volume = make_volume(np.full((20, 20, 20), 0.5))
    volume.values[5, 5, 5] = np.nan
    volume.values[6, 5, 5] = 50.0
    result = above(volume)
    assert result.significance[5, 5, 5] == 0
    assert result.significance[6, 5, 5] > 10
    assert np.isfinite(result.values).all()


def test_significance_of_noise_is_normal(make_volume):
    """In pure noise the share of voxels beyond 2 and 3 sigma is near the Gaussian one."""
    volume = make_volume(np.full((60, 60, 40), 1.0), sigma=0.3, noise=0.3)
    result = above(volume)
    single = (result.values - 1.0) / 0.3
    assert np.std(single) == pytest.approx(1.0, abs=0.02)
    # Three scales are tried, so up to three times the one-sided tail.
    assert (result.significance > 3.0).mean() < 3 * 1.35e-3
    assert (result.significance > 2.0).mean() < 3 * 2.28e-2
