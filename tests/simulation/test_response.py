"""The panels' response: efficiency, resolution, coordinates, noise, times, triggers."""

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.kernels import response as kernel
from muscan.model.detector import load_detector, parse_detector
from muscan.simulation.response import build_response, empty_hits, hits_capacity, trigger_groups
from muscan.simulation.strips import empty_signals

NONE = empty_signals(0)

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
        row = kernel.record_crossings(
            rng, response, panels, crossings, 3, event, 1000.0, hits, NONE, row
        )
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
        end = kernel.add_noise(rng, three, event, 5000.0, hits, NONE, row)
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


# --- channels, maps and extra hits --------------------------------------------------------------

STRIPS = """
name = "strips"
[inspection]
min_mm = [-100, -100, -100]
max_mm = [100, 100, 100]
[technology.strips]
size_mm = [200, 120]
measures = "MEASURES"
time_resolution_ns = 0
KEYS
[[panel]]
name = "a"
group = "upper"
technology = "strips"
centre_mm = [0, 0, 300]
[[panel]]
name = "b"
group = "upper"
technology = "strips"
centre_mm = [0, 0, 200]
OWN
"""
PITCH = 'readout = "pitch"\npitch_mm = [10, 4]'


def strips(keys, own="", measures="uv"):
    text = STRIPS.replace("KEYS", keys).replace("OWN", own).replace("MEASURES", measures)
    return parse_detector(text, "strips.toml")


def spread_out(detector, n=40_000, seed=2):
    """Hits of muons that cross both panels anywhere, and where each muon did, (n, 2) [mm]."""
    response = build_response(detector)
    rng = np.random.default_rng(seed)
    hits, row = empty_hits(6 * n), 0
    places = rng.uniform(-1, 1, (n, 2)) * response.half[0]
    panels, crossings = np.arange(2, dtype=np.int32), np.ones((2, 4))
    for event, place in enumerate(places):
        crossings[:, :2] = place
        row = kernel.record_crossings(
            rng, response, panels, crossings, 2, event, 0.0, hits, NONE, row
        )
    return kernel.HitColumns(*(column[:row] for column in hits)), places


