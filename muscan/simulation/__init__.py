"""Flux → source → transport → panel response."""

from muscan.simulation.engine import Simulation, simulate_chunks
from muscan.simulation.source import Source, make_source

__all__ = ["Simulation", "Source", "make_source", "simulate_chunks"]
