"""Compiling ahead: the small scan is a scan, and fills numba's cache."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from muscan.model.detector import load_detector
from muscan.model.events import pair_tracks
from muscan.pipeline import ahead
from muscan.pipeline.events import track


def test_lines_have_tracks_that_differ_by_the_kink():
    scatters = pair_tracks(track(ahead.lines(load_detector(ahead.LAYOUT))))
    assert len(scatters) > 0.9 * ahead.LINES
    slopes = [
        direction[:, :2] / direction[:, 2:]
        for direction in (scatters.in_direction, scatters.out_direction)
    ]
    assert np.std(slopes[0] - slopes[1]) == pytest.approx(ahead.KINK, rel=0.1)


@pytest.mark.slow
def test_a_second_process_fills_the_cache(tmp_path):
    folder = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    ask = "from muscan.pipeline import ahead; print(ahead.is_compiled())"

    def run(*words: str) -> str:
        return subprocess.run(
            [sys.executable, *words], env=folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert run("-c", ask) == "False"
    run("-m", "muscan.pipeline.ahead", "poca")
    assert run("-c", ask) == "True"
