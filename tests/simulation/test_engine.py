"""The engine: straight lines, rates, scattering, stopping, reproducibility, full scans."""

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.model.detector import parse_detector
from muscan.model.events import Hits, Muons
from muscan.model.flux import load_flux
from muscan.model.scene import Scene, parse_scene
from muscan.model.solids import Body, make_voxel_map
from muscan.simulation import Simulation, simulate_chunks

SPEED_OF_LIGHT = 299.792458  # mm/ns

IDEAL = """
[technology.ideal]
size_mm = [{size}, {size}]
thickness_mm = {thickness}
material = "{material}"
resolution_mm = [1e-6, 1e-6]
time_resolution_ns = 0
"""


def layout(planes, *, size=2000, thickness=1.0, material="air", reach=400):
    """Horizontal ideal planes at heights z [mm]; above zero upper, below lower."""
    text = f"""
name = "ideal"
[inspection]
min_mm = [-{reach}, -{reach}, -{reach}]
max_mm = [{reach}, {reach}, {reach}]
""" + IDEAL.format(size=size, thickness=thickness, material=material)
    for number, z in enumerate(planes):
        group = "upper" if z > 0 else "lower"
        text += f"""
[[panel]]
name = "{number}"
group = "{group}"
technology = "ideal"
centre_mm = [0, 0, {z}]
"""
    return parse_detector(text, "ideal.toml")


def joined(simulation):
    hits, muons = zip(*simulation.chunks(), strict=True)
    return Hits.join(list(hits)), Muons.join(list(muons))


def by_plane(hits, detector):
    """Positions of the hits by event and panel, (n, n_panels, 3), NaN where not hit."""
    events, rows = np.unique(hits.event_id, return_inverse=True)
    found = np.full((len(events), len(detector.panels), 3), np.nan)
    axes = detector.axes[hits.panel]
    found[rows, hits.panel] = (
        detector.centres[hits.panel] + hits.u[:, None] * axes[:, 0] + hits.v[:, None] * axes[:, 1]
    )
    return found


def projected_angles(points, upper, lower):
    """Change of both projected angles between two pairs of planes [rad]."""

    def slope(first, second):
        step = points[:, second] - points[:, first]
        return step[:, :2] / step[:, 2:]

    return np.arctan(slope(*lower)) - np.arctan(slope(*upper))


def half_width(values):
    return np.quantile(np.abs(values), 0.6827)


# --- closed forms -------------------------------------------------------------------------------


def test_fast_muons_in_vacuum_like_air_fly_straight_at_the_speed_of_light():
    detector = layout([900, 600, -600, -900])
    simulation = Simulation(Scene("nothing"), detector, muons=20_000, seed=2,
                            momentum_range=(500.0, 10_000.0))  # fmt: skip
    hits, muons = joined(simulation)
    rows = np.searchsorted(muons.event_id, hits.event_id)
    start, direction = (v[rows].astype(float) for v in (muons.position, muons.direction))
    point = by_plane(hits, detector)[rows, hits.panel]
    length = np.linalg.norm(point - start, axis=1)
    off = np.linalg.norm(point - start - length[:, None] * direction, axis=1)
    assert np.quantile(off, 0.99) < 0.1
    # Times count from the start of the run: after a day, float64 resolves 0.016 ns.
    first = np.full(len(muons), np.inf)
    np.minimum.at(first, rows, hits.time - length / SPEED_OF_LIGHT)
    assert np.abs(hits.time - length / SPEED_OF_LIGHT - first[rows]).max() < 0.04


def test_slow_muons_take_longer():
    detector = layout([900, 600, -600, -900])
    simulation = Simulation(Scene("nothing"), detector, muons=20_000, seed=2,
                            momentum_range=(0.2, 0.21))  # fmt: skip
    hits, _ = joined(simulation)
    points = by_plane(hits, detector)
    first, last = hits.panel == 0, hits.panel == 3
    both = np.intersect1d(hits.event_id[first], hits.event_id[last])
    flight = (
        hits.time[last & np.isin(hits.event_id, both)]
        - hits.time[first & np.isin(hits.event_id, both)]
    )
    chosen = points[np.isin(np.unique(hits.event_id), both)]
    length = np.linalg.norm(chosen[:, 3] - chosen[:, 0], axis=1)
    beta = 0.205 / np.hypot(0.205, 0.10566)
    assert np.median(length / flight) / SPEED_OF_LIGHT == pytest.approx(beta, rel=0.01)


