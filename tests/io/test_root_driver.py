"""The root driver: flat, jagged and wide trees, written here by uproot itself."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

import muscan
from muscan.errors import InputError
from muscan.io.drivers import open_source, rootfile
from muscan.model.detector import load_detector
from muscan.model.events import Hits

DETECTOR = load_detector("blocks-lab")
LONG = {"event_id": "uint64", "panel": "int32", "x_mm": "float32", "y_mm": "float64", "z_mm": "f4"}


def toy(events=300, seed=1):
    """Hits of events with one to seven hits each, as columns; ids have gaps."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 8, events)
    ids = np.repeat(np.cumsum(rng.integers(1, 4, events)), counts).astype("u8")
    panel = rng.integers(0, 6, len(ids)).astype("i4")
    x, y = rng.uniform(-1900, 1900, (2, len(ids)))
    z = DETECTOR.centres[panel, 2]
    data = {"event_id": ids, "panel": panel, "x_mm": x.astype("f4"), "y_mm": y, "z_mm": z}
    return counts, data


def write_tree(path: Path, types, *parts, tree="hits"):
    with uproot.recreate(path) as file:
        made = file.mktree(tree, types)
        for part in parts:
            made.extend(part)
    return path


def mapping(folder: Path, text: str) -> Path:
    path = folder / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    return path


def read(path, **options) -> tuple[Hits, object]:
    options.setdefault("detector", DETECTOR)
    source = open_source("root", [path] if isinstance(path, Path) else path, **options)
    return Hits.join(list(source.chunks())), source


def assert_is(hits: Hits, data) -> None:
    np.testing.assert_array_equal(hits.event_id, data["event_id"])
    np.testing.assert_array_equal(hits.panel, data["panel"])
    np.testing.assert_allclose(hits.u, data["x_mm"], atol=1e-3)
    np.testing.assert_allclose(hits.v, data["y_mm"], atol=1e-3)


def test_flat_branches_named_as_csv_columns_need_no_mapping(tmp_path):
    _, data = toy()
    cut = {name: column[:700] for name, column in data.items()}
    rest = {name: column[700:] for name, column in data.items()}
    hits, source = read(write_tree(tmp_path / "flat.root", LONG, cut, rest))
    assert_is(hits, data)
    assert source.run.source == "root"
    assert source.run.counts["rows"] == source.run.counts["hits"] == len(data["x_mm"])
    assert source.run.counts["events"] == 300


def jagged_file(folder, counts, data, *, ids=True):
    types = {"layer": "var * int32", "hx": "var * float32", "hy": "var * float64"}
    flat = {"run": "int32", "stamp": "float64", **({"evt": "uint64"} if ids else {})}
    first = np.cumsum(counts) - counts
    columns = {
        "layer": ak.unflatten(data["panel"] + 10, counts),
        "hx": ak.unflatten(data["x_mm"] / 10, counts),
        "hy": ak.unflatten(data["y_mm"] / 10, counts),
        "run": np.full(len(counts), 7, "i4"),
        "stamp": np.arange(len(counts)) * 0.5,
    }
    if ids:
        columns["evt"] = data["event_id"][first]
    return write_tree(folder / "jagged.root", {**flat, **types}, columns, tree="daq/events")


JAGGED = """
tree = "daq/events"
length_unit = "cm"
time_unit = "us"
[columns]
panel = "layer"
x = "hx"
y = "hy"
time = "stamp"
event_id = "evt"
[panels]
{}
"""


def test_jagged_branches_through_a_mapping(tmp_path):
    counts, data = toy()
    path = jagged_file(tmp_path, counts, data)
    names = "\n".join(f'{10 + i} = "{panel.name}"' for i, panel in enumerate(DETECTOR.panels))
    hits, source = read(path, mapping=mapping(tmp_path, JAGGED.format(names)))
    assert_is(hits, data)
    # One time stamp an event counts for all its hits: 0.5 us apart.
    np.testing.assert_allclose(hits.time, np.repeat(np.arange(300) * 500.0, counts))
    assert any("run" in note and "not read" in note for note in source.notes)


def test_entries_are_events_where_jagged_data_have_no_ids(tmp_path):
    counts, data = toy()
    path = jagged_file(tmp_path, counts, data, ids=False)
    names = "\n".join(f'{10 + i} = "{i}"' for i in range(6))
    text = JAGGED.format(names).replace('event_id = "evt"\n', "")
    hits, _ = read(path, mapping=mapping(tmp_path, text))
    np.testing.assert_array_equal(hits.event_id, np.repeat(np.arange(300), counts))
    twice, source = read([path, path], mapping=mapping(tmp_path, text))
    np.testing.assert_array_equal(np.unique(twice.event_id), np.arange(600))
    assert any("start anew" in note for note in source.notes)


