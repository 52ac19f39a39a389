"""The v1190 driver on small look-alikes of a stand's data, written here by uproot."""

from __future__ import annotations

import json
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

import muscan
from muscan.cli.app import main
from muscan.errors import InputError
from muscan.io.drivers import open_source
from muscan.io.drivers.tdc_mapping import parse_channels
from muscan.io.drivers.tdc_survey import ranges
from muscan.io.drivers.v1190 import COUNTER_RANGE
from muscan.model.detector import parse_detector

LAYOUT = """
name = "stand"
inspection = { min_mm = [-200, -200, 0], max_mm = [200, 200, 100] }
[technology.x]
size_mm = [320, 320]
measures = "u"
resolution_mm = [3, 3]
[technology.y]
size_mm = [320, 320]
measures = "v"
resolution_mm = [3, 3]
[[panel]]
name = "top-x"
group = "upper"
technology = "x"
centre_mm = [0, 0, 300]
[[panel]]
name = "top-y"
group = "upper"
technology = "y"
centre_mm = [0, 0, 290]
"""
MAPPING = """
count_ns = 0.1
[trigger]
module = 5
channel = 3
[[strips]]
panel = "top-x"
axis = "u"
module = 2
channels = "0-15, 31-16"
first_mm = -155
pitch_mm = 10
window_ns = [-120, -80]
[[strips]]
panel = "top-y"
axis = "v"
module = 3
channels = "0-31"
first_mm = 155
pitch_mm = -10
window_ns = [-120, -80]
masked = "20"
"""
MODULES = {2: 32, 3: 32, 5: 8}


def write_tdc(path: Path, triggers: list[dict[tuple[int, int], list[int]]], told=None) -> Path:
    """Write triggers, each a mapping from (module, channel) to its leading edges."""
    columns: dict[str, object] = {}
    for module, channels in MODULES.items():
        counts = np.array(
            [[len(t.get((module, c), [])) for c in range(channels)] for t in triggers], "u4"
        )
        for channel in range(channels):
            edges = [np.array(t.get((module, channel), []), "u4") for t in triggers]
            columns[f"Module{module}_LE_CH{channel}"] = ak.unflatten(
                np.concatenate(edges), [len(e) for e in edges]
            )
        columns[f"Module{module}_NUMBER_OF_CHANNELS"] = np.full(len(triggers), channels, "i4")
        columns[f"Module{module}_HITS_PER_CHANNEL"] = ak.from_regular(counts)
    types = {
        name: "int32" if name.endswith("NUMBER_OF_CHANNELS") else "var * uint32" for name in columns
    }
    with uproot.recreate(path) as file:
        file.mktree("BSC_DATA_TREE", types).extend(columns)
    return path


