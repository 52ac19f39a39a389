"""The layers, the camera and the cursor of a napari window, as a scan needs them; no widgets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from muscan.viewer import layers, probe

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

    from muscan.model.volume import MaterialMap, Volume
    from muscan.viewer.scan import Scan


class Canvas:
    """What a window shows of a scan.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer

    def layer(self, name: str) -> Layer | None:
        """Return a layer by its name, None if it is not there."""
        known = self.viewer.layers
        return known[name] if name in known else None  # noqa: SIM401  (a list by name, no dict)

    def switch(self, name: str, on: bool) -> None:
        """Show or hide a layer, if it is there."""
        layer = self.layer(name)
        if layer is not None:
            layer.visible = on

    def remove(self, names: Iterable[str]) -> None:
        """Take layers away, as far as they are there."""
        for name in names:
            layer = self.layer(name)
            if layer is not None:
                self.viewer.layers.remove(layer)

    def put(self, made: Iterable[layers.LayerData], scan: Scan) -> None:
        """Put layers of a scan in place of those of their names; hidden ones stay hidden."""
        from napari.layers import Layer

        for data, options, kind in made:
            old = self.layer(options["name"])
            visible = True if old is None else old.visible
            if old is not None:
                self.viewer.layers.remove(old)
            options = {**options, "visible": visible, "metadata": {"muscan": scan}}
            self.viewer.add_layer(Layer.create(data, options, kind))

    def put_volume(self, volume: Volume, scan: Scan) -> None:
        """Show a volume; layers of its shape keep their colours, contrast and place."""
        for data, options, kind in layers.of_volume(volume):
            layer = self.layer(options["name"])
            if layer is None or layer.data.shape != data.shape:
                self.put([(data, options, kind)], scan)
            else:
                layer.data = data

    def put_materials(self, materials: MaterialMap | None) -> None:
        """Show new labels where a map of materials is shown."""
        layer = self.layer(layers.MATERIALS)
        if materials is not None and layer is not None:
            layer.data = materials.labels.T

    def set_threshold(self, density: float) -> None:
        """Show only what scatters more than a density [mrad²/cm]."""
        layer = self.layer(layers.DENSITY)
        if layer is not None:
            layer.colormap = layers.colour_map(density)

    def look_at(self, low: Any, high: Any, place: Any) -> None:
        """Turn slices and camera to a box.

        Parameters
        ----------
        low, high, place : (3,) array_like
            Its corners and the point to look at [mm], as x, y, z.
        """
        point = tuple(np.asarray(place, dtype=float)[::-1])
        self.viewer.dims.set_point((0, 1, 2), point)
        camera = self.viewer.scene.camera
        # The view of the whole tells how large a millimetre is on this screen.
        angles = camera.angles
        self.viewer.reset_view(reset_camera_angle=False)
        whole = np.linalg.norm([r.stop - r.start for r in self.viewer.dims.range])
        size = np.linalg.norm(np.subtract(high, low))
        camera.zoom *= float(np.clip(whole / (12 * size), 1.2, 5.0))
        camera.center = point
        camera.angles = angles

    def place_under(self, position: Any, direction: Any, displayed: Any, volume: Volume) -> Any:
        """Return the point [mm] under the cursor; in 3D the brightest voxel on its ray.

        Parameters
        ----------
        position, direction, displayed : sequence
            ``position``, ``view_direction`` and ``dims_displayed`` of one of napari's mouse events.
        volume : Volume
            What is shown.

        Returns
        -------
        place : (3,) ndarray or None
            As x, y, z; None where the ray passes the volume by.
        """
        if len(displayed) < 3 or direction is None:
            return np.asarray(position, dtype=float)[::-1]
        layer = self.layer(layers.DENSITY)
        if layer is None:
            return None
        start, stop = layer.get_ray_intersections(position, direction, displayed, world=True)
        if start is None or stop is None:
            return None
        ends = [layer.data_to_world(end)[::-1] for end in (start, stop)]
        return probe.brightest_on_ray(volume, *ends)
