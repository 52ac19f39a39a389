"""Volumes for other tools: VTK image data, NIfTI, MetaImage, NumPy and Zarr.

| kind | for | holds |
|---|---|---|
| ``vti`` | ParaView, PyVista | every channel, as data of cells |
| ``nii`` | 3D Slicer, ITK-SNAP, niivue | one channel (needs nibabel) |
| ``mha`` | ITK, SimpleITK, 3D Slicer | one channel |
| ``npz`` | NumPy | every channel, with origin and spacing |
| ``zarr`` | xarray, dask | every channel, with the coordinates (needs zarr) |

Lengths are in mm, axes x, y and z as ours (z up, right-handed). NIfTI takes them as right,
anterior, superior; a reader of NIfTI whose world is left, posterior, superior (ITK) turns the
signs of x and y around.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError, MissingExtraError, nearest
from muscan.io.atomic import whole_file
from muscan.model.volume import Volume

Arrays = Mapping[str, NDArray[Any]]


def channels(volume: Volume) -> dict[str, NDArray[Any]]:
    """Return all arrays of a volume by name: its quantity first."""
    return {
        volume.quantity: volume.values,
        "uncertainty": volume.uncertainty,
        "n_muons": volume.n_muons,
        **volume.channels,
    }


def export(volume: Volume, path: str | Path, kind: str, *, channel: str | None = None) -> None:
    """Write a volume for another tool; the file appears whole or not at all.

    Parameters
    ----------
    volume : Volume
        What to write.
    path : path
        Of the file (for ``zarr`` a folder, which must not exist).
    kind : str
        One of `KINDS`.
    channel : str, optional
        Which of `channels`, for the kinds with one; the volume's own quantity unless given. For
        the others, only that one.

    Raises
    ------
    InputError
        If there is no such kind or channel, or the file cannot be written.
    MissingExtraError
        If the library for that kind is not installed.
    """
    path = Path(path)
    if kind not in _WRITERS:
        raise InputError("--to", f"no such kind '{kind}'", nearest(kind, KINDS))
    arrays = channels(volume)
    if channel is not None:
        if channel not in arrays:
            raise InputError("--channel", f"no channel '{channel}'", nearest(channel, arrays))
        arrays = {channel: arrays[channel]}
    _WRITERS[kind](path, volume, arrays)


def _write_vti(path: Path, volume: Volume, arrays: Arrays) -> None:
    """VTK XML image data, raw appended blocks (docs.vtk.org, "VTKXMLFileFormats")."""
    extent = " ".join(f"0 {size}" for size in volume.grid.shape)
    blocks, headers, offset = [], [], 0
    for name, values in arrays.items():
        array = np.ascontiguousarray(values.T, dtype=_little(values.dtype))
        kind = {"f": "Float", "u": "UInt", "i": "Int"}[array.dtype.kind]
        headers.append(
            f'<DataArray type="{kind}{array.itemsize * 8}" Name={quoteattr(name)} '
            f'format="appended" offset="{offset}"/>'
        )
        block = np.uint64(array.nbytes).astype("<u8").tobytes() + array.tobytes()
        blocks.append(block)
        offset += len(block)
    head = (
        '<?xml version="1.0"?>\n'
        '<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">\n'
        f'<ImageData WholeExtent="{extent}" Origin="{_numbers(volume.grid.lower)}" '
        f'Spacing="{_numbers(volume.grid.spacing)}">\n<Piece Extent="{extent}">\n'
        f"<CellData Scalars={quoteattr(next(iter(arrays)))}>\n"
        + "\n".join(headers)
        + '\n</CellData>\n</Piece>\n</ImageData>\n<AppendedData encoding="raw">\n_'
    )
    with whole_file(path) as part, part.open("wb") as file:
        file.write(head.encode("utf-8"))
        file.writelines(blocks)
        file.write(b"\n</AppendedData>\n</VTKFile>\n")


def _write_mha(path: Path, volume: Volume, arrays: Arrays) -> None:
    """MetaImage with compressed local data (itk.org, "MetaIO/Documentation")."""
    values = next(iter(arrays.values()))
    array = np.ascontiguousarray(values.T, dtype=_little(values.dtype))
    element = {"<f4": "MET_FLOAT", "<f8": "MET_DOUBLE", "<u4": "MET_UINT", "<u2": "MET_USHORT"}
    packed = zlib.compress(array.tobytes(), 6)
    header = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(len(packed)),
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": _numbers(volume.grid.origin),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _numbers(volume.grid.spacing),
        "DimSize": " ".join(map(str, volume.grid.shape)),
        "ElementType": element[array.dtype.str],
        "ElementDataFile": "LOCAL",
    }
    text = "".join(f"{name} = {value}\n" for name, value in header.items())
    with whole_file(path) as part:
        part.write_bytes(text.encode("ascii") + packed)


def _write_nii(path: Path, volume: Volume, arrays: Arrays) -> None:
    try:
        nibabel: Any = import_module("nibabel")
    except ImportError as error:
        raise MissingExtraError("export", error.name) from error
    affine = np.diag([*volume.grid.spacing, 1.0])
    affine[:3, 3] = volume.grid.origin
    name, values = next(iter(arrays.items()))
    image = nibabel.Nifti1Image(np.asarray(values, dtype=_little(values.dtype)), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = f"muscan {name}".encode()[:79]
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    packed = path.name.endswith(".gz")
    with whole_file(path) as part:
        # nibabel tells the kind by the suffix, which the file beside does not have yet.
        named = part.with_name(part.name + (".nii.gz" if packed else ".nii"))
        try:
            nibabel.save(image, named)
            named.replace(part)
        finally:
            named.unlink(missing_ok=True)


def _write_npz(path: Path, volume: Volume, arrays: Arrays) -> None:
    grid = volume.grid
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            origin_mm=grid.origin,
            spacing_mm=grid.spacing,
            units=volume.units,
            method=volume.method,
            **arrays,
        )


def _write_zarr(path: Path, volume: Volume, arrays: Arrays) -> None:
    try:
        zarr: Any = import_module("zarr")
    except ImportError as error:
        raise MissingExtraError("export", error.name) from error
    if path.exists():
        raise InputError(path, "exists already", "choose another name, or remove it")
    if not path.parent.is_dir():
        raise InputError(path, f"the folder {path.parent} does not exist", "create it first")
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    grid = volume.grid
    try:
        root = zarr.open_group(part, mode="w", zarr_format=3)
        root.attrs.update(
            origin_mm=grid.origin.tolist(), spacing_mm=grid.spacing.tolist(), method=volume.method
        )
        for axis, name in enumerate("xyz"):
            centres = root.create_array(name, data=grid.centres(axis), dimension_names=(name,))
            centres.attrs["units"] = "mm"
        for name, values in arrays.items():
            data = np.ascontiguousarray(values)
            array = root.create_array(name, data=data, dimension_names=("x", "y", "z"))
            if name in (volume.quantity, "uncertainty"):
                array.attrs["units"] = volume.units
        part.replace(path)
    except OSError as error:
        raise InputError(path, f"cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("<")


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(repr(float(value)) for value in values)


_WRITERS: Final[Mapping[str, Callable[[Path, Volume, Arrays], None]]] = {
    "vti": _write_vti,
    "nii": _write_nii,
    "mha": _write_mha,
    "npz": _write_npz,
    "zarr": _write_zarr,
}
#: The kinds of files to export to.
KINDS: Final = tuple(_WRITERS)
