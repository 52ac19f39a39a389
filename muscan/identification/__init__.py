"""What is in a volume: materials of voxels, regions, weights and alerts."""

from muscan.identification.segment import Region, find_regions
from muscan.identification.verdict import identify
from muscan.identification.voxels import classify_voxels, group_members

__all__ = ["Region", "classify_voxels", "find_regions", "group_members", "identify"]
