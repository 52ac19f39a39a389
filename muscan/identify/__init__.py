"""What is in a volume: materials of voxels, regions, weights and alerts."""

from muscan.identify.segment import Region, find_regions
from muscan.identify.verdict import identify
from muscan.identify.voxels import classify_voxels, group_members

__all__ = ["Region", "classify_voxels", "find_regions", "group_members", "identify"]