def test_rate_of_coincidences_is_that_of_the_acceptance():
    # Two planes a millimetre apart see nearly the rate of one, without its grazing muons.
    detector = layout([600, 598], size=1000, thickness=0.1)
    simulation = Simulation(Scene("nothing"), detector, muons=400_000, seed=3)
    _, muons = joined(simulation)
    rate = len(muons) / simulation.live_time_s
    # A muon at zenith angle θ leaves the overlap by 2 mm·tanθ.
    p, c = np.geomspace(0.1, 1e4, 400), (np.arange(2000) + 0.5) / 2000
    per_angle = np.trapezoid(load_flux("guan2015").intensity(p[:, None], c), p, axis=0)
    shift = 2 * np.sqrt(1 - c**2) / c * 2 / np.pi
    overlap = np.maximum(1000 - shift, 0) ** 2 * 1e-6
    expected = 2 * np.pi * (per_angle * c * overlap).sum() / 2000
    assert rate == pytest.approx(expected, rel=0.02)


def test_rate_through_wall_panels_is_that_of_the_flux():
    text = """
name = "wall"
[inspection]
min_mm = [-400, -400, -400]
max_mm = [400, 400, 400]
""" + IDEAL.format(size=600, thickness=0.1, material="air")
    for number, x in enumerate((500, 501)):
        text += f"""
[[panel]]
name = "{number}"
group = "wall"
technology = "ideal"
centre_mm = [{x}, 0, 0]
u_axis = [0, 1, 0]
v_axis = [0, 0, 1]
"""
    detector = parse_detector(text, "wall.toml")
    simulation = Simulation(Scene("nothing"), detector, muons=300_000, seed=3, flux="ecomug")
    _, muons = joined(simulation)
    both_sides = 2 * load_flux("ecomug").wall_rate(0.1) * 0.36
    measured = len(muons) / simulation.live_time_s
    assert measured == pytest.approx(both_sides, rel=0.02)


def test_thick_iron_stops_slow_muons_and_lets_fast_ones_through():
    iron = Body("plate", "box", np.array([350.0, 350, 100]), "iron")
    detector = layout([600, 500, -500, -600], size=500)

    def through(low, high):
        simulation = Simulation(Scene("plate", (iron,)), detector, muons=40_000, seed=1,
                                momentum_range=(low, high))  # fmt: skip
        hits, _ = joined(simulation)
        points = by_plane(hits, detector)
        aimed = points[np.isfinite(points[:, :2, 0]).all(axis=1)]
        slope = (aimed[:, 1] - aimed[:, 0]) / 100
        exit_ = aimed[:, 1] + slope * 1100
        inside = (np.abs(exit_[:, :2]) < 100).all(axis=1)
        return np.isfinite(aimed[inside, 2, 0]).mean()

    # 20 cm of iron cost 0.26 to 0.3 GeV (1.45 to 1.6 MeV cm²/g); muons below 0.3 GeV/c stop.
    assert through(0.15, 0.3) == 0
    assert through(5.0, 20.0) > 0.98


def test_a_body_cut_into_slices_scatters_like_the_whole():
    detector = layout([700, 500, -500, -700], size=1000)

    def width(bodies):
        simulation = Simulation(Scene("cut", bodies), detector, muons=150_000, seed=4,
                                momentum_range=(1.0, 10.0))  # fmt: skip
        points = by_plane(joined(simulation)[0], detector)
        points = points[np.isfinite(points).all(axis=(1, 2))]
        return half_width(projected_angles(points, (0, 1), (2, 3)))

    def plate(z, half, name="plate", **options):
        return Body(name, "box", np.array([380.0, 380.0, half]), "iron",
                    np.array([0.0, 0.0, z]), **options)  # fmt: skip

    whole = width((plate(0, 50),))
    slices = width(tuple(plate(-45 + 10 * i, 5, f"slice {i}") for i in range(10)))
    nested = width((plate(0, 50), plate(0, 30, "inner", mother=0)))
    assert whole > 5e-3
    assert slices == pytest.approx(whole, rel=0.02)
    assert nested == pytest.approx(whole, rel=0.02)


