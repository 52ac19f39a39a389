"""The verb that checks a manifest against a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muscan import io
from muscan.errors import InputError
from muscan.identification.manifest import LIMIT, check_goods, goods_materials
from muscan.identification.weight import load_mass
from muscan.model.alerts import Interval
from muscan.model.manifest import Manifest, ManifestReport, read_manifest
from muscan.model.material import MaterialDatabase, load_materials
from muscan.pipeline.common import PathLike, naming
from muscan.pipeline.weigh import weigh


def check_manifest(
    manifest: PathLike | Manifest,
    scan: PathLike,
    *,
    container: str = "",
    materials: Sequence[PathLike] | MaterialDatabase = (),
    flux: str = "",
    limit: float = LIMIT,
) -> ManifestReport:
    """Check declared goods against a scan: masses, densities, objects that do not belong.

    Parameters
    ----------
    manifest : path or Manifest
        A JSON file; see ``docs/formats/manifest.md``.
    scan : path
        Folder of a scan, with ``tracks.h5``, ``volume.h5`` and ``alerts.json``.
    container : str
        ``"20ft"`` or ``"40ft"``, whose own matter is then known; the manifest's type unless given.
    materials : sequence of path, or MaterialDatabase
        Material files to lay over the shipped ones, or a database.
    flux : str
        As in `weigh`.
    limit : float
        Standard deviations from which on a difference is a mismatch.

    Returns
    -------
    ManifestReport

    Raises
    ------
    InputError
        If the manifest is wrong, or the scan is not whole.
    """
    folder = Path(scan)
    database = (
        materials if isinstance(materials, MaterialDatabase) else load_materials(tuple(materials))
    )
    if not limit > 0:
        raise InputError("--limit", f"{limit} is not a number of standard deviations", "give 3")
    declared = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    with naming("manifest", manifest):
        kinds = [k for item in declared.goods for k in goods_materials(item, database)]
    report = io.read_alerts(folder / "alerts.json")
    volume = io.read_volume(folder / "volume.h5")
    given = container or (declared.container.type if declared.container else "")
    load = weigh(
        folder / "tracks.h5",
        cargo=list(dict.fromkeys(kinds)) or "food",
        container=given,
        materials=database,
        flux=flux,
    )

    def weigher(power: tuple[float, float], rectangle: NDArray[np.float64] | None) -> Interval:
        corners = (None, None) if rectangle is None else (rectangle[0], rectangle[1])
        return load_mass(load.columns, power, load.response, *corners)

    found = check_goods(declared, report, volume, database, weigher, limit)
    own = () if given else ("no container is declared: its own mass counts as load",)
    return found.model_copy(update={"warnings": [*found.warnings, *own, *load.warnings]})
