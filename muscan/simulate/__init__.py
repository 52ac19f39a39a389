"""Flux → source → transport → panel response."""

from muscan.simulate.engine import Simulation, simulate_chunks
from muscan.simulate.source import Source, make_source

__all__ = ["Simulation", "Source", "make_source", "simulate_chunks"]