def test_a_voxel_map_scatters_like_the_body_it_draws():
    detector = layout([700, 500, -500, -700], size=1000)
    body = parse_scene(
        'name = "b"\n[[body]]\nname = "b"\nmaterial = "lead"\nsize_mm = [600, 600, 60]', "b"
    )
    voxels = make_voxel_map(np.zeros((6, 6, 3), int), ["lead"], (100.0, 100.0, 20.0))
    drawn = Scene("v", (Body("v", "voxels", voxels.half, "lead", voxels=voxels),))
    widths = []
    for scene in (body, drawn):
        simulation = Simulation(scene, detector, muons=100_000, seed=5, momentum_range=(1.0, 10.0))
        points = by_plane(joined(simulation)[0], detector)
        points = points[np.isfinite(points).all(axis=(1, 2))]
        widths.append(half_width(projected_angles(points, (0, 1), (2, 3))))
    assert widths[1] == pytest.approx(widths[0], rel=0.03)


def test_panels_scatter_too():
    def width(material, thickness):
        detector = layout([700, 500, -500, -700], size=1000, material=material, thickness=thickness)
        simulation = Simulation(Scene("nothing"), detector, muons=40_000, seed=6,
                                momentum_range=(2.0, 3.0))  # fmt: skip
        points = by_plane(joined(simulation)[0], detector)
        points = points[np.isfinite(points).all(axis=(1, 2))]
        return half_width(projected_angles(points, (0, 1), (2, 3)))

    # Two inner panels of 5 mm iron: 15 MeV / 2.5 GeV · √(10/17.57) · 1/√⟨cosθ⟩ ≈ 5 mrad.
    assert width("iron", 5.0) == pytest.approx(5e-3, rel=0.2)
    assert width("air", 1.0) < 1e-3


# --- bookkeeping --------------------------------------------------------------------------------


def test_events_are_numbered_and_kept_whole():
    simulation = Simulation("blocks", muons=150_000, seed=1)
    last = -1
    for hits, muons in simulation.chunks():
        assert muons.event_id[0] == last + 1
        assert (np.diff(muons.event_id.astype(int)) == 1).all()
        assert (np.unique(hits.event_id) == muons.event_id).all()
        assert (np.diff(hits.event_id.astype(int)) >= 0).all()
        last = int(muons.event_id[-1])
        assert hits.run.source == "simulated"
    counts = simulation.statistics()
    assert counts["generated"] == 150_000
    assert counts["kept"] == last + 1
    assert counts["stuck"] == 0
    fates = ("missed", "left", "stopped", "decayed", "stuck")
    assert sum(counts[name] for name in fates) == counts["generated"]
    transported = counts["generated"] - counts["missed"]
    assert counts["untriggered"] + counts["kept"] == transported


def test_same_seed_same_bytes_for_any_number_of_workers():
    one = joined(Simulation("container", muons=200_000, seed=9, workers=1))
    three = joined(Simulation("container", muons=200_000, seed=9, workers=3))
    other = joined(Simulation("container", muons=200_000, seed=10, workers=3))
    for first, second in zip(one, three, strict=True):
        for name, column in first.columns().items():
            assert column.tobytes() == getattr(second, name).tobytes(), name
    assert one[0].u.tobytes() != other[0].u.tobytes()


def test_the_straight_pre_test_loses_nothing():
    # Slow muons and thick panels scatter most. Without the pre-test's margins some would be lost:
    # a wide margin must not find more.
    detector = layout([900, 500, -500, -900], size=800, thickness=10, material="iron")
    kept = []
    for widening in (1.0, 4.0):
        simulation = Simulation(Scene("nothing"), detector, muons=100_000, seed=3,
                                momentum_range=(0.1, 0.4))  # fmt: skip
        spread = simulation.world.spread * widening
        object.__setattr__(simulation.world, "spread", spread)
        kept.append(len(joined(simulation)[1]))
    assert kept[0] == pytest.approx(kept[1], abs=4 * np.sqrt(kept[1]))
    assert kept[0] > 5000


