"""Tracks from hits: association, noise, missing planes, poses, counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from muscan.errors import InputError
from muscan.io.drivers import open_source
from muscan.model.detector import Detector, load_detector, parse_detector
from muscan.model.events import Hits, MomentumMeasurements, Tracks, pair_tracks
from muscan.tracking import find_tracks

SIGMA = 0.3
DATA = Path(__file__).parents[1] / "data"


def layout(
    panels: list[tuple[str, tuple, tuple, tuple]],
    thickness: float = 0.0,
    measures: tuple[str, ...] = ("uv",),
) -> Detector:
    """A detector of 4 m × 4 m panels given as (group, centre, u axis, v axis).

    What they measure goes round through `measures`.
    """
    text = """
name = "test"
inspection = { min_mm = [-1000, -1000, -1000], max_mm = [1000, 1000, 1000] }
"""
    for kind in set(measures):
        text += f"""
[technology.{kind}]
size_mm = [4000, 4000]
thickness_mm = {thickness}
measures = "{kind}"
resolution_mm = [{SIGMA}, {SIGMA}]
"""
    for i, (group, centre, u, v) in enumerate(panels):
        text += f"""
[[panel]]
name = "p{i}"
group = "{group}"
technology = "{measures[i % len(measures)]}"
centre_mm = {list(map(float, centre))}
u_axis = {list(map(float, u))}
v_axis = {list(map(float, v))}
"""
    return parse_detector(text, "test layout")


def stack(heights: list[float], **options) -> Detector:
    """Horizontal panels, those above 0 in one group and those below in the other."""
    flat = ((1, 0, 0), (0, 1, 0))
    return layout([("up" if z > 0 else "down", (0, 0, z), *flat) for z in heights], **options)


UNKNOWN_MATTER = """[technology.uv]
material = "unobtainium\""""
SIX = [1900, 1600, 1300, -1300, -1600, -1900]


def walls(reach: float) -> list[tuple[str, tuple, tuple, tuple]]:
    """Three planes, 150 mm apart, on each of the six sides of a cube."""
    panels = []
    for k in range(3):
        d = reach + 150 * k
        panels += [
            ("roof", (0, 0, d), (1, 0, 0), (0, 1, 0)),
            ("floor", (0, 0, -d), (1, 0, 0), (0, 1, 0)),
            ("east", (d, 0, 0), (0, 1, 0), (0, 0, 1)),
            ("west", (-d, 0, 0), (0, 1, 0), (0, 0, 1)),
            ("north", (0, d, 0), (1, 0, 0), (0, 0, 1)),
            ("south", (0, -d, 0), (1, 0, 0), (0, 0, 1)),
        ]
    return panels


def straight_muons(n: int, rng: np.random.Generator, kink: float = 0.005):
    """Falling muons: a point in the middle, the direction before it and after it."""
    vertex = rng.uniform(-700, 700, (n, 3))
    slope = rng.normal(0, 0.35, (n, 2))
    before = np.column_stack([slope, -np.ones(n)])
    after = np.column_stack([slope + rng.normal(0, kink, (n, 2)), -np.ones(n)])
    return vertex, _unit(before), _unit(after)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def hits_of(
    detector: Detector,
    muons: tuple[np.ndarray, np.ndarray, np.ndarray],
    rng: np.random.Generator,
    efficiency: float = 1.0,
    noise: float = 0.0,
    sigma: float = SIGMA,
) -> tuple[Hits, np.ndarray]:
    """Hits of muons in every panel that they cross, and whether each is of the muon."""
    vertex, before, after = muons
    n = len(vertex)
    parts = []
    for index, panel in enumerate(detector.panels):
        t_before = (panel.centre - vertex) @ panel.normal / (before @ panel.normal)
        t_after = (panel.centre - vertex) @ panel.normal / (after @ panel.normal)
        use_before = t_before < 0
        t = np.where(use_before, t_before, t_after)
        direction = np.where(use_before[:, None], before, after)
        met = vertex + t[:, None] * direction - panel.centre
        uv = np.column_stack([met @ panel.u, met @ panel.v])
        seen = (np.abs(uv) < np.array(panel.size) / 2).all(axis=1)
        seen &= use_before | (t_after > 0)
        seen &= rng.random(n) < efficiency
        uv = uv + rng.normal(0, sigma, uv.shape)
        random = rng.random(n) < noise
        chance = rng.uniform(-0.5, 0.5, (n, 2)) * panel.size
        for rows, place, real in ((seen, uv, True), (random, chance, False)):
            event = np.flatnonzero(rows)
            parts.append(
                (event, np.full(len(event), index), place[rows], np.full(len(event), real))
            )
    event, panel_index, uv, real = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((rng.random(len(event)), event))
    spread = np.array(detector.sigmas, dtype="f4")[panel_index[order]]
    uv = np.where(np.isfinite(spread), uv[order], np.nan).astype("f4")
    hits = Hits(
        event_id=event[order].astype("u8"),
        panel=panel_index[order].astype("u2"),
        u=uv[:, 0],
        v=uv[:, 1],
        sigma_u=spread[:, 0],
        sigma_v=spread[:, 1],
        time=np.zeros(len(event)),
        amplitude=np.ones(len(event), "f4"),
        detector=detector,
    )
    return hits, real[order]