def test_wide_form_with_a_number_for_missing_and_array_elements(tmp_path):
    rng = np.random.default_rng(2)
    pos = rng.uniform(-1900, 1900, (50, 2)).astype("f4")
    top_x, top_y = pos[:, 0].copy(), pos[:, 1].copy()
    top_x[::5] = top_y[::5] = -9999
    columns = {"tx": top_x, "ty": top_y, "low": np.stack([pos[:, 0] + 1, pos[:, 1] + 2], axis=1)}
    path = write_tree(tmp_path / "w.root", {"tx": "f4", "ty": "f4", "low": ("f4", (2,))}, columns)
    text = 'missing = -9999\n[[panel]]\npanel = 0\nx = "tx"\ny = "ty"\n'
    text += '[[panel]]\npanel = 3\nx = "low[0]"\ny = "low[1]"\n'
    hits, source = read(path, mapping=mapping(tmp_path, text))
    crossed = np.arange(50) % 5 != 0
    assert np.count_nonzero(hits.panel == 0) == crossed.sum() == 40
    np.testing.assert_allclose(hits.u[hits.panel == 0], top_x[crossed], atol=1e-3)
    np.testing.assert_allclose(hits.v[hits.panel == 3], pos[:, 1] + 2, atol=1e-3)
    assert (np.diff(hits.event_id.astype(int)) >= 0).all()
    assert source.run.counts["events"] == 50


def test_wide_form_with_several_hits_a_panel(tmp_path):
    xs = ak.Array([[1.0, 2.0], [], [3.0]])
    ys = ak.Array([[5.0, 6.0], [], [7.0]])
    types = {"ax": "var * float64", "ay": "var * float64", "bx": "f8", "by": "f8"}
    flat = np.array([10.0, 20.0, np.nan])
    path = write_tree(
        tmp_path / "w.root", types, {"ax": xs, "ay": ys, "bx": flat, "by": np.array([1.0, 2.0, 3])}
    )
    text = "".join(
        f'[[panel]]\npanel = {i}\nx = "{n}x"\ny = "{n}y"\n' for i, n in ((0, "a"), (5, "b"))
    )
    hits, source = read(path, mapping=mapping(tmp_path, text))
    assert list(zip(hits.event_id.tolist(), hits.panel.tolist(), hits.u.tolist(), strict=True)) == [
        (0, 0, 1.0), (0, 0, 2.0), (0, 5, 10.0), (1, 5, 20.0), (2, 0, 3.0),
    ]  # fmt: skip
    assert source.run.counts["hits_not_finite"] == 1


def test_what_is_dropped_is_counted_by_reason_as_for_csv(tmp_path):
    data = {
        "event_id": np.arange(4, dtype="u8"),
        "panel": np.zeros(4, "i4"),
        "x_mm": np.array([0, np.nan, 0, 9000], "f4"),
        "y_mm": np.zeros(4),
        "z_mm": np.array([1900, 1900, 0, 1900], "f4"),
    }
    path = write_tree(tmp_path / "d.root", LONG, data)
    hits, source = read(path)
    assert hits.event_id.tolist() == [0]
    counts = source.run.counts
    assert counts["hits_not_finite"] == counts["hits_off_plane"] == 1
    assert counts["hits_outside_panel"] == 1
    table = "\n".join(",".join(str(column[i]) for column in data.values()) for i in range(4))
    (tmp_path / "d.csv").write_text(",".join(data) + "\n" + table + "\n", encoding="utf-8")
    same = open_source("csv", [tmp_path / "d.csv"], detector=DETECTOR)
    assert [len(part) for part in same.chunks()] == [1]
    assert same.run.counts == counts


def test_a_layout_is_inferred_where_none_is_given(tmp_path):
    _, data = toy()
    hits, source = read(write_tree(tmp_path / "flat.root", LONG, data), detector=None)
    heights = sorted(round(float(panel.centre[2])) for panel in hits.detector.panels)
    assert heights == [-1900, -1600, -1300, 1300, 1600, 1900]
    assert any("inferred" in note for note in source.notes)


