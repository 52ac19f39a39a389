"""Hits to straight tracks."""

from muscan.track.finding import find_tracks

__all__ = ["find_tracks"]
