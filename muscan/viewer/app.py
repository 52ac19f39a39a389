"""`muscan view`: a window of napari with a scan in it, in 3D, with the dock."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from muscan.errors import MissingExtraError
from muscan.viewer import layers
from muscan.viewer.scan import Scan, load

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from muscan.viewer.dock import ScanDock

#: From the front, the side and above: as axes (z, y, x).
_VIEW = (-0.45, 0.75, -0.5)
#: napari leaves room for any turn of the box around the scene; most of it can be used.
_CLOSER = 1.2


def open_scan(paths: Sequence[str | Path], *, show: bool = True) -> tuple[Viewer, ScanDock]:
    """Open a window with a scan; `napari.run` then lets the user work in it.

    Parameters
    ----------
    paths : sequence of path
        A scan's folder, or its files.
    show : bool
        Whether to show the window at once.

    Returns
    -------
    viewer : napari.Viewer
    dock : ScanDock

    Raises
    ------
    InputError
        If there is nothing to show, or a file is damaged.
    MissingExtraError
        If the extra ``viewer`` is not installed.
    """
    # The files are read while napari is imported: each takes about a second.
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_read, paths)
        try:
            import napari
            from napari.layers import Layer

            from muscan.viewer.dock import ScanDock
        except ImportError as error:
            raise MissingExtraError("viewer", error.name) from error
        scan, made = reading.result()
    viewer = napari.Viewer(title=f"muscan: {scan.name}", ndisplay=3, show=False)
    # Layers go in directly: no reader is chosen by suffix, so none is asked for in a dialog.
    for data, options, kind in made:
        viewer.add_layer(Layer.create(data, options, kind))
    orient(viewer)
    dock = ScanDock(viewer)
    viewer.window.add_dock_widget(dock, name="Muon scan", area="right")
    if show:
        viewer.show()
        orient(viewer)
    return viewer, dock


def _read(paths: Sequence[str | Path]) -> tuple[Scan, list[layers.LayerData]]:
    scan = load(paths)
    return scan, layers.of_scan(scan)


def orient(viewer: Viewer) -> None:
    """Turn the camera so that z is up, and slices from above have y up and x to the right."""
    viewer.scene.camera.orientation = ("towards", "up", "right")
    viewer.scene.camera.set_view_direction(_VIEW, up_direction=(1.0, 0.0, 0.0))
    viewer.reset_view(reset_camera_angle=False)
    viewer.scene.camera.zoom *= _CLOSER


def run(paths: Sequence[str | Path], picture: Path | None = None) -> None:
    """Show a scan until the window is closed; or save a picture of the window, and close it.

    Parameters
    ----------
    paths : sequence of path
        As in `open_scan`.
    picture : Path, optional
        PNG file to save.
    """
    viewer, _ = open_scan(paths)
    import napari

    if picture is None:
        napari.run()
        return
    viewer.screenshot(str(picture), canvas_only=False)
    viewer.close()
