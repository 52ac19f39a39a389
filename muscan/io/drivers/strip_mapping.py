"""What the ``strips`` driver is told: the layout's strips, and a mapping file over them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from muscan.errors import InputError, nearest
from muscan.io.strips import HEADER, plane_names
from muscan.kernels import clustering as kernel
from muscan.kernels.strips import REACH
from muscan.model import toml
from muscan.model.detector import Detector, Panel
from muscan.model.strips import AXES

#: Strips that are read of a panel, at most.
MOST_STRIPS: Final = 1_000_000
#: A charge that spreads over more strips than this is not looked at closer.
MOST_SPREAD: Final = 20.0

Name = Annotated[str, Field(min_length=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(ge=0)]


class Names(toml.Spec):
    """``[columns]``: names in the header."""

    plane: Name = HEADER[0]
    channel: Name = HEADER[1]
    adc: Name = HEADER[2]
    time: Name = HEADER[3]


class BoardSpec(toml.Spec):
    """A ``[[board]]``: what stands in the column ``plane``, and which strips it reads.

    Attributes
    ----------
    name : str
        As in the data.
    panel : str or int
    axis : {"u", "v"}
        The coordinate that its strips measure.
    first_channel : int
        Its lowest channel in the data.
    first_strip, strips : int
        The lowest strip that it reads, and how many; by default all from there on.
    turned : bool
        Whether its channels count against the axis.
    pedestal_adc : float or list of float
        Of every channel, or of each; by default the technology's.
    gain_adc : float
        Of all the plane; by default the technology's.
    dead_channels : list of int
        Channels, as the data number them, whose rows are dropped: dead ones and noisy ones.
    """

    name: Name
    panel: Name | Whole
    axis: Literal["u", "v"]
    first_channel: Whole = 0
    first_strip: Whole = 0
    strips: Annotated[int, Field(ge=1)] | None = None
    turned: bool = False
    pedestal_adc: NotNegative | tuple[NotNegative, ...] | None = None
    gain_adc: Positive | None = None
    dead_channels: tuple[Whole, ...] = ()


class StripMapping(toml.Spec):
    """A mapping file; every key may be left out.

    Attributes
    ----------
    time_unit : {"ns", "us", "ms", "s"}
    threshold_adc : float
        Rows below this above their pedestal are dropped; by default the technology's.
    cluster_ns, match_ns, window_ns : float
        See `muscan.kernels.clustering.Limits`; by default 5 standard deviations of the difference
        of two strips' times but at least 10 ns, twice that, and half the layout's gate.
    min_panels : int
        Panels with a hit that make an event.
    disorder_us : float
        How much later than its time a row may stand [µs].
    """

    time_unit: Literal["ns", "us", "ms", "s"] = "ns"
    threshold_adc: Positive | None = None
    cluster_ns: Positive | None = None
    match_ns: Positive | None = None
    window_ns: Positive | None = None
    min_panels: Annotated[int, Field(ge=1)] = 2
    disorder_us: NotNegative = 100.0
    columns: Names = Names()
    board: tuple[BoardSpec, ...] = ()


@dataclass(frozen=True)
class Readout:
    """How raw rows become hits.

    Attributes
    ----------
    names : tuple of str
        Of the boards.
    boards, tables, limits
        What `muscan.kernels.clustering` reads.
    """

    names: tuple[str, ...]
    boards: kernel.Boards
    tables: kernel.PlaneTables
    limits: kernel.Limits


def read_strip_mapping(path: Path | None) -> StripMapping:
    """Read a mapping file; without one, everything has its default.

    Raises
    ------
    InputError
        If it is wrong; the message says where.
    """
    if path is None:
        return StripMapping()
    content = toml.read_text(path)
    return toml.validate(StripMapping, toml.parse(content, path), path, content)


def build_readout(detector: Detector, mapping: StripMapping, source: str | Path) -> Readout:
    """Return how the strips of a layout are read; ``source`` names the mapping in errors.

    Raises
    ------
    InputError
        If no panel has strips, or a board reads strips that do not exist.
    """
    counts = np.array([_strip_counts(panel) for panel in detector.panels]).ravel()
    if not counts.any():
        remedy = "give a technology a pitch_mm"
        raise InputError(detector.name, "none of its panels has strips", remedy)
    tables = _tables(detector, counts, mapping)
    boards = {
        name: BoardSpec(name=name, panel=plane // 2, axis=AXES[plane % 2])
        for plane, name in enumerate(plane_names(detector))
        if counts[plane]
    }
    for board in mapping.board:
        boards[board.name] = board
    columns = [_connect(board, detector, counts, tables, source) for board in boards.values()]
    return Readout(
        tuple(boards),
        kernel.Boards(*(np.array(column) for column in zip(*columns, strict=True))),
        tables,
        _limits(detector, mapping),
    )


def _strip_counts(panel: Panel) -> tuple[int, int]:
    """Return how many strips a panel has along u and v."""
    technology = panel.technology
    if technology.pitch_mm is None:
        return 0, 0
    n = [round(size / pitch) for size, pitch in zip(panel.size, technology.pitch_mm, strict=True)]
    if max(n) > MOST_STRIPS:
        raise InputError(panel.name, f"has more than {MOST_STRIPS} strips", "check its pitch_mm")
    return n[0] * ("u" in technology.measures), n[1] * ("v" in technology.measures)


def _tables(
    detector: Detector, counts: NDArray[np.int64], mapping: StripMapping
) -> kernel.PlaneTables:
    """Return what the layout says of each plane."""
    technologies = [panel.technology for panel in detector.panels]
    strips = [technology.strips for technology in technologies]
    pitch = np.array([technology.pitch_mm or (0.0, 0.0) for technology in technologies]).ravel()
    spread = np.array([one.charge_spread_mm for one in strips]).ravel()
    smear = np.array([technology.resolution_mm for technology in technologies]).ravel()
    threshold = np.array([mapping.threshold_adc or one.threshold_adc for one in strips]).repeat(2)
    gain = np.array([one.gain_adc for one in strips]).repeat(2)
    offset = np.concatenate([[0], np.cumsum(counts)])
    dead = np.zeros(offset[-1], np.bool_)
    numbers = [channels for panel in detector.panels for channels in panel.dead_channels]
    for start, n, channels in zip(offset, counts, numbers, strict=False):
        dead[[start + channel for channel in channels if channel < n]] = True
    pedestal = np.array([one.pedestal_adc for one in strips]).repeat(2)
    measured = counts > 0
    sigma = np.array(
        [
            cluster_sigma(s / p, t / g) if m else (np.inf,) * kernel.SIZES
            for m, p, s, t, g in zip(measured, pitch, spread, threshold, gain, strict=True)
        ]
    )
    return kernel.PlaneTables(
        offset=offset,
        pedestal=np.repeat(pedestal, counts),
        dead=dead,
        gain=gain,
        threshold=threshold,
        noise=np.array([one.noise_adc for one in strips]).repeat(2),
        pitch=np.where(measured, pitch, 0.0),
        half=detector.half_sizes.ravel(),
        smear=np.where([t.readout == "pitch" for t in technologies for _ in AXES], smear, 0.0),
        sigma=sigma,
    )


@lru_cache(maxsize=256)
def cluster_sigma(spread: float, threshold: float) -> tuple[float, ...]:
    """Return the standard deviation of a cluster's position by its size, in strips.

    The muon is anywhere on a strip alike, its charge follows Moyal's distribution as in
    `muscan.kernels.response`, and it is shared as in `muscan.kernels.strips`. A size that this
    does not give (an inclined muon, say) has that of a uniform distribution over one strip.

    Parameters
    ----------
    spread : float
        Standard deviation of the charge's cloud [strips].
    threshold : float
        Least charge of a strip that is read, in amplitudes of a muon.
    """
    spread = min(spread, MOST_SPREAD)
    x = (np.arange(200) + 0.5) / 200
    normal = NormalDist()
    z = np.array([normal.inv_cdf(0.5 + (i + 0.5) / 100) for i in range(50)])
    amplitude = 1 - 0.2 * np.log(z)
    reach = int(np.ceil(REACH * spread)) + 1
    edges = np.arange(-reach, reach + 2)
    apart = (edges - x[:, None]) / max(spread, 1e-9)
    below = np.array([normal.cdf(value) for value in apart.ravel()]).reshape(apart.shape)
    charge = np.diff(below, axis=1)[:, None, :] * amplitude[:, None]
    charge[charge < threshold] = 0
    total = charge.sum(axis=2)
    seen = total > 0
    centre = edges[:-1] + 0.5
    error = (charge @ centre) / np.where(seen, total, 1) - x[:, None]
    size = (charge > 0).sum(axis=2)
    found = []
    for wanted in range(1, kernel.SIZES + 1):
        of = seen & ((size == wanted) if wanted < kernel.SIZES else (size >= wanted))
        rare = np.count_nonzero(of) < 0.01 * of.size
        found.append(float(1 / np.sqrt(12) if rare else np.sqrt(np.mean(error[of] ** 2))))
    return tuple(found)


def _connect(
    board: BoardSpec,
    detector: Detector,
    counts: NDArray[np.int64],
    tables: kernel.PlaneTables,
    source: str | Path,
) -> tuple[int, int, int, int, bool]:
    """Enter a board's pedestals, gain and dead channels; return its row of `kernel.Boards`."""
    try:
        panel = detector.panel_index(board.panel)
    except InputError as error:
        raise InputError(source, f"board '{board.name}': {error.problem}", error.remedy) from error
    plane = 2 * panel + AXES.index(board.axis)
    left = int(counts[plane]) - board.first_strip
    n = left if board.strips is None else board.strips
    if n < 1 or n > left:
        problem = (
            f"board '{board.name}' reads strips {board.first_strip} to {board.first_strip + n - 1} "
            f"along {board.axis} of panel '{board.panel}', which has {counts[plane]}"
        )
        raise InputError(
            source, problem, "correct first_strip and strips, or the layout's pitch_mm"
        )
    wrong = [c for c in board.dead_channels if not 0 <= c - board.first_channel < n]
    if wrong:
        problem = f"board '{board.name}' has no channel {wrong[0]} to be dead"
        last = board.first_channel + n - 1
        raise InputError(source, problem, f"give numbers from {board.first_channel} to {last}")
    first = int(tables.offset[plane]) + board.first_strip
    strips = np.arange(n)[::-1] if board.turned else np.arange(n)
    if isinstance(board.pedestal_adc, tuple) and len(board.pedestal_adc) != n:
        problem = f"board '{board.name}' has {n} channels, but {len(board.pedestal_adc)} pedestals"
        raise InputError(source, problem, "give one number, or one for each channel")
    if board.pedestal_adc is not None:
        tables.pedestal[first + strips] = board.pedestal_adc
    if board.gain_adc is not None:
        tables.gain[plane] = board.gain_adc
    tables.dead[first + strips[np.array(board.dead_channels, int) - board.first_channel]] = True
    return plane, board.first_channel, board.first_strip, n, board.turned


def _limits(detector: Detector, mapping: StripMapping) -> kernel.Limits:
    jitter = max(panel.technology.strips.time_jitter_ns for panel in detector.panels)
    cluster = mapping.cluster_ns or max(5 * np.sqrt(2) * jitter, 10.0)
    return kernel.Limits(
        cluster_ns=float(cluster),
        match_ns=float(mapping.match_ns or 2 * cluster),
        window_ns=float(mapping.window_ns or detector.gate_ns / 2),
        min_panels=mapping.min_panels,
    )


def unknown_board(name: str, names: tuple[str, ...]) -> str:
    """Return the remedy for a board that is not known."""
    return f"{nearest(name, names)}; or give a mapping with a [[board]] of that name"
