"""What napari's plugin manifest names: a reader, a sample, the dock.

Imports what is heavy only when it is called, so that napari starts no slower for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from muscan.viewer.layers import LayerData

Reader = Callable[[Any], "list[LayerData]"]
SAMPLE = Path(__file__).with_name("sample")


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return the reader if all paths are files of ours, or folders of scans, else None."""
    paths = [path] if isinstance(path, str) else list(path)
    return read if paths and all(_is_ours(Path(each)) for each in paths) else None


def _is_ours(path: Path) -> bool:
    from muscan import io
    from muscan.errors import InputError

    try:
        if path.is_dir():
            return (path / "volume.h5").is_file()
        if path.suffix == ".json":
            return io.describe(path)["format"] == "muscan-alerts"
        return io.format_of(path).startswith("muscan-")
    except InputError:
        return False


def read(path: str | Sequence[str]) -> list[LayerData]:
    """Return the layers of files, or of a scan's folder."""
    from muscan.viewer import layers, scan

    return layers.of_scan(scan.load([path] if isinstance(path, str) else path))


def sample() -> list[LayerData]:
    """Return the layers of the shipped scan."""
    return read(str(SAMPLE))


def dock(napari_viewer: Viewer) -> Any:
    """Return the dock for a window of napari."""
    from muscan.viewer.dock import ScanDock

    return ScanDock(napari_viewer)
