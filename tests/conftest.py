"""What several tests need: a small detector, and events in it made from chance alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings

from muscan.model.detector import Detector, parse_detector
from muscan.model.events import Hits, Muons, Run, Tracks

# A slow machine is no failure, and the gate tries the same examples every time.
settings.register_profile("muscan", deadline=None, derandomize=True)
settings.load_profile("muscan")

LAYOUT = """
name = "bench"
description = "Two pairs of panels above and below a metre of air"
[inspection]
min_mm = [-400, -400, -400]
max_mm = [400, 400, 400]
[technology.pad]
size_mm = [1000, 1000]
resolution_mm = [0.3, 0.3]
material = "air"
"""
for _name, _group, _z in (("a", "upper", 700), ("b", "upper", 500), ("c", "lower", -500),
                          ("d", "lower", -700)):  # fmt: skip
    LAYOUT += f"""
[[panel]]
name = "{_name}"
group = "{_group}"
technology = "pad"
centre_mm = [0, 0, {_z}]
"""


@pytest.fixture(scope="session")
def bench() -> Detector:
    """Four horizontal panels, no shipped data needed."""
    return parse_detector(LAYOUT, "bench")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261122)


@pytest.fixture
def hits(bench: Detector, rng: np.random.Generator) -> Hits:
    """500 events with a hit in each of the four panels."""
    n = 2000
    return Hits(
        event_id=np.repeat(np.arange(500, dtype="u8") * 3, 4),
        panel=np.tile(np.arange(4, dtype="u2"), 500),
        u=rng.uniform(-400, 400, n).astype("f4"),
        v=rng.uniform(-400, 400, n).astype("f4"),
        sigma_u=np.full(n, 0.3, "f4"),
        sigma_v=np.full(n, 0.3, "f4"),
        time=np.sort(rng.uniform(0, 1e9, n)),
        amplitude=np.ones(n, "f4"),
        detector=bench,
        run=Run(60.0, "2026-01-01T00:00:00+00:00", "run-7", "simulated", {"muons": 900}),
    )


@pytest.fixture
def truth(rng: np.random.Generator) -> Muons:
    n = 500
    return Muons(
        event_id=np.arange(n, dtype="u8") * 3,
        momentum=rng.uniform(1, 9, n).astype("f4"),
        charge=rng.choice(np.array([-1, 1], "i1"), n),
        position=rng.uniform(-1, 1, (n, 3)).astype("f4"),
        direction=np.tile(np.array([0, 0, -1], "f4"), (n, 1)),
    )


@pytest.fixture
def tracks(bench: Detector, rng: np.random.Generator) -> Tracks:
    """300 events with an incoming and an outgoing track through the middle."""
    n = 600
    slopes = rng.normal(0, 0.2, (n, 2))
    direction = np.column_stack([slopes, -np.ones(n)])
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    side = np.tile(np.array([0, 1], "i1"), n // 2)
    position = np.column_stack([rng.uniform(-300, 300, (n, 2)), np.where(side == 0, 600, -600)])
    return Tracks(
        event_id=np.repeat(np.arange(n // 2, dtype="u8"), 2),
        side=side,
        position=position.astype("f4"),
        direction=direction.astype("f4"),
        cov=np.tile(np.diag([0.05, 0.05, 2e-6, 2e-6]).astype("f4"), (n, 1, 1)),
        chi2=rng.chisquare(2, n).astype("f4"),
        ndof=np.full(n, 2, "i2"),
        n_hits=np.full(n, 2, "u1"),
        momentum=np.full(n, np.nan, "f4"),
        sigma=np.full(n, np.nan, "f4"),
        detector=bench,
        run=Run(60.0, source="simulated"),
    )
