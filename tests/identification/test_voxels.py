import numpy as np
import pytest

from muscan.errors import InputError
from muscan.identification import classify_voxels, group_members
from muscan.identification.match import candidates, posterior
from muscan.identification.voxels import groups


def name_at(result, index):
    return result.names[result.labels[index]]


def test_blocks_are_named_and_the_unknown_stays_unknown(materials, make_volume):
    values = np.zeros((12, 6, 6))
    for place, density in enumerate((79.0, 44.5, 14.2, 2.81, 28.0, 0.0)):
        values[2 * place : 2 * place + 2] = density
    volume = make_volume(values, sigma=0.2)
    volume.values[0, 0, 0] = np.nan
    volume.uncertainty[5, 0, 0] = np.inf
    volume.n_muons[11, 0, 0] = 0
    result = classify_voxels(volume, materials)
    names = [name_at(result, (2 * place + 1, 3, 3)) for place in range(6)]
    assert names == ["uranium", "lead", "steel", "aluminium", "unknown", "air"]
    for index in ((0, 0, 0), (5, 0, 0), (11, 0, 0)):
        assert result.labels[index] == 0
        assert result.probability[index] == 0
    assert result.names[:2] == ("unknown", "air")
    assert result.materials_version == materials.version
    assert result.labels.dtype == np.uint16
    assert result.probability.dtype == np.float32


def test_probability_is_that_of_the_group_by_the_plain_posterior(materials, make_volume):
    """Isolated voxels, all different: no neighbour agrees, so the table is what is tested."""
    rng = np.random.default_rng(3)
    density = np.array([0.28, 0.7, 1.1, 2.8, 9.0, 14.0, 30.0, 44.0, 55.0, 70.0, 79.0])
    sigma = 0.004 * density * rng.uniform(0.5, 2, len(density))
    values = np.zeros((len(density), 3, 3))
    values[:, 1, 1] = density
    volume = make_volume(values, sigma=0.001)
    volume.uncertainty[:, 1, 1] = sigma
    result = classify_voxels(volume, materials)
    kinds = candidates(materials)
    group = groups(kinds)
    probability = posterior(kinds, density, sigma)
    for row, expected in enumerate(probability):
        shares = {kinds.names[g]: expected[group == g].sum() for g in np.unique(group)}
        name = max(shares, key=shares.get)
        assert name_at(result, (row, 1, 1)) == name
        assert result.probability[row, 1, 1] == pytest.approx(shares[name], abs=0.05)


def test_agreeing_neighbours_help_and_boundaries_stay(materials, make_volume):
    values = np.full((40, 20, 20), 0.28)
    values[20:] = 14.2
    volume = make_volume(values, sigma=0.12, noise=0.12)
    result = classify_voxels(volume, materials)
    fruit = result.labels == result.names.index("fruit")
    steel = result.labels == result.names.index("steel")
    assert fruit[:20].mean() > 0.9
    assert steel[20:].mean() > 0.95
    assert not steel[:20].any()
    assert not fruit[20:].any()
    kinds = candidates(materials)
    alone = posterior(kinds, volume.values[:20].ravel(), np.full(8000, 0.12)).argmax(axis=1)
    assert fruit[:20].mean() > (alone == kinds.names.index("fruit")).mean() + 0.1


def test_groups_hold_what_coincides_and_part_what_does_not(materials):
    members = group_members(materials)
    together = next(group for group in members.values() if "water" in group)
    assert "juice" in together
    assert members["lead"] == ["lead"]
    assert members["unknown"] == ["unknown"]
    listed = [name for group in members.values() for name in group]
    assert sorted(listed) == sorted(candidates(materials).names)


def test_input_is_not_changed(materials, make_volume):
    volume = make_volume(np.full((4, 4, 4), 0.7))
    before = volume.values.copy(), volume.uncertainty.copy()
    classify_voxels(volume, materials)
    assert np.array_equal(volume.values, before[0])
    assert np.array_equal(volume.uncertainty, before[1])


def test_volume_without_knowledge_is_refused(materials, make_volume):
    with pytest.raises(InputError, match="no voxel"):
        classify_voxels(make_volume(np.full((4, 4, 4), np.nan)), materials)
