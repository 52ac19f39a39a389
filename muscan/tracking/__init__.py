"""Hits to straight tracks."""

from muscan.tracking.finding import find_tracks

__all__ = ["find_tracks"]
