"""Raw channels of strips: simulated, written, read, clustered, matched and built into events."""

import gzip

import numpy as np
import pytest

from muscan import pipeline
from muscan.errors import InputError
from muscan.io import StripsWriter, drivers, read_hits
from muscan.io.drivers import strips as driver
from muscan.io.drivers.strip_mapping import build_readout, cluster_sigma, read_strip_mapping
from muscan.model.detector import parse_detector
from muscan.model.scene import Scene
from muscan.model.strips import StripRows

TECHNOLOGY = """
size_mm = [400, 400]
material = "air"
readout = "pitch"
pitch_mm = [10.0, 10.0]
time_resolution_ns = 2
"""
STRIPS = """
charge_spread_mm = [2.5, 2.5]
gain_adc = 500
pedestal_adc = 80
noise_adc = 4
threshold_adc = 20
time_jitter_ns = 0.5
"""


def layout(technology=TECHNOLOGY, strips=STRIPS, panels=""):
    text = 'name = "lab"\ngate_ns = 200\n[inspection]\n'
    text += "min_mm = [-150, -150, -90]\nmax_mm = [150, 150, 90]\n"
    text += f"[technology.strip]\n{technology}\n[technology.strip.strips]\n{strips}\n"
    for group, z in (("upper", 300), ("upper", 200), ("upper", 100), ("lower", -100),
                     ("lower", -200), ("lower", -300)):  # fmt: skip
        text += f'[[panel]]\nname = "{group}{abs(z)}"\ngroup = "{group}"\ntechnology = "strip"\n'
        text += f"centre_mm = [0, 0, {z}]\n{panels}\n"
    return text


@pytest.fixture(scope="module")
def lab():
    return parse_detector(layout(), "lab.toml")


def read(path, detector, mapping=None):
    source = drivers.open_source("strips", [path], detector=detector, mapping=mapping)
    parts = list(source.chunks())
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("event_id", "panel", "u", "v", "sigma_u", "sigma_v", "time", "amplitude")
    }
    return columns, source.run


def table(tmp_path, *rows, header="plane,channel,adc,time_ns"):
    path = tmp_path / "raw.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


#: A muon in two panels: along u the charge is shared 3 to 1 between strips 10 and 11.
MUON = (
    "upper300/u,10,380,1000.0", "upper300/u,11,180,1000.2", "upper300/v,20,480,1000.4",
    "upper200/u,12,480,1001.0", "upper200/v,22,480,1001.0",
)  # fmt: skip


def test_a_muon_becomes_two_hits(tmp_path, lab):
    hits, run = read(table(tmp_path, *MUON), lab)
    assert hits["event_id"].tolist() == [0, 0]
    assert hits["panel"].tolist() == [0, 1]
    # Strips 10 and 11 are centred at −95 and −85 mm.
    assert hits["u"] == pytest.approx([-92.5, -75.0], abs=1e-4)
    assert hits["v"] == pytest.approx([5.0, 25.0], abs=1e-4)
    assert hits["time"] == pytest.approx([1000.225, 1001.0], abs=1e-6)
    assert hits["amplitude"] == pytest.approx([0.8, 0.8], abs=1e-6)
    assert run.counts["rows"] == run.counts["rows_used"] == 5
    assert run.counts["clusters"] == 4
    # The noise of the two charges moves the centroid: 10 mm · (4/400) · √(¾² + ¼²)/… = 0.079 mm.
    one, two, _ = cluster_sigma(0.25, 0.04)
    noise = 4 / 400 * np.hypot(0.25, 0.75)
    assert hits["sigma_u"][0] == pytest.approx(10 * np.hypot(two, noise), rel=1e-4)
    assert hits["sigma_v"][0] == pytest.approx(10 * one, rel=1e-4)