@pytest.mark.parametrize("baskets", [1, 7])
def test_small_steps_give_the_same_hits_whatever_the_baskets(tmp_path, monkeypatch, baskets):
    counts, data = toy()
    edges = np.linspace(0, len(data["x_mm"]), baskets + 1).astype(int)
    parts = [{n: c[a:b] for n, c in data.items()} for a, b in pairwise(edges)]
    path = write_tree(tmp_path / "flat.root", LONG, *parts)
    jagged = jagged_file(tmp_path, counts, data)
    names = "\n".join(f'{10 + i} = "{i}"' for i in range(6))
    described = mapping(tmp_path, JAGGED.format(names))
    whole, whole_jagged = read(path)[0], read(jagged, mapping=described)[0]
    monkeypatch.setattr(rootfile, "STEP_BYTES", 300)
    for found, expected in (
        (read(path)[0], whole),
        (read(jagged, mapping=described)[0], whole_jagged),
    ):
        for name, column in expected.columns().items():
            np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Peaks differ by what a chunk takes, not by what the file holds."""
    n = 200_000
    part = {
        "event_id": np.arange(n, dtype="u8"), "panel": np.zeros(n, "i4"),
        "x_mm": np.zeros(n, "f4"), "y_mm": np.zeros(n), "z_mm": np.full(n, 1900, "f4"),
    }  # fmt: skip
    peaks = []
    for parts in (6, 18):
        path = tmp_path / f"{parts}.root"
        pieces = ({**part, "event_id": part["event_id"] + i * n} for i in range(parts))
        write_tree(path, LONG, *pieces)
        source = open_source("root", [path], detector=DETECTOR)
        tracemalloc.start()
        rows = sum(len(hits) for hits in source.chunks())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert rows == parts * n
    assert peaks[1] < 1.2 * peaks[0]


def bad_branch(folder):
    types = {**LONG, "panel": "float64"}
    _, data = toy(3)
    return write_tree(folder / "b.root", types, {**data, "panel": data["panel"] + 0.5})


def two_trees(folder):
    path = folder / "b.root"
    with uproot.recreate(path) as file:
        for name in ("a", "b"):
            file.mktree(name, {"x_mm": "f4"}).extend({"x_mm": np.zeros(3, "f4")})
    return path


def histogram(folder):
    path = folder / "b.root"
    with uproot.recreate(path) as file:
        file["h"] = np.histogram([1.0, 2.0])
    return path


def uneven(folder):
    types = {"panel": "var * int32", "x_mm": "var * float64"}
    columns = {"panel": ak.Array([[1, 2]]), "x_mm": ak.Array([[1.0]])}
    return write_tree(folder / "b.root", types, columns)


def text_file(folder):
    path = folder / "b.root"
    path.write_text("event_id,panel", encoding="utf-8")
    return path


def truncated(folder):
    _, data = toy()
    path = write_tree(folder / "b.root", LONG, data)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def negative_ids(folder):
    _, data = toy(3)
    ids = data["event_id"].astype("i8") - 1000
    return write_tree(folder / "b.root", {**LONG, "event_id": "int64"}, {**data, "event_id": ids})


def unknown_panel(folder):
    _, data = toy(3)
    return write_tree(folder / "b.root", LONG, {**data, "panel": data["panel"] + 50})


BAD = {
    "half panel": (bad_branch, r"entry 0: panel .* is not a whole number"),
    "two trees": (two_trees, "has 2 trees: a, b; name one as 'tree'"),
    "no tree": (histogram, "has 0 trees"),
    "uneven": (uneven, "entry 0: branch 'panel' has 2 values, 'x_mm' has 1"),
    "text": (text_file, "is not a ROOT file"),
    "truncated": (truncated, "is damaged"),
    "negative ids": (negative_ids, r"event_id -\d+ is not a whole number from 0 on"),
    "unknown panel": (unknown_panel, r"entry \d+: layout 'blocks-lab' has no panel '5"),
}


@pytest.mark.parametrize("how", BAD)
def test_what_is_wrong_is_told_in_one_line(tmp_path, how):
    make, message = BAD[how]
    path = make(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('tree = "none"\n[columns]\nx = "x_mm"', "has no tree 'none'"),
        ('[columns]\nx = "x_cm"', "no branch 'x_cm'; did you mean 'x_mm'"),
        ('[columns]\nx = "__import__(1)"', "no branch '__import__"),
        ('[colums]\nx = "x_mm"', "unknown key; did you mean 'columns'"),
        ('[[panel]]\npanel = 0\nx = "x_mm[3]"\ny = "y_mm"', None),
    ],
)
def test_mappings_that_do_not_fit(tmp_path, text, message):
    _, data = toy(3)
    path = write_tree(tmp_path / "a.root", LONG, data)
    described = mapping(tmp_path, text)
    if message is None:
        hits, source = read(path, mapping=described)
        assert len(hits) == 0
        assert source.run.counts["hits_not_finite"] == len(data["x_mm"])
        return
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        read(path, mapping=described)


def test_survey_tells_what_was_read_without_writing(tmp_path):
    _, data = toy()
    path = write_tree(tmp_path / "flat.root", LONG, data)
    facts = muscan.survey(path, driver="root", detector=DETECTOR)
    assert facts["detector"] == "blocks-lab, 6 panels"
    assert facts["live time [s]"] is None
    assert facts["counts"]["hits"] == len(data["x_mm"])
    assert [p.name for p in tmp_path.iterdir()] == ["flat.root"]
