"""The page that anyone can open: a scan's alerts and pictures in one HTML file."""

from muscan.reporting.page import render

__all__ = ["render"]
