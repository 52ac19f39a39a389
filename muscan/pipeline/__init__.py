"""The verbs of muscan: each step of the chain, from files or objects to files or objects.

A verb takes a path or what would be read from it. With ``output`` it writes a file, streaming
where the data may be large, and returns the file's path; without, it returns the object.
"""

from muscan.pipeline.calibration import align, calibrate, quality
from muscan.pipeline.common import Progress
from muscan.pipeline.events import simulate, track
from muscan.pipeline.importing import import_hits, survey
from muscan.pipeline.manifest import check_manifest
from muscan.pipeline.notify import flush
from muscan.pipeline.scan import read, report, scan
from muscan.pipeline.volumes import identify, reconstruct
from muscan.pipeline.watch import watch
from muscan.pipeline.weigh import weigh

__all__ = [
    "Progress",
    "align",
    "calibrate",
    "check_manifest",
    "flush",
    "identify",
    "import_hits",
    "quality",
    "read",
    "reconstruct",
    "report",
    "scan",
    "simulate",
    "survey",
    "track",
    "watch",
    "weigh",
]
