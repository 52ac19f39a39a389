"""Volume and material files: what is written comes back; what is unsound is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from muscan import io
from muscan.errors import InputError
from muscan.io.export import export
from muscan.model.volume import MaterialMap, Volume, VoxelGrid

GRID = VoxelGrid.from_bounds([[-100, -50, 0], [100, 50, 90]], 10.0)


@pytest.fixture
def volume(rng):
    return Volume(
        values=rng.gamma(2, 1, GRID.shape).astype("f4"),
        grid=GRID,
        method="poca",
        uncertainty=np.full(GRID.shape, 0.1, "f4"),
        n_muons=rng.integers(0, 90, GRID.shape).astype("u4"),
        channels={"stopping": rng.random(GRID.shape).astype("f4")},
        attributes={"iterations": 7},
        channel_units={"stopping": "g/cm3"},
    )


def test_volume_comes_back(tmp_path, volume):
    path = tmp_path / "volume.h5"
    io.write_volume(path, volume)
    found = io.read_volume(path)
    for name in ("values", "uncertainty", "n_muons"):
        np.testing.assert_array_equal(getattr(found, name), getattr(volume, name))
    np.testing.assert_array_equal(found.channels["stopping"], volume.channels["stopping"])
    np.testing.assert_array_equal(found.grid.origin, [-95, -45, 5])
    np.testing.assert_array_equal(found.grid.spacing, [10, 10, 10])
    assert found.attributes["iterations"] == 7
    assert found.method == "poca"
    assert found.channel_units == {"stopping": "g/cm3"}


def test_paths_may_be_texts(tmp_path, monkeypatch, volume):
    monkeypatch.chdir(tmp_path)  # the texts are relative paths
    io.write_volume("volume.h5", volume)
    np.testing.assert_array_equal(io.read_volume("volume.h5").values, volume.values)
    labels = np.ones(GRID.shape, "u2")
    names = ("unknown", "air")
    io.write_materials("m.h5", MaterialMap(labels, labels.astype("f4"), names, GRID, "v"))
    assert io.read_materials("m.h5").names == names
    export(volume, "volume.npz", "npz")
    np.testing.assert_array_equal(np.load("volume.npz")["n_muons"], volume.n_muons)


def test_volume_is_laid_out_as_the_contract_and_nexus_say(tmp_path, volume):
    path = tmp_path / "volume.h5"
    io.write_volume(path, volume)
    with h5py.File(path) as file:
        attributes = file["volume"].attrs
        assert file["volume"].dtype == "f4"
        assert attributes["quantity"] == "scattering_density"
        assert attributes["units"] == "mrad2/cm"
        assert attributes["scattering_constant_MeV"] == 15
        assert attributes["reference_momentum_GeV"] == 3
        data = file[file.attrs["default"]]["data"]
        assert data.attrs["NX_class"] == "NXdata"
        assert data[data.attrs["signal"]] == file["volume"]
        np.testing.assert_allclose(data["x"], GRID.centres(0))


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("spacing_mm", [10.0, 10.0], "three numbers"),
        ("spacing_mm", [10.0, -1.0, 1.0], "not positive"),
        ("origin_mm", [np.nan, 0.0, 0.0], "three numbers"),
    ],
)
def test_unsound_grids_are_refused(tmp_path, volume, attribute, value, message):
    path = tmp_path / "volume.h5"
    io.write_volume(path, volume)
    with h5py.File(path, "r+") as file:
        file["volume"].attrs[attribute] = value
    with pytest.raises(InputError, match=message):
        io.read_volume(path)


def test_unequal_shapes_are_refused(tmp_path, volume):
    path = tmp_path / "volume.h5"
    io.write_volume(path, volume)
    with h5py.File(path, "r+") as file:
        del file["uncertainty"]
        file["uncertainty"] = np.zeros((2, 2, 2), "f4")
    with pytest.raises(InputError, match="/uncertainty has shape"):
        io.read_volume(path)


def test_material_map_comes_back_and_its_labels_are_checked(tmp_path, rng):
    labels = rng.integers(0, 3, GRID.shape).astype("u2")
    found = MaterialMap(
        labels, rng.random(GRID.shape).astype("f4"), ("unknown", "air", "iron"), GRID, "abc"
    )
    path = tmp_path / "materials.h5"
    io.write_materials(path, found)
    again = io.read_materials(path)
    np.testing.assert_array_equal(again.labels, labels)
    np.testing.assert_array_equal(again.probability, found.probability)
    assert again.names == found.names
    assert again.materials_version == "abc"
    with h5py.File(path, "r+") as file:
        file["material"][0, 0, 0] = 9
    with pytest.raises(InputError, match="label 9"):
        io.read_materials(path)
