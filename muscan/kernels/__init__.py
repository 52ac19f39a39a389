"""Compiled functions: scalars and arrays, and nothing of ours but other kernels."""

from muscan.kernels.cache import provide

provide()
