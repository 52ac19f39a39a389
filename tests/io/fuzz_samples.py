"""Sound files of every kind that muscan reads, and ways to spoil them by chance."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from muscan import io
from muscan.io import audit
from muscan.io.journal import journal_of
from muscan.io.outbox import Outbox
from muscan.io.targets import event_body
from muscan.model.detector import load_detector
from muscan.model.events import Hits, Run
from muscan.model.volume import MaterialMap, Volume, VoxelGrid
from muscan.pipeline.sightings import Sightings
from muscan.resources import find
from muscan.tracking import find_tracks

LAYOUT = "blocks-lab"
WIDE = """length_unit = "cm"
time_unit = "us"
event_id = "n"
[[panel]]
panel = 0
x = "X0"
y = "Y0"
z = "Z0"
time = "t"
[[panel]]
panel = 3
x = "X1"
y = "Y1"
"""
JAGGED = """tree = "hits"
missing = -1
length_unit = "cm"
[columns]
event_id = "evt"
panel = "p"
x = "x"
y = "y"
[panels]
1 = "0"
"""
TDC = """count_ns = 0.1
[trigger]
module = 5
channel = 0
[[strips]]
panel = 0
axis = "u"
module = 2
channels = "0-5"
masked = "3"
first_mm = -20.0
pitch_mm = 10.0
window_ns = [-100, 100]
"""
TDC_LAYOUT = """name = "stand"
gate_ns = 100
inspection = { min_mm = [-100, -100, 0], max_mm = [100, 100, 50] }
[technology.x]
size_mm = [60, 60]
measures = "u"
resolution_mm = [3, 3]
[[panel]]
name = "a"
group = "g"
technology = "x"
centre_mm = [0, 0, 100]
rotation_deg = [0, 0, 90]
[[panel]]
name = "b"
group = "g"
technology = "x"
centre_mm = [0, 0, 80]
"""
STRIPS_LAYOUT = """name = "lab"
inspection = { min_mm = [-100, -100, 0], max_mm = [100, 100, 50] }
[technology.bars]
size_mm = [100, 100]
readout = "pitch"
pitch_mm = [10, 10]
[[panel]]
name = "a"
group = "g"
technology = "bars"
centre_mm = [0, 0, 100]
[[panel]]
name = "b"
group = "g"
technology = "bars"
centre_mm = [0, 0, 80]
"""
STRIPS = """threshold_adc = 5
cluster_ns = 10
window_ns = 100
min_panels = 2
[columns]
plane = "plane"
[[board]]
name = "fe"
panel = "b"
axis = "v"
first_channel = 10
first_strip = 0
strips = 10
turned = true
pedestal_adc = 1.5
gain_adc = 100
dead_channels = [12]
"""


def toy_hits(events: int = 60) -> Hits:
    rng = np.random.default_rng(7)
    detector = load_detector(LAYOUT)
    z = detector.centres[:, 2]
    place = rng.uniform(-500, 500, (events, 1, 2)) + rng.normal(0, 0.1, (events, 1, 2)) * z[:, None]
    place += rng.normal(0, 0.3, place.shape)
    n = events * len(z)
    sigma = np.full(n, 0.3, np.float32)
    u, v = place.reshape(-1, 2).T.astype(np.float32)
    return Hits(
        np.repeat(np.arange(events, dtype="u8"), len(z)),
        np.tile(np.arange(len(z), dtype="u2"), events),
        u, v, sigma, sigma, np.arange(n) * 1e4, np.ones(n, "f4"), detector,
        Run(10.0, "2026-01-01T00:00:00+00:00", "toy", "csv", {"rows": n}),
    )  # fmt: skip


def make_samples(folder: Path) -> dict[str, Path]:
    """Write a sound file of each kind; what the reader needs besides stands beside it."""
    hits = toy_hits()
    rng = np.random.default_rng(8)
    paths: dict[str, Path] = {}

    def new(kind: str, name: str) -> Path:
        (folder / kind).mkdir()
        paths[kind] = folder / kind / name
        return paths[kind]

    io.write_hits(new("hits", "hits.h5"), hits)
    io.write_tracks(new("tracks", "tracks.h5"), find_tracks(hits, workers=1))
    shape = (6, 5, 4)
    grid = VoxelGrid(np.zeros(3), np.full(3, 50.0), shape)
    io.write_volume(
        new("volume", "volume.h5"),
        Volume(
            values=rng.random(shape).astype("f4"),
            grid=grid,
            method="poca",
            uncertainty=np.ones(shape, "f4"),
            n_muons=rng.integers(0, 9, shape).astype("u4"),
            channels={"stopping": np.zeros(shape, "f4")},
        ),
    )
    io.write_materials(
        new("materials", "materials.h5"),
        MaterialMap(
            labels=rng.integers(0, 3, shape).astype("u2"),
            probability=rng.random(shape).astype("f4"),
            names=("unknown", "air", "iron"),
            grid=grid,
            materials_version="1",
        ),
    )
    sample = Path(io.__file__).parents[1] / "viewer" / "sample" / "alerts.json"
    new("alerts", "alerts.json").write_bytes(sample.read_bytes())
    table = ["event_id,panel,x_mm,y_mm,z_mm,time_ns,sigma_x_mm"]
    centres = hits.detector.centres[hits.panel]
    for row in range(120):
        u, v, z = hits.u[row], hits.v[row], centres[row, 2]
        table.append(f"{hits.event_id[row]},{hits.panel[row]},{u:.3f},{v:.3f},{z},{row}e3,0.3")
    text = "\n".join(table) + "\n"
    new("csv", "hits.csv").write_text(text)
    new("csv inferred", "hits.csv").write_text(text)
    new("csv gzip", "hits.csv.gz").write_bytes(gzip.compress(text.encode()))
    wide = "n,X0,Y0,Z0,t,X1,Y1\n" + "".join(
        f"{i},{i}.5,-{i},190,{i},{i},{'' if i % 3 else i}\n" for i in range(60)
    )
    for kind, target in (("csv wide", "data"), ("csv mapping", "mapping")):
        data, mapping = folder / kind / "wide.csv", folder / kind / "mapping.toml"
        new(kind, data.name if target == "data" else mapping.name)
        data.write_text(wide)
        mapping.write_text(WIDE)
    for kind, target in (("root", "data"), ("root mapping", "mapping")):
        path = new(kind, "jagged.root" if target == "data" else "mapping.toml")
        _write_jagged(path.with_name("jagged.root"))
        path.with_name("mapping.toml").write_text(JAGGED)
    _write_flat(new("root flat", "flat.root"), hits, centres)
    for kind, target in (("v1190", "data"), ("v1190 mapping", "mapping")):
        path = new(kind, "tdc.root" if target == "data" else "mapping.toml")
        _write_tdc(path.with_name("tdc.root"))
        path.with_name("mapping.toml").write_text(TDC)
        path.with_name("layout.toml").write_text(TDC_LAYOUT)
    raw = "plane,channel,adc,time_ns\n" + "".join(
        f"{plane},{channel},{int(rng.integers(50, 500))},{1000 * event + channel / 9:.2f}\n"
        for event in range(30)
        for plane, first in (("a/u", 0), ("a/v", 0), ("b/u", 0), ("fe", 10))
        for channel in range(first + event % 8, first + event % 8 + 2)
    )
    for kind, target in (("strips", "data"), ("strips mapping", "mapping")):
        path = new(kind, "raw.csv" if target == "data" else "mapping.toml")
        path.with_name("raw.csv").write_text(raw)
        path.with_name("mapping.toml").write_text(STRIPS)
        path.with_name("layout.toml").write_text(STRIPS_LAYOUT)
    _write_unfinished(new("hits unfinished", "hits.h5"), hits)
    _write_unfinished(new("journal", "hits.h5.blocks").with_suffix(""), hits, keep_journal=True)
    _write_audit(new("audit", "audit.jsonl"))
    _write_outbox(new("outbox", "outbox.sqlite"))
    Sightings(folder / "audit", Path("/hits.h5")).write()
    (folder / "audit" / "watch.json").rename(new("watch state", "watch.json"))
    new("layout", "layout.toml").write_text(TDC_LAYOUT)
    scene = Path(find("scenes", "waste-drum")).read_text(encoding="utf-8")
    new("scene", "scene.toml").write_text(scene, encoding="utf-8")
    listed = Path(find("materials", "alloys")).read_text(encoding="utf-8")
    entries = listed.split("[[material]]")
    new("material", "mine.toml").write_text("[[material]]".join(entries[:5]), encoding="utf-8")
    return paths


def _write_unfinished(path: Path, hits: Hits, *, keep_journal: bool = False) -> None:
    """Write a hit file as it is while its writer lives, or after it was killed.

    Where the journal is kept, the index of the file is torn: only the journal leads to the hits.
    """
    part = path.with_name("part.h5")
    with io.LiveHitsWriter(part, hits.detector, block_rows=64) as writer:
        writer.append(hits)
        shutil.copyfile(part, path)
        if keep_journal:
            shutil.copyfile(journal_of(part), journal_of(path))
            with path.open("r+b") as file:
                file.seek(48)
                file.write(bytes(16))
    part.unlink()


def _write_audit(path: Path) -> None:
    for number in range(5):
        audit.append(path, "alert", subject=f"alert-{number}", reason="lead", who="operator")


def _write_outbox(path: Path) -> None:
    outbox = Outbox(path)
    for number in range(5):
        body = event_body(f"alert-{number}", "muscan.alert.raised", "/scan", "lead", {"mass": 3.5})
        outbox.put(f"alert-{number}", body, ["stdout", "http://alerts.example/"])


def _write_jagged(path: Path) -> None:
    import awkward as ak
    import uproot

    rng = np.random.default_rng(9)
    counts = rng.integers(0, 5, 60)
    n = int(counts.sum())
    types = {"evt": "uint32", "p": "var * int16", "x": "var * float32", "y": "var * float64"}
    with uproot.recreate(path) as file:
        file.mktree("hits", types).extend(
            {
                "evt": np.arange(60, dtype="u4"),
                "p": ak.unflatten(rng.integers(0, 6, n).astype("i2"), counts),
                "x": ak.unflatten(rng.uniform(-99, 99, n).astype("f4"), counts),
                "y": ak.unflatten(rng.uniform(-99, 99, n), counts),
            }
        )


def _write_flat(path: Path, hits: Hits, centres: np.ndarray) -> None:
    import uproot

    data = {
        "event_id": hits.event_id, "panel": hits.panel.astype("i4"), "x_mm": hits.u,
        "y_mm": hits.v, "z_mm": centres[:, 2],
    }  # fmt: skip
    with uproot.recreate(path, compression=uproot.LZ4(1)) as file:
        tree = file.mktree("hits", {name: column.dtype for name, column in data.items()})
        for start in (0, 180):
            tree.extend({name: column[start : start + 180] for name, column in data.items()})


def _write_tdc(path: Path) -> None:
    import awkward as ak
    import uproot

    rng = np.random.default_rng(10)
    data = {}
    for name in [*(f"Module2_LE_CH{c}" for c in range(6)), "Module5_LE_CH0"]:
        counts = rng.integers(0, 3, 40) if name.startswith("Module2") else np.ones(40, int)
        edges = rng.integers(1000, 2000, int(counts.sum())).astype("u4")
        data[name] = ak.unflatten(edges, counts)
    with uproot.recreate(path) as file:
        file.mktree("tdc", dict.fromkeys(data, "var * uint32")).extend(data)


# --- ways to spoil a file ---------------------------------------------------------------------

_HUGE = (b"\xff" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\0\0\x01\0\0", b"\x7f\xff\xff\xff",
         b"\x00" * 8, b"\xfe" + b"\xff" * 7)  # fmt: skip


def _truncate(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(0, len(data))) :]


def _flip(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 17))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))


def _overwrite(data: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(len(data)))
    data[at : at + 8] = rng.bytes(min(8, len(data) - at))


def _huge(data: bytearray, rng: np.random.Generator) -> None:
    """Put huge and odd numbers where sizes and addresses may stand."""
    for _ in range(int(rng.integers(1, 4))):
        word = _HUGE[int(rng.integers(len(_HUGE)))]
        at = int(rng.integers(len(data)))
        at -= at % 2
        data[at : at + len(word)] = word


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(len(data)))
    del data[at : at + int(rng.integers(1, 64))]


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 200))
    data[at:at] = data[at : at + length]


BYTES = (_truncate, _flip, _flip, _overwrite, _huge, _huge, _cut, _repeat)
WORDS = ("nan", "inf", "-inf", "1e999", "-1", "0", "99999999999999999999999", "1e-320", '"text"',
         "", "true", "[1, 2]", "{}", "null", "'", "\x00", "…", "\n", "[[panel]]", "0x7f", "1.5",
         "../../etc", "__import__('os')", "[" * 2000, "1" * 5000)  # fmt: skip
_TOKEN = re.compile(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?|\"[^\"\n]*\"|\w+|[=,:{}\[\]]")


def _words(data: bytearray, rng: np.random.Generator) -> None:
    """Replace some tokens of a text by others: wrong types, huge numbers, odd texts."""
    for _ in range(int(rng.integers(1, 4))):
        tokens = list(_TOKEN.finditer(data))
        if not tokens:
            return
        token = tokens[int(rng.integers(len(tokens)))]
        data[token.start() : token.end()] = WORDS[int(rng.integers(len(WORDS)))].encode()


def _lines(data: bytearray, rng: np.random.Generator) -> None:
    """Drop, repeat or swap lines."""
    lines = bytes(data).splitlines(keepends=True)
    for _ in range(int(rng.integers(1, 4))):
        a, b = (int(i) for i in rng.integers(0, len(lines), 2))
        match int(rng.integers(3)):
            case 0 if len(lines) > 1:
                del lines[a]
            case 1:
                lines.insert(a, lines[b])
            case _:
                lines[a], lines[b] = lines[b], lines[a]
        b = 0
    data[:] = b"".join(lines)


def _hdf5(path: Path, rng: np.random.Generator) -> None:
    """Change what stands in an HDF5 file by its own means: types, shapes, sizes, attributes."""
    odd = (np.zeros(3, "f4"), np.zeros((2, 2)), np.array([b"x"] * 4), "text", 7, -1, np.nan,
           np.zeros(0), 2**62, np.array([], "u2"))  # fmt: skip
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(
            item, h5py.Dataset) else None)  # fmt: skip
        name = names[int(rng.integers(len(names)))]
        shape, dtype = file[name].shape, file[name].dtype
        match int(rng.integers(6)):
            case 0:
                del file[name]
            case 1:
                del file[name]
                file[name] = odd[int(rng.integers(len(odd)))]
            case 2 if shape:
                del file[name]
                chunks = tuple(min(n, 64) or 1 for n in shape)
                huge = (2 ** int(rng.integers(20, 50)), *shape[1:])
                file.create_dataset(name, huge, dtype, chunks=chunks, maxshape=(None,) * len(shape))
            case 3 if shape:
                attributes = dict(file[name].attrs)
                del file[name]
                wrong = ("f8", "i1", "S3", "u8", h5py.string_dtype())[int(rng.integers(5))]
                file.create_dataset(name, shape, wrong).attrs.update(attributes)
            case 4:
                groups = [file, file[name], *(file[g] for g in ("run", "run/counts") if g in file)]
                holder = groups[int(rng.integers(len(groups)))]
                keys = list(holder.attrs) or ["new"]
                holder.attrs[keys[int(rng.integers(len(keys)))]] = odd[int(rng.integers(len(odd)))]
            case _:
                data = file[name][()]
                if isinstance(data, np.ndarray) and data.size and data.dtype.kind in "fiu":
                    flat = data.ravel()
                    picked = rng.integers(0, flat.size, 5)
                    values = [np.nan, np.inf, -1e30] if data.dtype.kind == "f" else [0, 1, 127]
                    flat[picked] = values[int(rng.integers(3))]
                    file[name][...] = flat.reshape(data.shape)


def spoil(sample: Path, path: Path, seed: int) -> None:
    """Write a copy of a sound file that was changed by chance; same seed, same change."""
    rng = np.random.default_rng(seed)
    data = bytearray(sample.read_bytes())
    # HDF5 itself refuses to change a file whose writer has not closed it.
    if sample.suffix == ".h5" and "unfinished" not in sample.parent.name and rng.random() < 0.35:
        path.write_bytes(data)
        _hdf5(path, rng)
        return
    ways: tuple[Callable[[bytearray, np.random.Generator], None], ...] = BYTES
    if sample.suffix in (".toml", ".csv", ".json", ".jsonl", ".blocks"):
        ways = (*BYTES, *(_words,) * 8, _lines, _lines)
    ways[int(rng.integers(len(ways)))](data, rng)
    path.write_bytes(data)
