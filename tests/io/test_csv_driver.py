"""The csv driver: what it reads, what it drops, what it refuses."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.io.drivers import HitSource, open_source
from muscan.io.drivers.rows import WINDOW
from muscan.model.detector import Detector, load_detector, parse_detector
from muscan.model.events import Hits

EXTRACT = Path(__file__).parents[1] / "data" / "blocks_long_extract.csv.gz"
HEADER = "event_id,panel,x_mm,y_mm,z_mm"


def read(source: HitSource) -> Hits:
    return Hits.join(list(source.chunks()))


def write(folder: Path, *lines: str, name: str = "hits.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def posed() -> Detector:
    """A level panel, a tilted one, a wall and one that measures u only."""
    return parse_detector(
        """
name = "posed"
inspection = { min_mm = [-100, -100, -100], max_mm = [100, 100, 100] }
[technology.pad]
size_mm = [1000, 600]
thickness_mm = 20
resolution_mm = [0.5, 0.7]
[technology.strips]
size_mm = [1000, 600]
measures = "u"
resolution_mm = [0.5, 0.5]
[[panel]]
name = "roof"
group = "a"
technology = "pad"
centre_mm = [10, 20, 800]
[[panel]]
name = "ramp"
group = "a"
technology = "pad"
centre_mm = [0, 0, 500]
rotation_deg = [0, 30, 0]
[[panel]]
name = "wall"
group = "b"
technology = "pad"
centre_mm = [700, 0, 0]
u_axis = [0, 1, 0]
v_axis = [0, 0, 1]
[[panel]]
name = "strips"
group = "b"
technology = "strips"
centre_mm = [0, 0, -500]
""",
        "posed",
    )


def test_recorded_extract_is_read_as_python_reads_it() -> None:
    detector = load_detector("blocks-lab")
    source = open_source("csv", [EXTRACT], detector=detector)
    assert isinstance(source, HitSource)
    hits = read(source)
    with gzip.open(EXTRACT, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(hits) == len(rows) == source.run.counts["rows"] == source.run.counts["hits"]
    assert hits.event_id.tolist() == [int(row["event_id"]) for row in rows]
    assert hits.panel.tolist() == [int(row["panel"]) for row in rows]
    np.testing.assert_array_equal(hits.u, np.array([row["x_mm"] for row in rows], "f4"))
    np.testing.assert_array_equal(hits.v, np.array([row["y_mm"] for row in rows], "f4"))
    assert (hits.sigma_u == np.float32(0.3)).all()
    assert np.isnan(hits.time).all()
    assert source.run.counts["events"] == 1450
    assert source.run.source == "csv"
    assert source.run.run_id == "blocks_long_extract"
    assert np.isnan(source.run.live_time_s)


def test_points_are_projected_onto_posed_panels(posed: Detector, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    lines, expected = [HEADER], []
    for event in range(40):
        for index, panel in enumerate(posed.panels):
            u, v, off = rng.uniform([-450, -250, -20], [450, 250, 20])
            place = panel.centre + u * panel.u + v * panel.v + off * panel.normal
            x, y, z = place.tolist()
            key = panel.name if event % 2 else index
            lines.append(f"{event},{key},{x!r},{y!r},{z!r}")
            expected.append((u, v))
    hits = read(open_source("csv", [write(tmp_path, *lines)], detector=posed))
    u, v = np.array(expected).T
    np.testing.assert_allclose(hits.u, u, atol=1e-4)
    whole = hits.panel != 3
    np.testing.assert_allclose(hits.v[whole], v[whole], atol=1e-4)
    assert np.isnan(hits.v[~whole]).all()
    assert np.isinf(hits.sigma_v[~whole]).all()
    assert hits.panel.tolist() == [0, 1, 2, 3] * 40
    assert np.unique(hits.sigma_u).tolist() == [0.5]


def test_what_cannot_be_a_hit_is_dropped_and_counted(posed: Detector, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        HEADER,
        "0,roof,10,20,800",
        "0,roof,nan,20,800",
        "0,roof,10,,800",
        "0,roof,inf,20,800",
        "0,roof,10,20,899",  # 99 mm above, less than five thicknesses
        "0,roof,10,20,901",
        "0,roof,512,20,800",  # 2 mm beyond the edge, less than five sigma
        "0,roof,513,20,800",
        "1,strips,3,,",  # needs x only
        "1,wall,,20,30",  # needs y and z only
        "2,wall,,,30",
    )
    source = open_source("csv", [path], detector=posed)
    hits = read(source)
    assert hits.u.tolist() == [0, 0, 502, 3, 20]
    assert source.run.counts == {
        "rows": 11,
        "hits": 5,
        "events": 3,
        "hits_not_finite": 4,
        "hits_off_plane": 1,
        "hits_outside_panel": 1,
    }


def test_optional_columns(posed: Detector, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "# a comment",
        "",
        "amplitude; time_ns; panel; z_mm; y_mm; x_mm; event_id; sigma_x_mm; sigma_y_mm; "
        "momentum_GeV; sigma_momentum_GeV; colour",
        '2.5;1e9;"roof";800;20;10;18446744073709551615;0.1;0.2;4.5;0.5;red',
        ";3.5e9;ramp;500;0;0;18446744073709551615;0.1;0.2;9;;blue",
        ";3.5e9;wall;0;0;700;18446744073709551615;0.1;0.2;;;",
        "",
    )
    source = open_source("csv", [path], detector=posed)
    hits = read(source)
    assert hits.event_id.tolist() == [2**64 - 1] * 3
    assert hits.time.tolist() == [1e9, 3.5e9, 3.5e9]
    assert hits.amplitude[0] == 2.5
    assert np.isnan(hits.amplitude[1:]).all()
    # The tilted panel's u is level by more than half; the wall's v is upright.
    np.testing.assert_allclose(hits.sigma_u, [0.1, 0.1, 0.2], rtol=1e-6)
    np.testing.assert_allclose(hits.sigma_v, [0.2, 0.2, 0.7], rtol=1e-6)
    assert hits.momenta is not None
    assert hits.momenta.event_id.tolist() == [2**64 - 1]
    assert hits.momenta.momentum.tolist() == [4.5]
    assert hits.momenta.sigma.tolist() == [0.5]
    assert source.run.live_time_s == pytest.approx(2.5)
    assert any("colour" in note for note in source.notes)


def test_times_within_events_give_no_live_time(posed: Detector, tmp_path: Path) -> None:
    lines = [f"{event},roof,0,0,800,{event % 7}" for event in range(100)]
    source = open_source("csv", [write(tmp_path, HEADER + ",time_ns", *lines)], detector=posed)
    read(source)
    assert np.isnan(source.run.live_time_s)
    assert any("relative" in note for note in source.notes)


def many_rows(folder: Path, n_events: int, shuffle: int) -> tuple[Path, np.ndarray]:
    """Six rows an event, over several blocks of text; events overlap by up to `shuffle` rows."""
    rng = np.random.default_rng(11)
    event = np.repeat(np.arange(n_events), 6)
    panel = np.tile(np.arange(6), n_events)
    z = np.array([1900, 1600, 1300, -1300, -1600, -1900])[panel]
    order = np.argsort(np.arange(len(event)) + rng.uniform(0, shuffle, len(event)), kind="stable")
    x = rng.uniform(-1900, 1900, len(event)).round(3)
    lines = [f"{event[i]},{panel[i]},{x[i]},0.000,{z[i]}.0" for i in order]
    return write(folder, HEADER, *lines), x


@pytest.mark.parametrize("shuffle", [1, 5000])
def test_long_files_come_in_chunks_that_part_no_event(shuffle: int, tmp_path: Path) -> None:
    path, x = many_rows(tmp_path, 60_000, shuffle)
    chunks = list(open_source("csv", [path], detector=load_detector("blocks-lab")).chunks())
    assert len(chunks) > 2
    lasts = [int(chunk.event_id[-1]) for chunk in chunks]
    firsts = [int(chunk.event_id[0]) for chunk in chunks]
    assert all(last < first for last, first in zip(lasts, firsts[1:], strict=False))
    hits = Hits.join(chunks)
    np.testing.assert_array_equal(hits.event_id, np.repeat(np.arange(60_000), 6))
    if shuffle == 1:
        np.testing.assert_array_equal(hits.u, x.astype("f4"))
    else:
        sorted_rows = np.lexsort((hits.panel, hits.event_id))
        np.testing.assert_array_equal(hits.u[sorted_rows], x.astype("f4"))


def test_an_event_that_comes_back_too_late_is_refused_by_line(tmp_path: Path) -> None:
    path, _ = many_rows(tmp_path, 60_000, 1)
    assert WINDOW < 300_000
    with path.open("a", encoding="utf-8") as file:
        file.write("7,0,1.0,2.0,1900.0\n")
    source = open_source("csv", [path], detector=load_detector("blocks-lab"))
    with pytest.raises(InputError, match=r"line 360002: event 7 .* sort the file by event"):
        read(source)


def test_files_are_parts_of_one_run(tmp_path: Path) -> None:
    detector = load_detector("blocks-lab")
    paths = [
        write(tmp_path, HEADER, "3,0,1,0,1900", "4,1,2,0,1600", name="a.csv"),
        write(tmp_path, HEADER, "9,0,3,0,1900", name="b.csv"),
        write(tmp_path, HEADER, "0,0,4,0,1900", "1,0,5,0,1900", name="c.csv"),
    ]
    source = open_source("csv", paths, detector=detector)
    hits = read(source)
    assert hits.u.tolist() == [1, 2, 3, 4, 5]
    assert hits.event_id.tolist() == [3, 4, 9, 10, 11]
    assert [note for note in source.notes if "shifted by 10" in note]
    assert source.run.counts["events"] == 5


def test_progress_rises_to_one() -> None:
    steps: list[tuple[str, float]] = []
    source = open_source(
        "csv", [EXTRACT, EXTRACT], progress=lambda step, fraction: steps.append((step, fraction))
    )
    read(source)
    fractions = [fraction for _, fraction in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert {step for step, _ in steps} == {"import"}


WIDE = "event,X0,Y0,Z0,X1,Y1,Z1,X3,Y3,Z3,p"
MAPPING = """
event_id = "event"
momentum = "p"
[[panel]]
panel = 0
x = "X0"
y = "Y0"
z = "Z0"
[[panel]]
panel = "1"
x = "X1"
y = "Y1"
z = "Z1"
[[panel]]
panel = 3
x = "X3"
y = "Y3"
"""


def test_wide_form_through_a_mapping(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        WIDE,
        "5,1,2,1900,3,4,1600,5,6,-1300,2.5",
        "6,7,8,1900,,,1600,,,,",
        "7,,,,,,,,,,",
        "8,9,nan,1900,,,,1,1,0,",
    )
    mapping = write(tmp_path, MAPPING, name="map.toml")
    source = open_source("csv", [path], detector=load_detector("blocks-lab"), mapping=mapping)
    hits = read(source)
    assert hits.event_id.tolist() == [5, 5, 5, 6, 8]
    assert hits.panel.tolist() == [0, 1, 3, 0, 3]
    assert hits.u.tolist() == [1, 3, 5, 7, 1]
    assert hits.v.tolist() == [2, 4, 6, 8, 1]
    # An empty panel was not crossed; half a hit is dropped.
    assert source.run.counts["hits_not_finite"] == 1
    assert hits.momenta is not None
    assert hits.momenta.momentum.tolist() == [2.5]
    assert any("Z3" in note for note in source.notes)


def test_mapping_without_event_counts_rows_and_scales_units(tmp_path: Path) -> None:
    path = write(tmp_path, "a\tb\tt", "1.5\t-2\t0", "", "3\t4\t8", name="w.tsv")
    mapping = write(
        tmp_path,
        'length_unit = "cm"\ntime_unit = "s"\ntime = "t"\n[[panel]]\npanel = 2\nx = "a"\ny = "b"',
        name="map.toml",
    )
    source = open_source("csv", [path], detector=load_detector("blocks-lab"), mapping=mapping)
    hits = read(source)
    assert hits.u.tolist() == [15, 30]
    assert hits.v.tolist() == [-20, 40]
    assert (np.diff(hits.event_id.astype(int)) > 0).all()
    assert source.run.live_time_s == 8.0


def test_long_form_with_other_names(tmp_path: Path) -> None:
    path = write(tmp_path, "n,plane,x_mm,y_mm,height", "1,0,5,6,1900")
    mapping = write(
        tmp_path,
        '[columns]\nevent_id = "n"\npanel = "plane"\nz = "height"',
        name="map.toml",
    )
    hits = read(open_source("csv", [path], detector=load_detector("blocks-lab"), mapping=mapping))
    assert (hits.u.tolist(), hits.v.tolist()) == ([5], [6])


def test_layout_is_inferred_from_the_hits() -> None:
    source = open_source("csv", [EXTRACT])
    detector = source.detector
    real = load_detector("blocks-lab")
    assert [panel.name for panel in detector.panels] == list("012345")
    np.testing.assert_allclose(detector.centres[:, 2], real.centres[:, 2])
    np.testing.assert_allclose(detector.centres[:, :2], 0, atol=40)
    np.testing.assert_allclose(2 * detector.half_sizes, 4000, atol=80)
    assert detector.group_index.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(detector.bounds[:, 2], [-1300, 1300])
    # 0.3 mm, and what the panels scatter over 300 mm.
    assert 0.3 < detector.panels[0].sigma[0] < 0.45
    assert any("6 horizontal panels" in note for note in source.notes)
    assert any("resolution" in note for note in source.notes)
    assert len(read(source)) == len(read(open_source("csv", [EXTRACT], detector=real)))
    # The text that goes with the hits says the same.
    again = parse_detector(detector.text, "text")
    np.testing.assert_array_equal(again.centres, detector.centres)


def test_inferred_resolution_is_assumed_where_two_planes_cannot_tell(tmp_path: Path) -> None:
    lines = [f"{e},{name},{e},{e},{z}" for e in range(9) for name, z in (("top", 50), ("low", -9))]
    source = open_source("csv", [write(tmp_path, HEADER, *lines)])
    assert [panel.name for panel in source.detector.panels] == ["top", "low"]
    assert source.detector.groups == ("upper", "lower")
    assert source.detector.panels[0].sigma == (1.0, 1.0)
    assert any("1 mm (assumed)" in note for note in source.notes)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        (["", ""], "has no header line"),
        (["# only a comment"], "has no header line"),
        ([HEADER], "no row has finite x, y and z"),
        ([HEADER, "1,0,nan,nan,nan"], "no row has finite x, y and z"),
        ([HEADER, "1,0,1,2,3", "2,0,3,4,3"], "fewer than two planes"),
        ([HEADER, "1,a,1,2,3", "2,a,3,4,90"], r"panel 'a' has hits from z = 3 to 90 mm"),
        (["event_id,panel,x_mm,y_mm,z"], "no column 'z_mm'"),
        (["event,panel,x_mm,y_mm,z_mm"], "no column 'event_id'"),
        (["event_id,panel,x_mm,x_mm,z_mm"], "line 1: column 'x_mm' stands twice"),
        (["1,2,3,4,5", "2,3,4,5,6"], "line 1: the header has no column 'event_id'"),
        ([HEADER, "1,0,1,2,3", "", "1,0,1,2"], "line 4: 4 columns, but the header has 5"),
        ([HEADER, "1,0,1,2,3,4"], r"line 2: more columns than the header \(5\)"),
        ([HEADER, "1,0,1,two,3"], "line 2: y_mm 'two' is not a number"),
        ([HEADER, "1,0,1,2,3", "-1,0,1,2,3"], "line 3: event_id '-1' is not a whole number"),
        ([HEADER, "1,,1,2,3"], "line 2: panel '' is not a name"),
    ],
)
def test_wrong_files_are_one_line(lines: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read(open_source("csv", [path]))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_unknown_panels_are_named_with_their_line(posed: Detector, tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, "1,roof,10,20,800", "1,rooof,10,20,800")
    with pytest.raises(InputError, match="line 3: layout 'posed' has no panel 'rooof'; did you"):
        read(open_source("csv", [path], detector=posed))


def test_missing_column_suggests_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "event_id,panel,x_mm,y_mm,z_nm", "1,0,1,2,3")
    with pytest.raises(InputError, match="no column 'z_mm'; did you mean 'z_nm'"):
        open_source("csv", [path])


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = EXTRACT.read_bytes()
    detector = load_detector("blocks-lab")
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut off or damaged after line"):
        read(open_source("csv", [cut], detector=detector))
    with pytest.raises(InputError, match="cut off or damaged"):
        open_source("csv", [cut])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    cut.write_bytes(flipped)
    with pytest.raises(InputError):
        read(open_source("csv", [cut], detector=detector))
    binary = tmp_path / "hits.bin"
    binary.write_bytes(np.random.default_rng(1).bytes(20_000))
    with pytest.raises(InputError, match=r"UTF-8|no column|endless|header"):
        open_source("csv", [binary])
    endless = tmp_path / "endless.csv"
    endless.write_bytes(b"1" * (9 << 20))
    with pytest.raises(InputError, match="line 1 is endless"):
        open_source("csv", [endless])
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        open_source("csv", [folder])
    with pytest.raises(InputError, match="no such file"):
        open_source("csv", [tmp_path / "none.csv"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[panel]]\npanel = 0", "name the column of x, y or z"),
        ('[[panel]]\npanel = 0\nx = "a"\nw = "b"', "unknown key"),
        ('event_id = "event"', "give \\[\\[panel\\]\\] tables"),
        ('[[panel]]\npanel = 0\nx = "X0"\n[[panel]]\npanel = "0"\nx = "X1"', "stands twice"),
        ('[columns]\nxx = "a"', "columns.xx: no such field"),
        ('[[panel]]\npanel = 0\nx = "X0"\ny = "evnt"', "header has no column 'evnt'; did you mean"),
        ('length_unit = "furlong"\n[[panel]]\npanel = 0\nx = "X0"', "length_unit"),
        ("not toml", "not valid TOML"),
    ],
)
def test_wrong_mappings_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, WIDE, "5,1,2,1900,3,4,1600,5,6,-1300,2.5")
    mapping = write(tmp_path, text, name="map.toml")
    with pytest.raises(InputError, match=message) as caught:
        read(open_source("csv", [path], detector=load_detector("blocks-lab"), mapping=mapping))
    assert "\n" not in str(caught.value)


def test_unknown_driver_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="cvs: no such driver; did you mean 'csv'"):
        open_source("cvs", [EXTRACT])
    with pytest.raises(InputError, match="no file"):
        open_source("csv", [])


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    """Damage of every kind ends in hits or in one line, never in anything else."""
    rng = np.random.default_rng(3)
    with gzip.open(EXTRACT, "rb") as file:
        whole = b"\n".join(file.read().split(b"\n")[:60]) + b"\n"
    detector = load_detector("blocks-lab")
    path = tmp_path / "mutant.csv"
    refused: list[str] = []
    for number in range(400):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 5))):
            place = int(rng.integers(len(data)))
            kind = number % 4
            if kind == 0:
                data[place] = int(rng.integers(256))
            elif kind == 1:
                del data[place : place + int(rng.integers(1, 40))]
            elif kind == 2:
                data[place:place] = rng.choice([b",", b"\n", b'"', b"-", b"e", b"\r", b"9" * 30])
            else:
                data = data[: max(place, 1)]
        path.write_bytes(data)
        layout = detector if number % 2 else None
        try:
            chunks = list(open_source("csv", [path], detector=layout).chunks())
        except InputError as error:
            refused.append(str(error))
        else:
            for hits in chunks:
                assert (hits.event_id[1:] >= hits.event_id[:-1]).all()
                assert np.isfinite(hits.u).all()
    assert len(refused) > 100
    assert not any("\n" in message for message in refused)
