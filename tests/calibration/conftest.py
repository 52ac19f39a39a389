"""Small detectors with known faults, and simulated events in them."""

from __future__ import annotations

import pytest

import muscan
from muscan.model.detector import Detector, parse_detector
from muscan.model.events import Hits

#: Six planes of two coordinates with Gaussian errors.
GAUSSIAN = """
name = "bench6"
[inspection]
min_mm = [-400, -400, -300]
max_mm = [400, 400, 300]

[technology.plane]
size_mm = [1000, 1000]
thickness_mm = 4
resolution_mm = [0.3, 0.3]
efficiency = 0.97
noise_hz_per_m2 = 20000

[[panel]]
name = "upper"
group = "upper"
technology = "plane"
centre_mm = [0, 0, 700]
repeat = { count = 3, step_mm = [0, 0, -150] }

[[panel]]
name = "lower"
group = "lower"
technology = "plane"
centre_mm = [0, 0, -400]
repeat = { count = 3, step_mm = [0, 0, -150] }
"""

#: The same planes read by channels; one has dead channels and a weak quarter.
FAULTY = (
    GAUSSIAN.replace(
        "resolution_mm = [0.3, 0.3]",
        'readout = "pitch"\npitch_mm = [5, 4]\nresolution_mm = [1.0, 1.0]',
    )
    + """
[technology.weak]
size_mm = [1000, 1000]
thickness_mm = 4
readout = "pitch"
pitch_mm = [5, 4]
resolution_mm = [1.0, 1.0]
efficiency = 0.95
efficiency_map = [[1, 1], [1, 0.8]]
noise_hz_per_m2 = 20000
"""
).replace(
    """centre_mm = [0, 0, -400]
repeat = { count = 3, step_mm = [0, 0, -150] }
""",
    """centre_mm = [0, 0, -400]
repeat = { count = 2, step_mm = [0, 0, -150] }

[[panel]]
name = "lower-3"
group = "lower"
technology = "weak"
dead_channels = [[70, 71], [120]]
centre_mm = [0, 0, -700]
""",
)


def simulated(detector: Detector, muons: int, seed: int) -> Hits:
    """Return the hits of muons through air and a detector."""
    return muscan.simulate("empty", detector=detector, muons=muons, seed=seed)


@pytest.fixture(scope="session")
def planes() -> Detector:
    return parse_detector(GAUSSIAN, "bench6")


@pytest.fixture(scope="session")
def straight(planes: Detector) -> Hits:
    """About 7000 muons seen by all six planes."""
    return simulated(planes, 90_000, seed=4)


@pytest.fixture(scope="session")
def faulty() -> Detector:
    return parse_detector(FAULTY, "bench6")


@pytest.fixture(scope="session")
def faulty_hits(faulty: Detector) -> Hits:
    return simulated(faulty, 150_000, seed=5)
