from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from muscan.errors import InputError
from muscan.identification import find_regions
from muscan.identification.segment import split


def cargo_with(objects, shape=(60, 40, 40), level=1.0):
    """Cargo with boxes: (first corner, size in voxels, density)."""
    values = np.full(shape, level)
    for corner, size, density in objects:
        values[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = density
    return values


def test_a_cube_is_found_where_it_is(make_volume):
    values = cargo_with([((20, 10, 15), (4, 4, 4), 44.5)])
    regions = find_regions(make_volume(values, sigma=0.5, noise=0.5))
    assert len(regions) == 1
    region = regions[0]
    truth = np.array([22, 12, 17]) * 50.0 - np.array([60, 40, 40]) * 25.0
    assert region.centre == pytest.approx(truth, abs=15.0)
    assert region.scattering_density == pytest.approx(44.5, rel=0.3)
    assert region.background == pytest.approx(1.0, abs=0.2)
    assert region.excess == pytest.approx(43.5 * 200**3 / 1000, rel=0.15)
    assert region.n_muons == 80
    assert (region.lower < truth).all()
    assert (region.upper > truth).all()


@pytest.mark.parametrize("method", ["em", "poca"])
def test_blur_keeps_place_and_integral(make_volume, method):
    values = cargo_with([((28, 18, 18), (2, 2, 2), 79.0)])
    blurred = ndimage.gaussian_filter(values, (0.5, 0.5, 2.5))
    region = find_regions(make_volume(blurred, sigma=0.4, noise=0.4, method=method))[0]
    truth = np.array([29, 19, 19]) * 50.0 - np.array([60, 40, 40]) * 25.0
    assert region.centre == pytest.approx(truth, abs=25.0)
    assert region.excess == pytest.approx(78.0 * 100**3 / 1000, rel=0.3)


def test_pure_noise_has_no_region(make_volume):
    volume = make_volume(cargo_with([]), sigma=0.3, noise=0.3)
    assert find_regions(volume) == []


def test_neighbours_are_parted(make_volume):
    values = cargo_with([((20, 18, 18), (4, 4, 4), 40.0), ((26, 18, 18), (4, 4, 4), 40.0)])
    blurred = ndimage.gaussian_filter(values, 0.8)
    regions = find_regions(make_volume(blurred, sigma=0.3, noise=0.3))
    assert len(regions) == 2
    apart = abs(regions[0].centre[0] - regions[1].centre[0])
    assert apart == pytest.approx(300.0, abs=30.0)


def test_one_object_is_not_parted_by_noise(make_volume):
    values = cargo_with([((20, 18, 18), (6, 4, 4), 14.2)])
    for seed in range(3):
        volume = make_volume(values, sigma=2.0, noise=2.0, seed=seed)
        assert len(find_regions(volume)) == 1


def test_object_on_the_floor_is_parted_from_it(make_volume):
    values = cargo_with([((20, 18, 0), (2, 2, 2), 79.0)], level=0.4)
    values[:, :, 0] = np.maximum(values[:, :, 0], 5.0)
    regions = find_regions(make_volume(values, sigma=0.4, noise=0.4))
    assert len(regions) == 1
    assert regions[0].upper[0] - regions[0].lower[0] <= 200.0


def test_unknown_voxels_do_not_break_the_rest(make_volume):
    volume = make_volume(cargo_with([((20, 18, 18), (4, 4, 4), 44.5)]), sigma=0.5, noise=0.5)
    volume.values[:6] = np.nan
    volume.uncertainty[:6] = np.inf
    volume.n_muons[:6] = 0
    assert len(find_regions(volume)) == 1


def test_result_is_deterministic(make_volume):
    volume = make_volume(cargo_with([((20, 18, 18), (4, 4, 4), 44.5)]), sigma=0.5, noise=0.5)
    first, second = find_regions(volume), find_regions(volume)
    assert np.array_equal(first[0].voxels, second[0].voxels)
    assert first[0].excess == second[0].excess


@pytest.mark.parametrize("spoil", ["values", "uncertainty", "n_muons"])
def test_a_volume_without_knowledge_is_refused(make_volume, spoil):
    volume = make_volume(cargo_with([]))
    getattr(volume, spoil)[:] = {"values": np.nan, "uncertainty": np.inf, "n_muons": 0}[spoil]
    with pytest.raises(InputError, match="no voxel has a value"):
        find_regions(volume)


def test_another_quantity_is_refused(make_volume):
    volume = replace(make_volume(cargo_with([])), quantity="stopping")
    with pytest.raises(InputError, match="stopping"):
        find_regions(volume)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_split_only_refines_connected_components(seed):
    rng = np.random.default_rng(seed)
    height = ndimage.gaussian_filter(rng.random((12, 10, 8)), 1.2)
    mask = height > np.quantile(height, 0.7)
    labels = split(height, mask)
    assert ((labels > 0) == mask).all()
    components, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    for label in np.unique(labels[mask]):
        part = labels == label
        assert len(np.unique(components[part])) == 1
        assert ndimage.label(part, np.ones((3, 3, 3)))[1] == 1
    whole = split(height, mask, saddle=0.0)
    assert len(np.unique(whole[mask])) == len(np.unique(components[mask]))


def test_split_joins_over_a_high_saddle_only():
    height = np.array([0.0, 5.0, 4.0, 6.0, 1.0, 3.0, 0.0]).reshape(-1, 1, 1)
    labels = split(height, height > 0, saddle=0.75).ravel()
    assert labels[1] == labels[2] == labels[3]
    assert labels[5] != labels[3]