def stand(path: Path, triggers=400, seed=1) -> Path:
    """A stand with a hot channel (2, 9), a dead one (2, 20), none connected from (3, 28)."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(triggers):
        edges: dict[tuple[int, int], list[int]] = {(5, 3): [31_450 + int(rng.integers(10))]}
        for module, channels in ((2, 32), (3, 28)):
            for channel in np.flatnonzero(rng.random(channels) < 0.1).tolist():
                edges.setdefault((module, channel), []).append(30_450)
        edges.pop((2, 20), None)
        edges[2, 9] = rng.integers(0, COUNTER_RANGE // 2, 6).tolist()
        found.append(edges)
    return write_tdc(path, found)


@pytest.fixture
def files(tmp_path):
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(MAPPING, encoding="utf-8")
    return tmp_path, mapping, parse_detector(LAYOUT, "stand")


def hits_of(path, mapping, detector):
    source = open_source("v1190", [path], detector=detector, mapping=mapping)
    return list(source.chunks()), source


def test_strips_become_hits_at_their_places(files):
    folder, mapping, detector = files
    trigger = (5, 3)
    path = write_tdc(
        folder / "run.root",
        [
            # Strip 2 of x; strips 5 and 6 of y, whose pitch counts down: 155 - 55 = 100 mm.
            {trigger: [31_000], (2, 2): [30_000], (3, 5): [30_010], (3, 6): [30_004]},
            # Channel 31 is strip 16, beside strip 15: one cluster. The masked one is dropped.
            {trigger: [31_000], (2, 15): [30_000], (2, 31): [30_000], (3, 20): [30_000]},
            # Out of the window; a channel that has no strip; two clusters.
            {trigger: [31_000], (2, 0): [31_000], (5, 1): [30_000], (3, 0): [30_000, 30_001],
             (3, 2): [30_000]},
            # No trigger's edge: no time can be told.
            {(2, 2): [30_000]},
        ],
    )  # fmt: skip
    (hits,), source = hits_of(path, mapping, detector)
    rows = [
        (int(e), int(p), float(u), float(v))
        for e, p, u, v in zip(hits.event_id, hits.panel, hits.u, hits.v, strict=True)
    ]
    expected = [
        (0, 0, -135.0, np.nan), (0, 1, np.nan, 100.0), (1, 0, 0.0, np.nan),
        (2, 1, np.nan, 155.0), (2, 1, np.nan, 135.0),
    ]  # fmt: skip
    np.testing.assert_allclose(rows, expected)
    one, two = 10 / np.sqrt(12), 20 / np.sqrt(12)
    np.testing.assert_allclose(hits.sigma_u, [one, np.inf, two, np.inf, np.inf])
    np.testing.assert_allclose(hits.sigma_v, [np.inf, two, np.inf, one, one])
    np.testing.assert_allclose(hits.time, [-100, -99.6, -100, -100, -100], atol=1e-6)
    counts = source.run.counts
    assert counts == {
        "triggers": 4, "edges": 15, "edges_of_trigger": 3, "edges_untriggered": 1,
        "edges_without_strip": 1, "edges_masked": 1, "edges_outside_window": 1,
        "edges_in_hits": 8, "hits": 5, "triggers_without_hits": 1,
    }  # fmt: skip


def test_every_edge_is_accounted_for(files):
    folder, mapping, detector = files
    parts, source = hits_of(stand(folder / "run.root"), mapping, detector)
    counts = dict(source.run.counts)
    ends = ("triggers", "hits", "triggers_without_hits", "edges")
    assert sum(n for name, n in counts.items() if name not in ends) == counts["edges"]
    assert sum(map(len, parts)) == counts["hits"]


def test_edges_before_the_window_are_negative_times(files):
    folder, mapping, detector = files
    text = MAPPING.replace("[-120, -80]", "[-3110, -3095]")
    mapping.write_text(text, encoding="utf-8")
    early = {(5, 3): [31_000], (2, 4): [COUNTER_RANGE - 20]}
    (hits,), _ = hits_of(write_tdc(folder / "run.root", [early]), mapping, detector)
    np.testing.assert_allclose(hits.time, [-2.0 - 3100.0])


def test_survey_tells_hot_and_dead_channels_and_the_trigger(tmp_path):
    path = stand(tmp_path / "run.root")
    with pytest.warns(UserWarning, match=r"hot channels 9|no mapping given"):
        facts = muscan.survey(path, driver="v1190")
    assert facts["triggers"] == 400
    assert facts["triggers that disagree with HITS_PER_CHANNEL"] == 0
    two, three, five = (facts["modules"][m] for m in "235")
    assert two["hot channels"] == "9"
    assert two["dead channels"] == "20"
    assert three["dead channels"] is None
    assert three["silent channels (not connected, or dead)"] == "28-31"
    assert five["trigger channel"] == "3"
    assert five["channels fired a trigger"] == {
        "mean": 1.0, "most": 1, "triggers": {"0": 0, "1": 400},
    }  # fmt: skip
    with uproot.open(path) as file:
        tree = file["BSC_DATA_TREE"]
        edges = [int(ak.sum(ak.num(tree[f"Module2_LE_CH{c}"].array()))) for c in range(32)]
        fired = sum(ak.num(tree[f"Module2_LE_CH{c}"].array()) > 0 for c in range(32))
    assert two["edges of each channel, from 0"] == edges
    assert two["edges"] == sum(edges)
    assert two["channels fired a trigger"]["mean"] == pytest.approx(float(ak.mean(fired)), abs=1e-3)
    assert sum(two["channels fired a trigger"]["triggers"].values()) == 400


def test_noise_alone_makes_no_channel_hot_or_dead(tmp_path):
    """Poisson fluctuations of 96 equal channels are no finding."""
    rng = np.random.default_rng(5)
    triggers = [
        {(m, c): [1000] for m in (2, 3) for c in np.flatnonzero(rng.random(32) < 0.05).tolist()}
        for _ in range(500)
    ]
    source = open_source("v1190", [write_tdc(tmp_path / "run.root", triggers)])
    for module in source.survey()["modules"].values():
        assert module["hot channels"] is None
        assert module["dead channels"] is None


def test_numbers_that_disagree_are_told(tmp_path):
    path = tmp_path / "run.root"
    with uproot.recreate(path) as file:
        types = {"Module2_LE_CH0": "var * uint32", "Module2_HITS_PER_CHANNEL": "var * uint32"}
        file.mktree("t", types).extend(
            {
                "Module2_LE_CH0": ak.values_astype(ak.Array([[1, 2], [3]]), "u4"),
                "Module2_HITS_PER_CHANNEL": ak.values_astype(ak.Array([[2], [5]]), "u4"),
            }
        )
    source = open_source("v1190", [path])
    assert source.survey()["triggers that disagree with HITS_PER_CHANNEL"] == 1
    assert any("1 triggers have other numbers" in note for note in source.notes)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return stop.value.code, *capsys.readouterr()


@pytest.mark.filterwarnings("always::UserWarning")
def test_command_surveys_without_mapping_and_imports_with_one(files, capsys):
    folder, mapping, _ = files
    path, out = stand(folder / "run.root"), folder / "hits.h5"
    code, text, notes = run(capsys, "import", path, "--driver", "v1190")
    assert code == 0
    assert "hot channels" in text
    assert "[[strips]]" in notes
    code, text, errors = run(capsys, "import", path, "--driver", "v1190", "-o", out)
    assert code == 2
    assert errors.count("\n") == 1
    assert "--mapping" in errors
    layout = folder / "stand.toml"
    layout.write_text(LAYOUT, encoding="utf-8")
    code, text, _ = run(
        capsys, "import", path, "--driver", "v1190", "--detector", layout,
        "--mapping", mapping, "-o", out, "--json",
    )  # fmt: skip
    assert code == 0
    told = json.loads(text)
    assert told["source"] == "v1190"
    assert told["data"]["modules"]["2"]["hot channels"] == "9"
    assert out.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("module = 3", "module = 2"), "module 2 channel 0 has two strips"),
        (('"0-31"', '"0-x"'), "'0-x' is no channel nor range"),
        (('axis = "v"', 'axis = "u"'), "panel 'top-y' measures v, its strips u"),
        (('"0-31"', '"0-40"'), "has no module 3 channel 32"),
        (("channel = 3", "channel = 30"), "has no module 5 channel 30"),
        (("[-120, -80]", "[-80, -120]"), "the earliest and the latest"),
        (("pitch_mm = 10", "pitch_mm = 0"), "pitch_mm must not be 0"),
    ],
)
def test_mappings_that_cannot_be_are_refused(files, change, message):
    folder, mapping, detector = files
    mapping.write_text(MAPPING.replace(*change), encoding="utf-8")
    path = stand(folder / "run.root", 3)
    with pytest.raises(InputError, match=message):
        hits_of(path, mapping, detector)


def test_other_trees_are_refused(tmp_path):
    path = tmp_path / "other.root"
    with uproot.recreate(path) as file:
        file.mktree("t", {"x": "f4"}).extend({"x": np.zeros(3, "f4")})
    with pytest.raises(InputError, match="no branch such as Module2_LE_CH0"):
        open_source("v1190", [path]).survey()


@given(st.sets(st.integers(0, 300)))
def test_ranges_of_channels_read_back(channels):
    assert parse_channels(ranges(sorted(channels))) == sorted(channels)