def test_everything_dropped_is_counted_by_reason(tmp_path, lab):
    mapping = tmp_path / "map.toml"
    mapping.write_text(
        '[[board]]\nname = "upper300/u"\npanel = "upper300"\naxis = "u"\ndead_channels = [30]\n'
    )
    path = table(
        tmp_path, *MUON,
        "upper300/u,30,900,1000.0",    # masked
        "upper300/u,40,900,1000.0",    # the panel has strips 0 to 39
        "upper300/u,3,90,1000.0",      # 10 counts above the pedestal
        "upper300/u,3,nan,1000.0",
        "upper100/u,3,400,1000.0",     # nothing along v
        "upper100/v,3,400,1080.0",     # far too late for it
        "lower100/u,3,400,5000.0", "lower100/v,3,400,5000.0",  # alone
        "lower100/u,3,400,900000.0", "lower100/v,3,400,900000.0",
        "lower100/u,3,400,1.0",        # 0.9 ms late, but nothing is finished yet
    )  # fmt: skip
    hits, run = read(path, lab, mapping)
    assert len(hits["u"]) == 2
    expected = {"rows": 16, "rows_used": 12, "rows_not_finite": 1, "rows_unknown_channel": 1,
                "rows_dead_channel": 1, "rows_below_threshold": 1, "rows_late": 0,
                "clusters": 11, "clusters_u_unmatched": 2, "clusters_v_unmatched": 1,
                "hits_lone": 2, "hits": 2, "events": 1, "bursts_cut": 0}  # fmt: skip
    assert run.counts == expected


def test_strips_of_other_times_and_places_are_other_clusters(tmp_path, lab):
    rows = ["upper300/v,20,480,1000.0", "upper200/u,5,480,1000.0", "upper200/v,5,480,1000.0"]
    apart = ["upper300/u,10,480,1000.0", "upper300/u,12,480,1000.0"]
    _, run = read(table(tmp_path, *rows, *apart), lab)
    assert run.counts["clusters"] == 5
    late = ["upper300/u,10,480,1000.0", "upper300/u,11,480,1060.0"]
    hits, run = read(table(tmp_path, *rows, *late), lab)
    assert run.counts["clusters"] == 5
    # The one in time is the muon's.
    assert hits["u"][hits["panel"] == 0] == pytest.approx([-95.0])


def test_two_hits_of_a_panel_are_told_apart_by_time_then_charge(tmp_path, lab):
    panel = ["upper300/u,10,480,1000.0", "upper300/u,30,480,1015.0",
             "upper300/v,5,480,1015.0", "upper300/v,25,480,1000.0",
             "upper200/u,1,480,1000.0", "upper200/v,1,480,1000.0"]  # fmt: skip
    hits, _ = read(table(tmp_path, *panel), lab)
    of = hits["panel"] == 0
    assert list(zip(hits["u"][of].tolist(), hits["v"][of].tolist(), strict=True)) == [
        (-95.0, 55.0), (105.0, -145.0),
    ]  # fmt: skip
    panel = ["upper300/u,10,480,1000.0", "upper300/u,30,180,1000.0",
             "upper300/v,5,190,1000.0", "upper300/v,25,470,1000.0",
             "upper200/u,1,480,1000.0", "upper200/v,1,480,1000.0"]  # fmt: skip
    hits, _ = read(table(tmp_path, *panel), lab)
    of = hits["panel"] == 0
    assert sorted(zip(hits["u"][of].tolist(), hits["v"][of].tolist(), strict=True)) == [
        (-95.0, 55.0), (105.0, -145.0),
    ]  # fmt: skip


def test_beside_a_dead_strip_a_position_is_less_sure(tmp_path):
    dead = parse_detector(layout(panels="dead_channels = [[9], []]"), "lab.toml")
    hits, _ = read(table(tmp_path, *MUON), dead)
    assert hits["sigma_u"][0] == pytest.approx(10 * 2 / np.sqrt(12), rel=0.001)


def test_boards_and_columns_by_a_mapping(tmp_path, lab):
    mapping = tmp_path / "map.toml"
    mapping.write_text("""
time_unit = "us"
[columns]
plane = "board"
adc = "charge"
time = "t"
[[board]]
name = "fe-7"
panel = "upper300"
axis = "u"
first_channel = 100
first_strip = 8
strips = 4
turned = true
pedestal_adc = [80, 90, 100, 110]
gain_adc = 250
""")
    rows = ["fe-7;;100;180;1.0", "fe-7;;101;190;1.0"]
    rows += [f"{plane};;5;480;1.0" for plane in ("upper300/v", "upper200/u", "upper200/v")]
    hits, run = read(table(tmp_path, *rows, header="board;note;channel;charge;t"), lab, mapping)
    # Channels 100 and 101 are strips 11 and 10, each 100 counts above its own pedestal.
    assert hits["u"][0] == pytest.approx(-90.0)
    assert hits["amplitude"][0] == pytest.approx((0.8 + 0.8) / 2)
    assert hits["time"][0] == pytest.approx(1000.0)
    assert run.counts["events"] == 1


