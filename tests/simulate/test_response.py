"""The panels' response: efficiency, resolution, coordinates, noise, times, triggers."""

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.kernels import response as kernel
from muscan.model.detector import load_detector, parse_detector
from muscan.simulate.response import build_response, empty_hits, trigger_groups

LAYOUT = """
name = "three"
gate_ns = 400
[inspection]
min_mm = [-100, -100, -100]
max_mm = [100, 100, 100]
[technology.both]
size_mm = [1000, 2000]
resolution_mm = [0.5, 2.0]
efficiency = 0.9
noise_hz_per_m2 = 100000
time_resolution_ns = 3.0
[technology.one]
size_mm = [1000, 1000]
measures = "v"
resolution_mm = [0.5, 1.0]
[[panel]]
name = "a"
group = "upper"
technology = "both"
centre_mm = [0, 0, 300]
[[panel]]
name = "b"
group = "upper"
technology = "one"
centre_mm = [0, 0, 200]
[[panel]]
name = "c"
group = "lower"
technology = "both"
centre_mm = [0, 0, -200]
"""


@pytest.fixture(scope="module")
def three():
    return build_response(parse_detector(LAYOUT, "three.toml"))


def recorded(response, n=20_000):
    """Hits of n muons that each cross all panels at u = 10, v = −20 after 5 ns, at 60°."""
    rng = np.random.default_rng(4)
    hits = empty_hits(3 * n)
    panels = np.arange(3, dtype=np.int32)
    crossings = np.tile([10.0, -20.0, 5.0, 2.0], (3, 1))
    row = 0
    for event in range(n):
        row = kernel.record_crossings(rng, response, panels, crossings, 3, event, 1000.0, hits, row)
    return kernel.HitColumns(*(column[:row] for column in hits))


def test_efficiency_resolution_and_time(three):
    n = 20_000
    hits = recorded(three, n)
    on_a = hits.panel == 0
    assert on_a.sum() == pytest.approx(0.9 * n, abs=4 * np.sqrt(n * 0.09))
    assert (hits.panel == 1).sum() == n  # fully efficient
    for column, mean, sigma in ((hits.u, 10, 0.5), (hits.v, -20, 2.0), (hits.time, 1005, 3.0)):
        values = column[on_a].astype(float)
        assert values.mean() == pytest.approx(mean, abs=4 * sigma / np.sqrt(len(values)))
        assert values.std() == pytest.approx(sigma, rel=0.03)
    assert (hits.sigma_u[on_a] == np.float32(0.5)).all()
    assert (hits.sigma_v[on_a] == np.float32(2.0)).all()


def test_a_coordinate_that_is_not_measured_is_nan_with_infinite_sigma(three):
    hits = recorded(three, 200)
    one = hits.panel == 1
    assert np.isnan(hits.u[one]).all()
    assert np.isinf(hits.sigma_u[one]).all()
    assert np.isfinite(hits.v[one]).all()


def test_amplitude_grows_with_the_path_and_has_a_tail_upwards(three):
    amplitude = recorded(three).amplitude
    # The mode of Moyal's distribution is at 0, its median at 0.787 widths above.
    assert np.median(amplitude) == pytest.approx(2 * (1 + 0.1 * 0.787), rel=0.01)
    low, middle, high = np.quantile(amplitude, [0.01, 0.5, 0.99])
    assert high - middle > 2 * (middle - low)


def test_noise_is_poisson_in_the_gate_and_uniform_on_the_panels(three):
    # 100 kHz/m² · 2 m² · 400 ns = 0.08 hits a panel and gate, on the two panels that have noise.
    rng = np.random.default_rng(6)
    n = 40_000
    hits = empty_hits(n)
    row, numbers = 0, np.zeros(n)
    for event in range(n):
        end = kernel.add_noise(rng, three, event, 5000.0, hits, row)
        numbers[event], row = end - row, end
    assert numbers.mean() == pytest.approx(0.16, abs=4 * np.sqrt(0.16 / n))
    assert numbers.var() == pytest.approx(0.16, rel=0.05)
    noise = kernel.HitColumns(*(column[:row] for column in hits))
    assert np.bincount(noise.panel, minlength=3)[1] == 0
    assert (noise.panel == 0).mean() == pytest.approx(0.5, abs=0.03)
    assert np.abs(noise.time - 5000).max() <= 200
    # Uniform on ±500 and ±1000 mm, smeared by the resolution.
    assert noise.u.std() == pytest.approx(1000 / np.sqrt(12), rel=0.02)
    assert noise.v.std() == pytest.approx(2000 / np.sqrt(12), rel=0.02)


def test_hits_of_an_event_are_in_the_order_of_their_times(three):
    rng = np.random.default_rng(8)
    hits = empty_hits(50)
    for column in hits:
        column[:] = rng.uniform(0, 60_000, 50).astype(column.dtype)
    before = {(p, u): t for p, u, t in zip(hits.panel, hits.u, hits.time, strict=True)}
    rows = {tuple(map(float, row)) for row in zip(*hits[1:], strict=True)}
    kernel.sort_by_time(hits, 10, 40)
    assert (np.diff(hits.time[10:40]) >= 0).all()
    assert {tuple(map(float, row)) for row in zip(*hits[1:], strict=True)} == rows
    assert all(before[(p, u)] == t for p, u, t in zip(hits.panel, hits.u, hits.time, strict=True))


def test_triggers():
    detector = parse_detector(LAYOUT, "three.toml")
    assert trigger_groups(detector, "incoming").tolist() == [0, 0, -1]
    assert trigger_groups(detector, "any").tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="no such trigger 'some'"):
        trigger_groups(detector, "some")
    room = load_detector("room")
    names = np.array([panel.group for panel in room.panels])
    assert set(names[trigger_groups(room, "incoming") < 0]) == {"floor"}
    below = parse_detector(LAYOUT.replace("-100, -100, -100", "-100, -100, 1000")
                           .replace("100, 100, 100", "100, 100, 1100"), "below")  # fmt: skip
    assert trigger_groups(below, "incoming").tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "panels, expected",
    [([0, 1], True), ([0], False), ([0, 2], False), ([2, 2], False), ([], False)],
)
def test_two_hits_of_one_group_that_counts_trigger(three, panels, expected):
    hits = empty_hits(4)
    hits.panel[1 : 1 + len(panels)] = panels
    assert kernel.triggers(three, hits, 1, 1 + len(panels)) is expected