def test_a_pitch_reports_channel_centres_with_a_uniform_error():
    hits, places = spread_out(strips(PITCH))
    assert len(hits.u) == 2 * len(places)
    for column, sigma, half, pitch, axis in (
        (hits.u, hits.sigma_u, 100, 10, 0),
        (hits.v, hits.sigma_v, 60, 4, 1),
    ):
        number = (column + half) / pitch - 0.5
        assert number == pytest.approx(np.round(number), abs=1e-4)
        assert set(np.round(number)) == set(range(2 * half // pitch))
        residual = column - places[hits.event_id.astype(int), axis]
        assert np.abs(residual).max() <= pitch / 2 * (1 + 1e-5)
        counts = np.histogram(residual[::2], 10, (-pitch / 2, pitch / 2))[0]
        expected = len(places) / 10
        assert ((counts - expected) ** 2 / expected).sum() < 30  # χ² of 9 degrees of freedom
        assert sigma == pytest.approx(pitch / np.sqrt(12), rel=1e-6)


def test_a_shift_before_the_channel_adds_to_the_error():
    hits, places = spread_out(strips(PITCH + "\nresolution_mm = [3, 0]"))
    residual = hits.u - places[hits.event_id.astype(int), 0]
    inside = np.abs(places[hits.event_id.astype(int), 0]) < 80  # at the edge there is no beyond
    assert residual[inside].std() == pytest.approx(np.hypot(3, 10 / np.sqrt(12)), rel=0.02)
    assert hits.sigma_u == pytest.approx(np.hypot(3, 10 / np.sqrt(12)), rel=1e-6)
    assert hits.sigma_v == pytest.approx(4 / np.sqrt(12), rel=1e-6)
    assert np.abs(hits.u).max() <= 95


def test_dead_channels_give_no_hits_and_the_others_all():
    detector = strips(PITCH + "\ndead_channels = [[3], [0, 29]]", "dead_channels = [[19], []]")
    assert detector.panels[0].dead_channels == ((3,), (0, 29))
    assert detector.panels[1].dead_channels == ((3, 19), (0, 29))
    hits, places = spread_out(detector)
    number_u, number_v = (places[:, 0] + 100) // 10, (places[:, 1] + 60) // 4
    for panel, dead_u in ((0, [3]), (1, [3, 19])):
        lives = ~(np.isin(number_u, dead_u) | np.isin(number_v, [0, 29]))
        assert hits.event_id[hits.panel == panel].tolist() == np.flatnonzero(lives).tolist()


def test_noise_keeps_off_dead_channels():
    keys = PITCH + "\ndead_channels = [[3, 4, 5, 6, 7], []]\nnoise_hz_per_m2 = 1e7"
    response = build_response(strips(keys))
    rng, hits, row, n = np.random.default_rng(3), empty_hits(60_000), 0, 30_000
    for event in range(n):
        row = kernel.add_noise(rng, response, event, 0.0, hits, NONE, row)
    # 10 MHz/m² · 2 · 0.024 m² · 200 ns · 15/20
    assert row / n == pytest.approx(0.096 * 0.75, rel=0.07)
    assert not np.isin(np.round((hits.u[:row] + 95) / 10), [3, 4, 5, 6, 7]).any()


def test_dead_channels_of_a_gaussian_readout_are_where_the_muon_is():
    keys = "resolution_mm = [1, 1]\npitch_mm = [10, 10]\ndead_channels = [[0, 10], [5]]"
    hits, places = spread_out(strips(keys, measures="u"))
    lives = ~np.isin((places[:, 0] + 100) // 10, [0, 10])
    # v is not measured, so that its dead channel is none.
    assert hits.event_id[hits.panel == 0].tolist() == np.flatnonzero(lives).tolist()
    assert np.isnan(hits.v).all()
    assert hits.sigma_u == pytest.approx(1.0)


def test_an_efficiency_map_is_reproduced():
    rows = [[1.0, 0.5, 0.2], [0.9, 0.0, 0.7]]
    hits, places = spread_out(
        strips(f"resolution_mm = [1, 1]\nefficiency = 0.8\nefficiency_map = {rows}")
    )
    cell_u = (places[:, 0] > 0).astype(int)
    cell_v = ((places[:, 1] + 60) // 40).astype(int)
    found = np.bincount(hits.event_id.astype(int), minlength=len(places))
    for i in range(2):
        for j in range(3):
            mine = found[(cell_u == i) & (cell_v == j)]
            expected = 0.8 * rows[i][j]
            error = np.sqrt(expected * (1 - expected) / (2 * len(mine)))
            assert mine.mean() / 2 == pytest.approx(expected, abs=4 * error + 1e-12)


def test_a_map_of_one_cell_counts():
    hits, places = spread_out(strips("resolution_mm = [1, 1]\nefficiency_map = [[0.25]]"))
    n = 2 * len(places)
    assert len(hits.u) == pytest.approx(0.25 * n, abs=4 * np.sqrt(n * 0.25 * 0.75))


@pytest.mark.parametrize("chance", [0.05, 0.5])
def test_extra_hits_follow_the_first_with_their_chance(chance):
    keys = f"resolution_mm = [0.1, 0.1]\nextra_hits = {chance}\nextra_hit_distance_mm = 2.5"
    hits, places = spread_out(strips(keys), n=20_000)
    event = hits.event_id.astype(int)
    key = 2 * event + hits.panel
    number = np.bincount(key, minlength=2 * len(places))
    assert number.min() == 1
    inside = np.repeat((np.abs(places) < [85, 45]).all(axis=1), 2)  # extra hits fall off the edge
    # Geometric: mean 1/(1-c), variance c/(1-c)².
    n, spread = inside.sum(), np.sqrt(chance) / (1 - chance)
    assert number[inside].mean() == pytest.approx(1 / (1 - chance), abs=4 * spread / np.sqrt(n))
    more = (number[inside] > 1).mean()
    assert more == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / n))
    first = np.append(True, key[1:] != key[:-1])
    extra = ~first & inside[key]
    distance = (hits.u - places[event, 0])[extra]
    assert distance.std() == pytest.approx(np.hypot(2.5, 0.1), rel=0.1)


def test_hits_never_outgrow_their_columns():
    keys = "resolution_mm = [1, 1]\nextra_hits = 0.9"
    response = build_response(strips(keys))
    rng, hits = np.random.default_rng(1), empty_hits(30)
    panels, crossings, row = np.arange(2, dtype=np.int32), np.ones((2, 4)), 0
    for event in range(20):
        row = kernel.record_crossings(
            rng, response, panels, crossings, 2, event, 0.0, hits, NONE, row
        )
    assert row == 30
    assert hits_capacity(response, 1000) > 1000 * 2 / 0.1


def test_absurd_noise_is_refused():
    with pytest.raises(InputError, match="480 noise hits in each gate of 200 ns"):
        build_response(strips("resolution_mm = [1, 1]\nnoise_hz_per_m2 = 5e10"))
