"""The verbs of muscan: each step of the chain, from files or objects to files or objects.

A verb takes a path or what would be read from it. With ``output`` it writes a file, streaming
where the data may be large, and returns the file's path; without, it returns the object.
"""

from muscan.pipeline.common import Progress
from muscan.pipeline.events import import_hits, simulate, track
from muscan.pipeline.scan import read, report, scan
from muscan.pipeline.volumes import identify, reconstruct

__all__ = [
    "Progress",
    "identify",
    "import_hits",
    "read",
    "reconstruct",
    "report",
    "scan",
    "simulate",
    "track",
]