def check_against_truth(tracks: Tracks, muons, tolerance_mrad: float) -> np.ndarray:
    """Angle between each track and the muon's direction on its side [mrad]."""
    _, before, after = muons
    event = tracks.event_id.astype(int)
    true = np.where((tracks.side == 0)[:, None], before[event], after[event])
    return 1e3 * np.arccos(np.clip((tracks.direction * true).sum(axis=1), -1, 1))


def test_clean_events_give_both_tracks(rng: np.random.Generator) -> None:
    detector = stack(SIX)
    muons = straight_muons(2000, rng)
    hits, _ = hits_of(detector, muons, rng)
    full = np.bincount(hits.event_id.astype(int), minlength=2000) == 6
    tracks = find_tracks(hits.take(full[hits.event_id.astype(int)]))
    assert tracks.run.counts["in_and_out"] == full.sum() == len(tracks) / 2
    assert tracks.side.tolist() == [0, 1] * (len(tracks) // 2)
    assert (tracks.ndof == 2).all()
    assert (tracks.n_hits == 3).all()
    assert (tracks.direction[:, 2] < 0).all()
    np.testing.assert_allclose(np.linalg.norm(tracks.direction, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        tracks.position[:, 2], np.where(tracks.side == 0, 1300, -1300), atol=2.0
    )
    # 0.3 mm over 600 mm.
    assert np.quantile(check_against_truth(tracks, muons, 1), 0.99) < 3
    assert tracks.chi2.mean() == pytest.approx(2, abs=0.1)


def test_covariance_gives_pulls_of_one(rng: np.random.Generator) -> None:
    # So near to each other that the air between does not count, which these events do not have.
    detector = stack([1500, 1400, 1300, -1300, -1400, -1500])
    vertex, before, after = muons = straight_muons(8000, rng)
    tracks = find_tracks(hits_of(detector, muons, rng)[0])
    tracks = tracks.take(tracks.ndof == 2)
    event = tracks.event_id.astype(int)
    true = np.where((tracks.side == 0)[:, None], before[event], after[event])
    d = tracks.direction.astype(float)
    scale = 1 / (1 - d[:, 2:])
    x, y = np.eye(3)[:2]
    e = np.stack([x - d[:, :1] * scale * (d - [0, 0, 1]), y - d[:, 1:2] * scale * (d - [0, 0, 1])])
    np.testing.assert_allclose(np.einsum("kni,ni->kn", e, d), 0, atol=1e-6)
    gap = vertex[event] - tracks.position
    gap -= ((gap * d).sum(axis=1) / (true * d).sum(axis=1))[:, None] * true
    state = np.concatenate(
        [np.einsum("kni,ni->nk", e, gap), np.einsum("kni,ni->nk", e, true - d)], axis=1
    )
    pulls = np.linalg.solve(np.linalg.cholesky(tracks.cov.astype(float)), state[..., None])[..., 0]
    np.testing.assert_allclose(pulls.std(axis=0), 1, atol=0.05)


@pytest.mark.parametrize(("noise", "efficiency"), [(0.05, 1.0), (0.05, 0.95), (0.2, 0.98)])
def test_noise_hits_are_left_out(noise: float, efficiency: float, rng: np.random.Generator) -> None:
    detector = stack(SIX)
    muons = straight_muons(5000, rng, kink=0.01)
    hits, real = hits_of(detector, muons, rng, efficiency, noise)
    event = hits.event_id.astype(int)
    found = find_tracks(hits)
    pairs = np.unique(pair_tracks(found).event_id)
    # Events with two real hits on each side can be found …
    sides = [real & (hits.panel < 3), real & (hits.panel >= 3)]
    possible = np.all([np.bincount(event[s], minlength=5000) >= 2 for s in sides], axis=0)
    assert possible[pairs.astype(int)].mean() > 0.995
    assert len(pairs) > 0.995 * possible.sum()
    # … and hardly one is found with a wrong hit.
    wrong = check_against_truth(found, muons, 5) > 10
    assert wrong.mean() < 0.004
    assert found.run.counts["hits_left_out"] > 0.5 * len(np.unique(event[~real]))


def test_a_plane_that_missed_the_muon_does_no_harm(rng: np.random.Generator) -> None:
    detector = stack(SIX)
    muons = straight_muons(500, rng)
    hits, _ = hits_of(detector, muons, rng)
    tracks = find_tracks(hits.take((hits.panel != 1) & (hits.panel != 5)))
    both = pair_tracks(tracks)
    assert len(both) > 350
    assert (tracks.ndof == 0).all()
    assert (tracks.n_hits == 2).all()
    assert (tracks.chi2 < 1e-6).all()
    # From 1900 to 1300 mm the lever is twice that from 1300 to 1600 mm below.
    ratio = np.sqrt(np.median(both.out_cov[:, 2, 2]) / np.median(both.in_cov[:, 2, 2]))
    assert ratio == pytest.approx(2, rel=0.03)


def test_a_lone_track_is_kept_if_it_enters(rng: np.random.Generator) -> None:
    detector = stack(SIX)
    hits, _ = hits_of(detector, straight_muons(400, rng), rng)
    above = find_tracks(hits.take(hits.panel < 3))
    assert above.run.counts["incoming_only"] == len(above) > 300
    assert (above.side == 0).all()
    below = find_tracks(hits.take(hits.panel >= 3))
    assert len(below) == 0
    assert below.run.counts["no_incoming_track"] > 300
    few = find_tracks(hits.take(hits.panel == 2))
    assert few.run.counts["too_few_hits"] == few.run.counts["events"] > 300


def test_every_event_is_counted_once(rng: np.random.Generator) -> None:
    detector = stack(SIX)
    hits, _ = hits_of(detector, straight_muons(3000, rng), rng, 0.7, 0.5)
    run = find_tracks(replace(hits, run=hits.run.counting(rows=7))).run
    outcomes = (
        "in_and_out",
        "incoming_only",
        "no_incoming_track",
        "too_few_hits",
        "too_many_hits",
        "bad_chi2",
        "unmatched",
    )
    assert sum(run.counts[name] for name in outcomes) == run.counts["events"] > 2900
    assert run.counts["rows"] == 7


def test_a_room_pairs_the_first_and_the_last_group(rng: np.random.Generator) -> None:
    detector = layout(walls(2200))
    n = 4000
    zenith = np.arccos(rng.uniform(0.1, 1, n))
    azimuth = rng.uniform(-np.pi, np.pi, n)
    before = np.column_stack(
        [np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), -np.cos(zenith)]
    )
    after = _unit(before + rng.normal(0, 0.005, (n, 3)))
    after[:, 2] = -np.abs(after[:, 2])
    muons = (rng.uniform(-700, 700, (n, 3)), before, after)
    hits, _ = hits_of(detector, muons, rng)
    tracks = find_tracks(hits)
    pairs = pair_tracks(tracks)
    assert len(pairs) > 0.5 * n
    assert np.quantile(check_against_truth(tracks, muons, 5), 0.99) < 10
    along = ((pairs.out_position - pairs.in_position) * pairs.in_direction).sum(axis=1)
    assert (along > 2500).all()
    # Muons come in through walls and leave through walls, too.
    assert (np.abs(pairs.in_position[:, :2]).max(axis=1) > 2150).mean() > 0.1
    assert (np.abs(pairs.out_position[:, :2]).max(axis=1) > 2150).mean() > 0.1


def test_planes_of_one_coordinate_with_noise(rng: np.random.Generator) -> None:
    heights = [z + dz for z in (1300, 1600, 1900) for dz in (0, 20)]
    alternating = stack([*heights, *(-z for z in heights)], measures=("u", "v"))
    assert np.isinf(alternating.sigmas).sum() == 12
    muons = straight_muons(2000, rng)
    hits, _ = hits_of(alternating, muons, rng, noise=0.03)
    tracks = find_tracks(hits)
    assert len(pair_tracks(tracks)) > 1400
    assert (check_against_truth(tracks, muons, 5) > 10).mean() < 0.01
    full = tracks.take(tracks.n_hits == 6)
    assert (full.ndof == 2).all()
    assert np.median(full.chi2) == pytest.approx(2 * np.log(2), abs=0.1)


def test_two_muons_in_one_trigger_are_counted_and_not_mixed(rng: np.random.Generator) -> None:
    detector = stack(SIX)
    one, two = (straight_muons(1000, rng, kink=0.002) for _ in range(2))
    first, _ = hits_of(detector, one, rng)
    second, _ = hits_of(detector, two, rng)
    both = Hits.join([first, second])
    both = both.take(np.argsort(both.event_id, kind="stable"))
    tracks = find_tracks(both)
    crowded = [np.bincount(h.event_id.astype(int), minlength=1000) == 6 for h in (first, second)]
    # Two tracks on both sides, but where they lie within the resolution of each other.
    assert tracks.run.counts["several_muons"] > 0.99 * (crowded[0] & crowded[1]).sum()
    pairs = pair_tracks(tracks)
    event = pairs.event_id.astype(int)
    mixed = np.ones(len(pairs), bool)
    for _, before, after in (one, two):
        entry = (pairs.in_direction * before[event]).sum(axis=1) > np.cos(0.01)
        leave = (pairs.out_direction * after[event]).sum(axis=1) > np.cos(0.01)
        mixed &= ~(entry & leave)
    assert mixed.mean() < 0.02


def test_a_slow_muon_keeps_its_hits(rng: np.random.Generator) -> None:
    detector = stack(SIX, thickness=10.0)
    hits, _ = hits_of(detector, straight_muons(1, rng, 0.0), rng, sigma=0.0)
    fast = find_tracks(hits)
    bent = hits.u.copy()
    bent[hits.panel == 1] += 8.0
    slow = find_tracks(replace(hits, u=bent))
    assert slow.n_hits.tolist() == fast.n_hits.tolist() == [3, 3]
    assert (slow.run.counts["slow_muons"], fast.run.counts["slow_muons"]) == (1, 0)
    assert slow.chi2[0] > 100
    np.testing.assert_allclose(slow.cov, fast.cov, rtol=0.1)
    # A hit that no muon explains is left out instead.
    bent[hits.panel == 1] += 500.0
    broken = find_tracks(replace(hits, u=bent))
    assert broken.n_hits.tolist() == [2, 3]
    assert broken.run.counts["hits_left_out"] == 1


def test_panels_scatter_as_rossi_says(rng: np.random.Generator) -> None:
    """Exact hits in two planes: what is uncertain is the scattering, 15 MeV/(βp) √(x/X0)."""
    detector = stack([1600, 1300, -1300, -1600], thickness=20.0)
    hits, _ = hits_of(detector, straight_muons(1, rng, 0.0), rng, sigma=0.0)
    exact = replace(hits, sigma_u=np.full(4, 1e-3, "f4"), sigma_v=np.full(4, 1e-3, "f4"))
    tracks = find_tracks(exact)
    cosine = -tracks.direction[0, 2]
    theta2 = (0.015 * np.hypot(3, 0.10566) / 3**2) ** 2
    panel = theta2 * 20 / 425.4 / cosine
    # The chord tells the angle at the second panel but for the air; then that panel scatters.
    lever = 300 / cosine
    air = theta2 * lever / 303_900 / 3
    assert tracks.cov[0, 2, 2] == pytest.approx(panel + air + 2 * (1e-3 / lever) ** 2, rel=0.01)


def test_measured_momenta_go_with_the_tracks(rng: np.random.Generator) -> None:
    hits, _ = hits_of(stack(SIX), straight_muons(30, rng), rng)
    momenta = MomentumMeasurements(
        event_id=np.array([20, 3, 11, 99], "u8"),
        momentum=np.array([2, 0.3, 1.1, 9.9], "f4"),
        sigma=np.array([0.2, np.nan, 0.1, 0.9], "f4"),
    )
    tracks = find_tracks(replace(hits, momenta=momenta))
    known = {20: (2, 0.2), 3: (0.3, np.nan), 11: (1.1, 0.1)}
    for event, momentum, sigma in zip(
        tracks.event_id.tolist(), tracks.momentum, tracks.sigma, strict=True
    ):
        assert (momentum, sigma) == pytest.approx(known.get(event, (np.nan, np.nan)), nan_ok=True)
    assert set(known) <= set(tracks.event_id.tolist())


def test_result_does_not_depend_on_workers(rng: np.random.Generator) -> None:
    detector = stack(SIX, thickness=10.0)
    hits, _ = hits_of(detector, straight_muons(70_000, rng), rng, 0.95, 0.1)
    one, three = (find_tracks(hits, workers=n) for n in (1, 3))
    for name, column in one.columns().items():
        np.testing.assert_array_equal(column, getattr(three, name), err_msg=name)
    assert one.run == three.run
    # The chunks of 32768 events leave no seam: each event comes out as alone.
    for event in (32_767, 32_768, 65_536):
        alone = find_tracks(hits.take(hits.event_id == event))
        inside = one.take(one.event_id == event)
        np.testing.assert_array_equal(alone.position, inside.position)


def test_tracks_turn_with_the_detector(rng: np.random.Generator) -> None:
    """Any turn that keeps the muons falling, and any shift: same hits, same tracks, turned."""
    muons = straight_muons(300, rng)
    hits, _ = hits_of(stack(SIX, thickness=10.0), muons, rng, 0.95, 0.1)
    here = find_tracks(hits)
    turn = Rotation.from_euler("xyz", [8, -5, 70], degrees=True).as_matrix()
    shift = np.array([300.0, -150, 80])
    panels = [
        ("up" if z > 0 else "down", turn @ [0, 0, z] + shift, turn @ [1, 0, 0], turn @ [0, 1, 0])
        for z in SIX
    ]
    there = find_tracks(hits, detector=layout(panels, thickness=10.0))
    assert (there.direction[:, 2] < 0).all()
    np.testing.assert_array_equal(there.event_id, here.event_id)
    np.testing.assert_array_equal(there.n_hits, here.n_hits)
    np.testing.assert_allclose(there.chi2, here.chi2, atol=2e-3, rtol=2e-3)
    np.testing.assert_allclose(there.direction, here.direction @ turn.T, atol=1e-6)
    np.testing.assert_allclose(there.position, here.position @ turn.T + shift, atol=5e-3)


def test_events_need_not_be_sorted_and_the_hits_are_left_alone(rng: np.random.Generator) -> None:
    detector = stack(SIX)
    hits, _ = hits_of(detector, straight_muons(50, rng), rng)
    before = {name: column.copy() for name, column in hits.columns().items()}
    sorted_tracks = find_tracks(hits)
    ids = rng.integers(1 << 60, size=50).astype("u8")
    shuffled = find_tracks(replace(hits, event_id=ids[hits.event_id.astype(int)]))
    np.testing.assert_array_equal(shuffled.event_id, ids[sorted_tracks.event_id.astype(int)])
    np.testing.assert_array_equal(shuffled.position, sorted_tracks.position)
    for name, column in hits.columns().items():
        np.testing.assert_array_equal(column, before[name])


def test_a_burst_of_hits_ends_in_bounded_work(rng: np.random.Generator) -> None:
    """A shower: 40 hits in each panel. It is counted, or tracked, but does not take for ever."""
    detector = stack(SIX)
    n = 40 * 6
    hits = Hits(
        event_id=np.zeros(n, "u8"),
        panel=np.repeat(np.arange(6, dtype="u2"), 40),
        u=rng.uniform(-2000, 2000, n).astype("f4"),
        v=rng.uniform(-2000, 2000, n).astype("f4"),
        sigma_u=np.full(n, SIGMA, "f4"),
        sigma_v=np.full(n, SIGMA, "f4"),
        time=np.zeros(n),
        amplitude=np.ones(n, "f4"),
        detector=detector,
    )
    tracks = find_tracks(hits)
    assert len(tracks) == 0
    assert tracks.run.counts["too_many_hits"] == 1
    # A muon in a lesser crowd is found.
    muon, _ = hits_of(detector, (np.zeros((1, 3)), *[np.array([[0.1, 0.2, -0.97]])] * 2), rng)
    crowd = hits.take(np.arange(n) % 40 < 6)
    found = find_tracks(Hits.join([muon, crowd]))
    assert found.side.tolist() == [0, 1]
    assert found.n_hits.tolist() == [3, 3]


def test_no_hits_give_no_tracks(rng: np.random.Generator) -> None:
    hits, _ = hits_of(stack(SIX), straight_muons(5, rng), rng)
    tracks = find_tracks(hits.take(slice(0, 0)))
    assert len(tracks) == 0
    assert tracks.cov.shape == (0, 4, 4)
    assert tracks.run.counts["events"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_chi2_per_dof": 0}, "max_chi2_per_dof: 0 is not positive"),
        ({"max_chi2_per_dof": float("nan")}, "is not positive"),
        ({"workers": 0}, "--workers: 0 is not a number of threads"),
        ({"detector": stack([100, 200, -100, -200])}, "has 4 panels, the hits .* with 6"),
    ],
)
def test_wrong_options_are_one_line(options: dict, message: str, rng: np.random.Generator) -> None:
    hits, _ = hits_of(stack(SIX), straight_muons(5, rng), rng)
    with pytest.raises(InputError, match=message) as caught:
        find_tracks(hits, **options)
    assert "\n" not in str(caught.value)