def test_files_follow_each_other(tmp_path, lab):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv.gz"
    text = "\n".join(["plane,channel,adc,time_ns", *MUON, ""])
    first.write_text(text)
    second.write_bytes(gzip.compress(text.encode()))
    source = drivers.open_source("strips", [first, second], detector=lab)
    parts = [part for part in source.chunks() if len(part)]
    assert sum(map(len, parts)) == 4
    event, time = (np.concatenate([getattr(p, n) for p in parts]) for n in ("event_id", "time"))
    assert event.tolist() == [0, 0, 1, 1]
    assert time[2] > time[1] + 1e5
    assert "b.csv.gz: times start anew" in source.notes[0]
    assert source.run.live_time_s > 0


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A simulation's direct hits and its raw channels, with noise, extra hits and dead strips."""
    folder = tmp_path_factory.mktemp("raw")
    technology = TECHNOLOGY + "efficiency = 0.95\nnoise_hz_per_m2 = 20000\nextra_hits = 0.02\n"
    detector = parse_detector(layout(technology, panels="dead_channels = [[7], [31]]"), "lab.toml")
    pipeline.simulate(Scene("nothing"), detector=detector, muons=60_000, seed=3,
                      output=folder / "hits.h5", raw=folder / "raw.csv.gz")  # fmt: skip
    return folder, detector


def test_raw_channels_are_beside_the_same_hits(recorded):
    folder, detector = recorded
    again = pipeline.simulate(Scene("nothing"), detector=detector, muons=60_000, seed=3)
    direct = read_hits(folder / "hits.h5")
    for name, column in direct.columns().items():
        assert np.array_equal(column, getattr(again, name), equal_nan=True), name
    lines = gzip.decompress((folder / "raw.csv.gz").read_bytes()).decode().splitlines()
    assert lines[0] == "plane,channel,adc,time_ns"
    fields = [line.split(",") for line in lines[1:]]
    times = np.array([float(row[3]) for row in fields])
    # In order within a chunk, and chunks follow each other but for a gate.
    assert (np.diff(np.maximum.accumulate(times) - times) <= 200).all()
    dead = {("u", "7"), ("v", "31")}
    assert not any((row[0][-1], row[1]) in dead for row in fields)
    assert min(int(row[2]) for row in fields) >= 80 + 20


def test_round_trip_gives_the_same_tracks(recorded):
    folder, detector = recorded
    direct = pipeline.track(read_hits(folder / "hits.h5"))
    pipeline.import_hits(
        folder / "raw.csv.gz", driver="strips", detector=detector, output=folder / "again.h5"
    )
    hits = read_hits(folder / "again.h5")
    back = pipeline.track(hits)
    # Events have other numbers: muons are found again by their time.
    now, before = _event_times(hits), _event_times(read_hits(folder / "hits.h5"))
    number = np.searchsorted(before["time"], now["time"] - 1e3)
    number = np.minimum(number, len(before["time"]) - 1)
    close = np.abs(before["time"][number] - now["time"]) < 1e3
    assert close.mean() > 0.995
    matched = dict(zip(now["event"][close].tolist(), before["event"][number[close]].tolist(),
                       strict=True))  # fmt: skip
    known = zip(back.event_id, back.side, strict=True)
    ours = {(matched.get(int(e)), int(s)): i for i, (e, s) in enumerate(known)}
    known = zip(direct.event_id, direct.side, strict=True)
    theirs = {(int(e), int(s)): i for i, (e, s) in enumerate(known)}
    both = sorted(ours.keys() & theirs.keys(), key=str)
    assert len(both) / len(theirs) > 0.998
    a = direct.take(np.array([theirs[key] for key in both]))
    b = back.take(np.array([ours[key] for key in both]))
    # Angles differ by both errors, the direct hits' being the larger.
    slope_a = a.direction[:, :2] / a.direction[:, 2:]
    slope_b = b.direction[:, :2] / b.direction[:, 2:]
    sigma = np.sqrt(a.cov[:, 2, 2] + b.cov[:, 2, 2])
    pull = (slope_a - slope_b)[:, 0] / sigma
    assert np.quantile(np.abs(pull), 0.6827) == pytest.approx(1.0, abs=0.1)
    assert abs(np.median(slope_a - slope_b)) < 0.05 * np.median(sigma)
    assert np.median(b.cov[:, 2, 2]) < np.median(a.cov[:, 2, 2])


