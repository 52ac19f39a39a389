"""Exported volumes, read back by libraries that did not write them."""

from __future__ import annotations

import importlib
import json
import os

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.io.export import KINDS, channels, export
from muscan.model.volume import Volume, VoxelGrid


@pytest.fixture
def volume(rng) -> Volume:
    """Voxels of three sizes, an origin away from zero, and values that tell the axes apart."""
    shape = (4, 5, 6)
    grid = VoxelGrid(np.array([10.5, -20.25, 300.0]), np.array([2.0, 3.0, 5.5]), shape)
    values = rng.normal(5, 3, shape).astype("f4")
    values[1, 2, 3] = np.nan
    return Volume(
        values=values,
        grid=grid,
        method="poca",
        uncertainty=rng.uniform(0, 1, shape).astype("f4"),
        n_muons=rng.integers(0, 2**31, shape).astype("u4"),
        channels={"stopping": rng.uniform(0, 1, shape).astype("f4")},
    )


def library(name: str):
    """The library to read back with; it may be missing, but not where all must be there."""
    if os.environ.get("CI") == "true":
        return importlib.import_module(name)
    return pytest.importorskip(name)


def test_vti_in_vtk(volume, tmp_path):
    reader_module = library("vtkmodules.vtkIOXML")
    to_numpy = importlib.import_module("vtkmodules.util.numpy_support").vtk_to_numpy
    export(volume, tmp_path / "v.vti", "vti")
    reader = reader_module.vtkXMLImageDataReader()
    reader.SetFileName(str(tmp_path / "v.vti"))
    reader.Update()
    image = reader.GetOutput()
    np.testing.assert_allclose(image.GetSpacing(), volume.grid.spacing)
    np.testing.assert_allclose(np.reshape(image.GetBounds(), (3, 2)).T,
                               [volume.grid.lower, volume.grid.upper])  # fmt: skip
    cells = image.GetCellData()
    assert cells.GetNumberOfArrays() == 4
    for name, values in channels(volume).items():
        found = to_numpy(cells.GetArray(name)).reshape(volume.values.shape, order="F")
        np.testing.assert_array_equal(found, values)
    assert cells.GetScalars().GetName() == "scattering_density"


@pytest.mark.parametrize("kind", ["mha", "nii"])
def test_mha_and_nii_in_itk(volume, tmp_path, kind):
    sitk = library("SimpleITK")
    if kind == "nii":
        library("nibabel")
    path = tmp_path / f"v.{kind}"
    export(volume, path, kind)
    image = sitk.ReadImage(str(path))
    # ITK's own reader of NIfTI gives 0 for what is not a number.
    wanted = volume.values if kind == "mha" else np.nan_to_num(volume.values)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, wanted)
    np.testing.assert_allclose(image.GetSpacing(), volume.grid.spacing)
    # ITK's world is left, posterior, superior; NIfTI's, and so ours there, right and anterior.
    turn = [-1, -1, 1] if kind == "nii" else [1, 1, 1]
    for index in ([0, 0, 0], [3, 1, 5]):
        place = np.array(image.TransformIndexToPhysicalPoint(index)) * turn
        np.testing.assert_allclose(place, volume.grid.position(index), atol=1e-4)


def test_one_channel_of_mha(volume, tmp_path):
    sitk = library("SimpleITK")
    export(volume, tmp_path / "n.mha", "mha", channel="n_muons")
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "n.mha")))
    np.testing.assert_array_equal(found.T, volume.n_muons)


def test_compressed_nii(volume, tmp_path):
    library("nibabel")
    sitk = library("SimpleITK")
    export(volume, tmp_path / "v.nii.gz", "nii")
    assert (tmp_path / "v.nii.gz").read_bytes()[:2] == b"\x1f\x8b"
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "v.nii.gz")))
    np.testing.assert_array_equal(found.T, np.nan_to_num(volume.values))
    assert [path.name for path in tmp_path.iterdir()] == ["v.nii.gz"]


def test_npz(volume, tmp_path):
    export(volume, tmp_path / "v.npz", "npz")
    with np.load(tmp_path / "v.npz", allow_pickle=False) as found:
        for name, values in channels(volume).items():
            np.testing.assert_array_equal(found[name], values)
        np.testing.assert_array_equal(found["origin_mm"], volume.grid.origin)
        np.testing.assert_array_equal(found["spacing_mm"], volume.grid.spacing)
        assert str(found["units"]) == "mrad2/cm"


def test_zarr_in_tensorstore(volume, tmp_path):
    library("zarr")
    tensorstore = library("tensorstore")
    folder = tmp_path / "v.zarr"
    export(volume, folder, "zarr")
    wanted = channels(volume) | {name: volume.grid.centres(n) for n, name in enumerate("xyz")}
    for name, values in wanted.items():
        store = {"driver": "file", "path": str(folder / name)}
        found = tensorstore.open({"driver": "zarr3", "kvstore": store}).result()
        np.testing.assert_array_equal(found.read().result(), values)
    meta = json.loads((folder / "scattering_density" / "zarr.json").read_text())
    assert meta["dimension_names"] == ["x", "y", "z"]
    assert meta["attributes"]["units"] == "mrad2/cm"
    with pytest.raises(InputError, match="exists already"):
        export(volume, folder, "zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["v.zarr"]


def test_wrong_options(volume, tmp_path):
    with pytest.raises(InputError, match="did you mean 'vti'"):
        export(volume, tmp_path / "v.vtk", "vtk")
    with pytest.raises(InputError, match="did you mean 'stopping'"):
        export(volume, tmp_path / "v.mha", "mha", channel="stoping")
    with pytest.raises(InputError, match="does not exist"):
        export(volume, tmp_path / "none" / "v.vti", "vti")
    assert list(tmp_path.iterdir()) == []
    assert KINDS == ("vti", "nii", "mha", "npz", "zarr")
