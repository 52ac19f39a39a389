"""What the benchmarks share: the machine and its limits, tables, and how time is taken."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

Cell = str | float | int


@dataclass
class Table:
    """A benchmark's result, printed as Markdown and written as JSON."""

    title: str
    columns: Sequence[str]
    rows: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        self.rows.append(list(cells))

    def markdown(self) -> str:
        lines = [f"\n### {self.title}\n", "| " + " | ".join(self.columns) + " |"]
        lines.append("|---" * len(self.columns) + "|")
        lines += ["| " + " | ".join(map(_text, row)) + " |" for row in self.rows]
        lines += [f"\n{note}" for note in self.notes]
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        rows = [[_plain(cell) for cell in row] for row in self.rows]
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": rows,
            "notes": self.notes,
        }


def _text(cell: Cell) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def _plain(cell: Cell) -> Cell | None:
    """Return what JSON can hold; it has no NaN."""
    if isinstance(cell, float):
        return float(cell) if np.isfinite(cell) else None
    return cell


@dataclass(frozen=True)
class Spent:
    """Least times of some repeats [s]: by the clock, and of this process's processors."""

    wall: float
    cpu: float


def best(work: Callable[[], Any], repeats: int = 3, budget: float = 20.0) -> tuple[Any, Spent]:
    """Return what work gives, and the least times of its repeats.

    The first call, which may compile, counts only if it already takes the budget [s]; there is
    at least one more otherwise. A busy machine lengthens the wall time, and the processor time
    by what the caches lose.
    """
    walls, cpus = [], []
    begin = time.perf_counter()
    for number in range(repeats + 1):
        start = time.perf_counter(), time.process_time()
        result = work()
        spent = time.perf_counter() - start[0], time.process_time() - start[1]
        late = time.perf_counter() - begin > budget
        if number > 0 or late:
            walls.append(spent[0])
            cpus.append(spent[1])
        if late:
            break
    return result, Spent(min(walls), min(cpus))


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of the fit on logarithmic axes; NaN of fewer than two points."""
    if len(sizes) < 2:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


@njit(cache=True, nogil=True)
def _triad(a, b, c, factor):  # type: ignore[no-untyped-def]
    for i in range(len(a)):
        a[i] = b[i] + factor * c[i]


@njit(cache=True, nogil=True)
def _exponentials(x, n):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(n):
        total += np.exp(-x - 1e-9 * i)
    return total


@njit(cache=True, nogil=True)
def _multiply_adds(x, n):  # type: ignore[no-untyped-def]
    # Eight sums that do not wait for each other, as in a kernel that the compiler can interleave.
    a, b, c, d, e, f, g, h = x, x, x, x, x, x, x, x
    for _ in range(n):
        a, b, c, d = a * 0.999 + x, b * 0.998 + x, c * 0.997 + x, d * 0.996 + x
        e, f, g, h = e * 0.995 + x, f * 0.994 + x, g * 0.993 + x, h * 0.992 + x
    return a + b + c + d + e + f + g + h


@dataclass(frozen=True)
class Limits:
    """What one core of this machine does at most, by processor time.

    Attributes
    ----------
    bytes_per_s : float
        Memory traffic of a[i] = b[i] + s c[i] on arrays of 128 MB, 24 bytes an element.
    flops_per_s : float
        Scalar double-precision multiply-adds, two operations each, eight independent chains.
    exps_per_s : float
        Exponentials of the numba library function, summed.
    """

    bytes_per_s: float
    flops_per_s: float
    exps_per_s: float


def measure_limits(quick: bool = False) -> Limits:
    """Measure the limits, best of three."""
    n = 2_000_000 if quick else 16_000_000
    a, b, c = np.zeros(n), np.ones(n), np.ones(n)
    _, triad = best(lambda: _triad(a, b, c, 0.5))
    _, exps = best(lambda: _exponentials(0.5, n))
    _, adds = best(lambda: _multiply_adds(0.5, n))
    return Limits(24 * n / triad.cpu, 16 * n / adds.cpu, n / exps.cpu)


def describe() -> dict[str, Any]:
    """Return what the figures depend on: machine, versions, and how busy it is now."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "system": platform.platform(terse=True),
        "load_average": load_average(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "numba", "scipy", "muscan")},
            "commit": _commit(),
        },
    }


def load_average() -> list[float] | None:
    """Return the mean number of running processes in the last 1, 5 and 15 minutes."""
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> float:
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("nan")


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=here, check=True, capture_output=True, text=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None