def _event_times(hits):
    event, first = np.unique(hits.event_id, return_index=True)
    return {"event": event, "time": hits.time[first]}


def test_pulls_of_clusters_are_of_unit_width(tmp_path, lab):
    """Known places, digitised by the simulation and read back: the errors must be as said."""
    from muscan.simulation.strips import build_strips, digitised, empty_signals

    rng, n = np.random.default_rng(5), 20_000
    signals = empty_signals(2 * n)
    signals.n[0] = 2 * n
    signals.panel[:] = np.tile([0, 1], n)
    signals.u[:], signals.v[:] = rng.uniform(-190, 190, (2, 2 * n))
    signals.time[:] = np.repeat(1e4 * np.arange(n), 2)
    signals.amplitude[:] = 1 - 0.2 * np.log(np.abs(rng.standard_normal(2 * n)) + 1e-12)
    with StripsWriter(tmp_path / "raw.csv", lab) as writer:
        writer.append(digitised(rng, build_strips(lab), signals))
    hits, run = read(tmp_path / "raw.csv", lab)
    assert run.counts["hits"] == 2 * n
    assert run.counts["clusters_u_unmatched"] == run.counts["hits_lone"] == 0
    order = np.lexsort((hits["panel"], hits["event_id"]))
    for axis, true in (("u", signals.u), ("v", signals.v)):
        error = hits[axis][order] - true
        pull = error / hits[f"sigma_{axis}"][order]
        assert np.sqrt(np.mean(pull**2)) == pytest.approx(1.0, abs=0.08)
        assert abs(error.mean()) < 0.05
        # Better than the strip's centre alone, 10/√12 = 2.89 mm.
        assert np.sqrt(np.mean(error**2)) < 2.0


def test_sigma_without_shared_charge_is_that_of_a_strip():
    assert cluster_sigma(0.0, 0.05) == pytest.approx((1 / np.sqrt(12),) * 3, abs=1e-4)
    narrow = cluster_sigma(0.2, 0.05)
    assert narrow[0] < 1 / np.sqrt(12)
    assert narrow[1] < 1 / np.sqrt(12)
    # The less is shared, the wider is the part of a strip where it alone has charge.
    assert narrow[0] < cluster_sigma(0.1, 0.05)[0] < 1 / np.sqrt(12)


@pytest.mark.parametrize(("rows", "problem"), [
    (["upper300/u,x,480,1"], "line 2: channel 'x' is not a whole number"),
    (["upper300/u,1,a,1"], "line 2: adc 'a' is not a number"),
    (["upper300/u,1,480"], "line 2: 3 columns"),
    (["upper300/u,1,480,1", "upper30/u,1,480,1"], r"line 3: plane 'upper30/u' is not known; did"),
])  # fmt: skip
def test_a_wrong_row_is_named(tmp_path, lab, rows, problem):
    with pytest.raises(InputError, match=problem):
        read(table(tmp_path, *rows), lab)


def test_a_missing_column_or_layout_is_named(tmp_path, lab):
    path = table(tmp_path, *MUON, header="plane,chanel,adc,time_ns")
    with pytest.raises(InputError, match=r"'channel' is not in the header; did you mean 'chanel'"):
        read(path, lab)
    with pytest.raises(InputError, match="needs a layout"):
        drivers.open_source("strips", [path])
    with pytest.raises(InputError, match="none of its panels has strips"):
        read(path, parse_detector(layout().split("[technology.strip]")[0] + PLAIN, "plain.toml"))


PLAIN = """
[technology.plain]
size_mm = [400, 400]
resolution_mm = [1, 1]
[[panel]]
name = "a"
group = "g"
technology = "plain"
centre_mm = [0, 0, 300]
[[panel]]
name = "b"
group = "g"
technology = "plain"
centre_mm = [0, 0, 200]
"""


