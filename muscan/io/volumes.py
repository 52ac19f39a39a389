"""Volume and material-map files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.io import hdf5, schema
from muscan.model.volume import MaterialMap, Volume, VoxelGrid

_GRID_ATTRIBUTES = ("origin_mm", "spacing_mm")
_KNOWN_ATTRIBUTES = (
    "quantity",
    "units",
    "method",
    "scattering_constant_MeV",
    "reference_momentum_GeV",
    *_GRID_ATTRIBUTES,
)


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write a volume with its uncertainty, muon counts and further channels."""
    grid = _grid_attributes(volume.grid)
    with hdf5.create(path, schema.VOLUME) as file:
        hdf5.write_dataset(
            file,
            schema.VOLUME_VALUES,
            volume.values.astype("f4", copy=False),
            volume.units,
            quantity=volume.quantity,
            method=volume.method,
            scattering_constant_MeV=volume.scattering_constant_MeV,
            reference_momentum_GeV=volume.reference_momentum_GeV,
            **grid,
            **volume.attributes,
        )
        hdf5.write_dataset(
            file, schema.VOLUME_UNCERTAINTY, volume.uncertainty.astype("f4"), volume.units, **grid
        )
        hdf5.write_dataset(file, schema.VOLUME_MUONS, volume.n_muons.astype("u4"), "1", **grid)
        for name, values in volume.channels.items():
            units = volume.channel_units.get(name, "1")
            hdf5.write_dataset(file, f"/{name}", values.astype("f4"), units, channel=True, **grid)
        if volume.run is not None:
            hdf5.write_run(file, volume.run)
        _write_nexus(file, volume.grid)


def read_volume(path: str | Path) -> Volume:
    """Read a volume.

    Raises
    ------
    InputError
        If the file is not a sound volume file.
    """
    path = Path(path)
    with hdf5.open_checked(path, schema.VOLUME) as file:
        values = hdf5.read_array(file, schema.VOLUME_VALUES, "f", 3, path)
        attributes = dict(file[schema.VOLUME_VALUES].attrs)
        grid = _read_grid(attributes, values.shape, schema.VOLUME_VALUES, path)
        uncertainty = hdf5.read_array(file, schema.VOLUME_UNCERTAINTY, "f", 3, path)
        n_muons = hdf5.read_array(file, schema.VOLUME_MUONS, "iu", 3, path)
        channels = {
            name: hdf5.read_array(file, f"/{name}", "fiu", 3, path).astype("f4")
            for name, dataset in file.items()
            if isinstance(dataset, h5py.Dataset) and dataset.attrs.get("channel", False)
        }
        for name, array in {"uncertainty": uncertainty, "n_muons": n_muons, **channels}.items():
            if array.shape != values.shape:
                raise InputError(path, f"/{name} has shape {array.shape}, not {values.shape}")
        return Volume(
            values=values.astype("f4", copy=False),
            grid=grid,
            method=str(attributes.get("method", "")),
            uncertainty=uncertainty.astype("f4", copy=False),
            n_muons=n_muons.astype("u4"),
            quantity=str(attributes.get("quantity", "scattering_density")),
            units=str(attributes.get("units", "mrad2/cm")),
            channels=channels,
            attributes={k: v for k, v in attributes.items() if k not in _KNOWN_ATTRIBUTES},
            scattering_constant_MeV=_number(attributes, "scattering_constant_MeV", 15.0, path),
            reference_momentum_GeV=_number(attributes, "reference_momentum_GeV", 3.0, path),
            run=hdf5.read_run(file, path),
            channel_units={
                name: units
                for name in channels
                if (units := str(file[name].attrs.get("units", "1"))) != "1"
            },
        )


def write_materials(path: str | Path, materials: MaterialMap) -> None:
    """Write which material each voxel is."""
    grid = _grid_attributes(materials.grid)
    with hdf5.create(path, schema.MATERIALS) as file:
        hdf5.write_dataset(
            file,
            schema.MATERIAL_LABELS,
            materials.labels.astype("u2"),
            "1",
            materials_version=materials.materials_version,
            **grid,
        )
        hdf5.write_dataset(
            file, schema.MATERIAL_PROBABILITY, materials.probability.astype("f4"), "1", **grid
        )
        hdf5.write_dataset(file, schema.MATERIAL_NAMES, list(materials.names), "")


def read_materials(path: str | Path) -> MaterialMap:
    """Read which material each voxel is.

    Raises
    ------
    InputError
        If the file is not a sound file of materials.
    """
    path = Path(path)
    with hdf5.open_checked(path, schema.MATERIALS) as file:
        labels = hdf5.read_array(file, schema.MATERIAL_LABELS, "iu", 3, path)
        probability = hdf5.read_array(file, schema.MATERIAL_PROBABILITY, "f", 3, path)
        names = hdf5.get_dataset(file, schema.MATERIAL_NAMES, path)[()]
        if np.ndim(names) != 1 or not all(isinstance(name, bytes) for name in names):
            raise InputError(path, f"{schema.MATERIAL_NAMES} is no list of names")
        attributes = dict(file[schema.MATERIAL_LABELS].attrs)
        if probability.shape != labels.shape:
            raise InputError(path, f"/probability has shape {probability.shape}")
        if labels.size and int(labels.max()) >= len(names):
            raise InputError(path, f"/material has label {labels.max()}, beyond /names")
        return MaterialMap(
            labels=labels.astype("u2"),
            probability=probability.astype("f4"),
            names=tuple(name.decode("utf-8") for name in names),
            grid=_read_grid(attributes, labels.shape, schema.MATERIAL_LABELS, path),
            materials_version=str(attributes.get("materials_version", "")),
        )


def _grid_attributes(grid: VoxelGrid) -> dict[str, NDArray[np.float64]]:
    return {"origin_mm": grid.origin, "spacing_mm": grid.spacing}


def _read_grid(
    attributes: dict[str, Any], shape: tuple[int, ...], dataset: str, path: Path
) -> VoxelGrid:
    found = []
    for name in _GRID_ATTRIBUTES:
        values = np.asarray(attributes.get(name, np.nan))
        if values.shape != (3,) or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            raise InputError(path, f"{dataset} attribute {name} is not three numbers")
        found.append(values.astype(float))
    if (found[1] <= 0).any():
        raise InputError(path, f"{dataset} attribute spacing_mm is not positive")
    nx, ny, nz = shape
    return VoxelGrid(found[0], found[1], (nx, ny, nz))


def _number(attributes: dict[str, Any], name: str, default: float, path: Path) -> float:
    try:
        return float(attributes.get(name, default))
    except (TypeError, ValueError):
        raise InputError(path, f"/volume attribute {name} is not a number") from None


def _write_nexus(file: h5py.File, grid: VoxelGrid) -> None:
    """Add the NXdata view (links, no copies) with which generic HDF5 viewers plot the volume."""
    file.attrs["NX_class"], file.attrs["default"] = "NXroot", "entry"
    entry = file.create_group(schema.NEXUS_ENTRY)
    entry.attrs["NX_class"], entry.attrs["default"] = "NXentry", "data"
    data = entry.create_group("data")
    data.attrs["NX_class"], data.attrs["signal"] = "NXdata", "volume"
    data.attrs["axes"] = ["x", "y", "z"]
    data["volume"] = file[schema.VOLUME_VALUES]
    for axis, name in enumerate("xyz"):
        dataset = data.create_dataset(name, data=grid.centres(axis))
        dataset.attrs["units"] = "mm"
