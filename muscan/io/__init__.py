"""Files: the only room that knows HDF5 and JSON on disk."""

from muscan.io.alerts import read_alerts, write_alerts
from muscan.io.atomic import copy_file, result_folder, spare, write_text
from muscan.io.describe import describe
from muscan.io.gdml import read_gdml
from muscan.io.hdf5 import format_of
from muscan.io.hits import HitsWriter, iter_hits, read_hits, read_truth, write_hits
from muscan.io.live import HitsFollower, LiveHitsWriter
from muscan.io.recover import Recovery, recover
from muscan.io.strips import StripsWriter
from muscan.io.tracks import TracksWriter, iter_tracks, read_tracks, write_tracks
from muscan.io.volumes import read_materials, read_volume, write_materials, write_volume

__all__ = [
    "HitsFollower",
    "HitsWriter",
    "LiveHitsWriter",
    "Recovery",
    "StripsWriter",
    "TracksWriter",
    "copy_file",
    "describe",
    "format_of",
    "iter_hits",
    "iter_tracks",
    "read_alerts",
    "read_gdml",
    "read_hits",
    "read_materials",
    "read_tracks",
    "read_truth",
    "read_volume",
    "recover",
    "result_folder",
    "spare",
    "write_alerts",
    "write_hits",
    "write_materials",
    "write_text",
    "write_tracks",
    "write_volume",
]