@pytest.mark.parametrize(("text", "problem"), [
    ('[[board]]\nname = "x"\npanel = "nowhere"\naxis = "u"', "board 'x': no panel 'nowhere'"),
    ('[[board]]\nname = "x"\npanel = 0\naxis = "u"\nfirst_strip = 50', "which has 40"),
    ('[[board]]\nname = "x"\npanel = 0\naxis = "u"\ndead_channels = [40]', "no channel 40"),
    ('[[board]]\nname = "x"\npanel = 0\naxis = "u"\npedestal_adc = [1, 2]', "40 channels, but 2"),
    ("min_panel = 3", "did you mean 'min_panels'"),
    ("window_ns = 0", "window_ns"),
])  # fmt: skip
def test_a_wrong_mapping_is_named(tmp_path, lab, text, problem):
    path = tmp_path / "map.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        build_readout(lab, read_strip_mapping(path), path)


def test_raw_channels_need_strips(tmp_path):
    with pytest.raises(InputError, match="has no strips"):
        pipeline.simulate("empty", muons=100, output=tmp_path / "h.h5", raw=tmp_path / "raw.csv")
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_read_or_named(tmp_path, lab):
    """Bytes changed, cut out and doubled: hits, or one clear line."""
    rng = np.random.default_rng(8)
    sound = "\n".join(["plane,channel,adc,time_ns", *MUON * 5, ""]).encode()
    packed = gzip.compress(sound)
    path, named = tmp_path / "raw.csv", 0
    for number in range(300):
        data = bytearray(packed if number % 3 == 0 else sound)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(0, len(data)))
            kind = rng.integers(0, 4)
            if kind == 0:
                data[at] = int(rng.integers(0, 256))
            elif kind == 1:
                del data[at:]
            elif kind == 2:
                data[at:at] = data[: int(rng.integers(0, 40))]
            else:
                data[at : at + 1] = b"9" * int(rng.integers(1, 400))
            data = data or bytearray(b" ")
        path.write_bytes(bytes(data))
        try:
            hits, run = read(path, lab)
        except InputError as error:
            named += error.source == str(path)
        else:
            assert np.isfinite(hits["u"]).all()
            assert run.counts["hits"] == len(hits["u"])
    assert 100 < named < 300


def test_a_burst_without_end_is_cut(tmp_path, lab):
    n = 3000
    rows = [f"upper{300 - 100 * (i % 2)}/{'uv'[i // 2 % 2]},{i % 40},480,7.0" for i in range(n)]
    _, run = read(table(tmp_path, *rows), lab)
    assert run.counts["bursts_cut"] == n // 512
    assert run.counts["rows_used"] == n


def test_rows_wait_for_later_ones(tmp_path, lab, monkeypatch):
    """Blocks of a few rows give what one block gives: no event is parted, none is lost."""
    rng = np.random.default_rng(2)
    n = 400
    plane = np.tile(np.arange(4, dtype=np.int32), n)
    time = np.repeat(1e5 * np.arange(n), 4) + rng.uniform(0, 5, 4 * n)
    rows = StripRows(plane, np.full(4 * n, 5, np.int32), np.full(4 * n, 480.0), time)
    # As a data acquisition may write them: out of order by up to 80 µs, whole muons by neighbours.
    late = np.argsort(time + rng.uniform(0, 8e4, 4 * n), kind="stable")
    with StripsWriter(tmp_path / "raw.csv", lab) as writer:
        writer.append(rows.take(late))
    whole, run = read(tmp_path / "raw.csv", lab)
    assert (run.counts["events"], run.counts["rows_late"]) == (n, 0)
    monkeypatch.setattr("muscan.io.drivers.blocks.BLOCK", 1000)
    parts, run = read(tmp_path / "raw.csv", lab)
    assert (run.counts["events"], run.counts["rows_late"]) == (n, 0)
    for name, column in whole.items():
        assert np.array_equal(column, parts[name]), name


def test_waiting_rows_are_few(tmp_path, lab, monkeypatch):
    rows = [f"upper{300 - 100 * (i % 2)}/u,5,480,0" for i in range(2000)]
    monkeypatch.setattr(driver, "MOST_WAITING", 500)
    monkeypatch.setattr("muscan.io.drivers.blocks.BLOCK", 4000)
    source = drivers.open_source("strips", [table(tmp_path, *rows)], detector=lab)
    most = 0
    for _ in source.chunks():
        most = max(most, sum(len(part.time) for part in source._waiting))
    assert most <= 1000
    assert source.run.counts["rows_used"] == 2000