def test_a_panel_of_unknown_matter_is_refused(rng: np.random.Generator) -> None:
    text = stack(SIX, thickness=10.0).text.replace("[technology.uv]", UNKNOWN_MATTER)
    hits, _ = hits_of(stack(SIX), straight_muons(5, rng), rng)
    with pytest.raises(InputError, match="unobtainium: no such material"):
        find_tracks(hits, detector=parse_detector(text, "strange"))


def test_recorded_muons_of_another_program() -> None:
    """Geant4's muons in blocks-lab: six planes, 0.3 mm, 98 % efficiency, 1 % noise."""
    source = open_source(
        "csv", [DATA / "blocks_long_extract.csv.gz"], detector=load_detector("blocks-lab")
    )
    tracks = find_tracks(Hits.join(list(source.chunks())))
    counts = tracks.run.counts
    assert counts["events"] == 1450
    assert counts["in_and_out"] + counts["incoming_only"] > 0.99 * 1450
    assert counts["ambiguous"] + counts["unmatched"] < 0.02 * 1450
    full = tracks.take(tracks.ndof == 2)
    # Half of the muons are slower than assumed, so χ² is somewhat more than 2 ln 2 at its median.
    assert 1.2 < np.median(full.chi2) < 2.3
    pairs = pair_tracks(tracks)
    kink = (pairs.in_direction * pairs.out_direction).sum(axis=1)
    assert np.median(np.arccos(np.clip(kink, -1, 1))) < 0.01
