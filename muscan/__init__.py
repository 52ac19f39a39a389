"""muscan: cosmic-muon tomography for scanners.

The verbs are functions of this module, as they are commands of ``muscan``::

    hits = muscan.simulate("container", minutes=5, seed=1)
    tracks = muscan.track(hits)
    volume = muscan.reconstruct(tracks, voxel=50)
    alerts, materials = muscan.identify(volume, tracks=tracks)
"""

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muscan.errors import InputError, MuscanError
    from muscan.io.recover import recover
    from muscan.model.detector import Detector, load_detector
    from muscan.model.draw import draw_scene
    from muscan.model.material import Material, MaterialDatabase, load_materials
    from muscan.model.scene import Scene, load_scene
    from muscan.model.volume import MaterialMap, Volume, VoxelGrid
    from muscan.pipeline import (
        align,
        calibrate,
        check_manifest,
        identify,
        import_hits,
        quality,
        read,
        reconstruct,
        report,
        simulate,
        survey,
        track,
    )
    from muscan.pipeline.scan import scan
    from muscan.pipeline.watch import watch
    from muscan.pipeline.weigh import weigh
    from muscan.simulation.slab import transport_slab
    from muscan.studies import study

# Where each public name lives: they are imported when first used, so that `import muscan` is quick.
_PUBLIC = {
    "Detector": "muscan.model.detector",
    "InputError": "muscan.errors",
    "Material": "muscan.model.material",
    "MaterialDatabase": "muscan.model.material",
    "MaterialMap": "muscan.model.volume",
    "MuscanError": "muscan.errors",
    "Scene": "muscan.model.scene",
    "Volume": "muscan.model.volume",
    "VoxelGrid": "muscan.model.volume",
    "align": "muscan.pipeline",
    "calibrate": "muscan.pipeline",
    "check_manifest": "muscan.pipeline",
    "draw_scene": "muscan.model.draw",
    "identify": "muscan.pipeline",
    "import_hits": "muscan.pipeline",
    "load_detector": "muscan.model.detector",
    "load_materials": "muscan.model.material",
    "load_scene": "muscan.model.scene",
    "quality": "muscan.pipeline",
    "read": "muscan.pipeline",
    "reconstruct": "muscan.pipeline",
    "recover": "muscan.io",
    "report": "muscan.pipeline",
    "scan": "muscan.pipeline",
    "simulate": "muscan.pipeline",
    "study": "muscan.studies",
    "survey": "muscan.pipeline",
    "track": "muscan.pipeline",
    "transport_slab": "muscan.simulation.slab",
    "watch": "muscan.pipeline",
    "weigh": "muscan.pipeline",
}

__all__ = [
    "Detector",
    "InputError",
    "Material",
    "MaterialDatabase",
    "MaterialMap",
    "MuscanError",
    "Scene",
    "Volume",
    "VoxelGrid",
    "__version__",
    "align",
    "calibrate",
    "check_manifest",
    "draw_scene",
    "identify",
    "import_hits",
    "load_detector",
    "load_materials",
    "load_scene",
    "quality",
    "read",
    "reconstruct",
    "recover",
    "report",
    "scan",
    "simulate",
    "study",
    "survey",
    "track",
    "transport_slab",
    "watch",
    "weigh",
]

__version__ = _version("muscan")


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'muscan' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