def test_live_time_and_times():
    timed = Simulation("empty", minutes=0.05, seed=1)
    assert timed.live_time_s == 3.0
    expected = timed.source.rate_hz * 3.0
    assert timed.n_muons == pytest.approx(expected, abs=5 * np.sqrt(expected))
    counted = Simulation("empty", muons=50_000, seed=1)
    assert counted.live_time_s == pytest.approx(50_000 / counted.source.rate_hz)
    hits, _ = joined(timed)
    assert hits.time.min() > -500
    assert hits.time.max() < 3.0e9 + 500
    starts = hits.time[np.flatnonzero(np.diff(hits.event_id, prepend=2**63))]
    assert np.quantile(np.diff(starts), 0.001) > -500
    halved = Simulation("empty", minutes=0.05, seed=1, rate_scale=0.5)
    assert halved.source.rate_hz == pytest.approx(timed.source.rate_hz / 2)


def test_panels_read_by_channels_keep_to_them_through_a_whole_simulation():
    text = layout([700, 500, -500, -700], size=1000).text
    changes = {
        "resolution_mm = [1e-6, 1e-6]": """readout = "pitch"
pitch_mm = [20, 50]
dead_channels = [[0, 24], [7]]
efficiency_map = [[1, 1], [1, 0.5]]
extra_hits = 0.1
noise_hz_per_m2 = 100000
""",
        "time_resolution_ns = 0": "time_resolution_ns = 2",
    }
    for old, new in changes.items():
        text = text.replace(old, new)
    detector = parse_detector(text, "channels")
    one = joined(Simulation(Scene("nothing"), detector, muons=150_000, seed=2, workers=1))[0]
    two = joined(Simulation(Scene("nothing"), detector, muons=150_000, seed=2, workers=2))[0]
    assert one.u.tobytes() == two.u.tobytes()
    number_u, number_v = (one.u + 500) / 20 - 0.5, (one.v + 500) / 50 - 0.5
    assert set(number_u.tolist()) == set(range(50)) - {0, 24}
    assert set(number_v.tolist()) == set(range(20)) - {7}


def test_measured_momenta():
    simulation = Simulation("empty", muons=80_000, seed=1, momentum_resolution=0.2)
    for hits, muons in simulation.chunks():
        assert (hits.momenta.event_id == muons.event_id).all()
        pull = (hits.momenta.momentum - muons.momentum) / (0.2 * muons.momentum)
        assert pull.mean() == pytest.approx(0, abs=0.03)
        assert pull.std() == pytest.approx(1, abs=0.03)
    assert next(Simulation("empty", muons=100).chunks())[0].momenta is None


def test_chunks_of_a_scene_by_name():
    hits, muons = next(simulate_chunks("empty", muons=1000, seed=1))
    assert hits.detector.name == "container-portal"
    assert len(muons) > 300


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"minutes": 0}, "not an exposure"),
        ({"minutes": float("nan")}, "not an exposure"),
        ({"muons": 0}, "not a number of muons"),
        ({"muons": 10, "minutes": 1}, "give one of them"),
        ({"momentum_range": (10.0, 1.0)}, "10 to 1 GeV is not a range"),
        ({"workers": 0}, "give 1 or more"),
        ({"seed": -1}, "negative"),
        ({"flux": "guan"}, "no such flux"),
        ({"rate_scale": -1.0}, "not a factor"),
        ({"momentum_resolution": 2.0}, "not a relative resolution"),
        ({"trigger": "none"}, "no such trigger"),
        ({"scattering": "gaussian"}, "gaussian"),
    ],
)
def test_wrong_options_are_refused(options, problem):
    with pytest.raises(InputError, match=problem):
        Simulation("empty", **options)


def test_a_container_does_not_fit_into_a_bag_scanner():
    with pytest.raises(InputError, match="container"):
        Simulation("container", "baggage")
