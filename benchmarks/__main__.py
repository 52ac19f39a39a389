"""Run the benchmarks: ``python -m benchmarks [NAMES] [--quick] [--json FILE]``.

Tables go to stdout as Markdown, with the machine they were made on, and to a JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before NumPy is imported: the threads of its linear algebra wait by spinning, which would count.
for _library in ("OPENBLAS", "MKL", "OMP"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

from benchmarks.machine import Table, describe, load_average  # noqa: E402


def _scaling(options: argparse.Namespace) -> list[Table]:
    from benchmarks import scaling

    return scaling.run(options.quick, options.most, options.steps)


def _peers(options: argparse.Namespace) -> list[Table]:
    from benchmarks import bench_peers

    return bench_peers.run(options.quick, options.muograph_python, options.resolution)


def _physics(options: argparse.Namespace) -> list[Table]:
    from benchmarks import physics

    return physics.run(options.quick, tiny=options.most is not None)


def _script(name: str, *more: str) -> Callable[[argparse.Namespace], list[Table]]:
    """Return a runner of a benchmark that prints its own figures, which are kept as they are."""

    def run(options: argparse.Namespace) -> list[Table]:
        line = [sys.executable, "-m", f"benchmarks.{name}", *more]
        line += ["--quick"] if options.quick and name != "bench_live" else []
        if name == "bench_simulation" and options.ecomug is not None:
            line += ["--ecomug", str(options.ecomug)]
        done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
        table = Table(f"`{' '.join(['python', *line[1:]])}`", ("output",))
        for row in done.stdout.splitlines():
            if row.strip("|- "):
                table.add(row.strip().replace("|", " "))
        return [table]

    return run


#: Name, what it tells, and what runs it.
BENCHMARKS: dict[str, tuple[str, Callable[[argparse.Namespace], list[Table]]]] = {
    "scaling": ("time and memory of each step against size, NumPy and the machine", _scaling),
    "peers": ("muscan and muograph on the iron-barrel file: time and AUC", _peers),
    "physics": ("detection, weight, σ(ln λ) over the information limit", _physics),
    "simulation": ("generator and transport, EcoMug with --ecomug", _script("bench_simulation")),
    "import": ("recorded data to hits and tracks", _script("bench_import")),
    "reconstruction": ("quality and speed of poca and em", _script("bench_reconstruction")),
    "stopping": ("stopping density of blocks against the truth", _script("bench_stopping")),
    "scale": ("processes and a Dask cluster", _script("bench_scale")),
    "live": ("files that grow, and watch", _script("bench_live")),
}
#: What runs unless names are given: the rest belongs on an idle machine, or takes long.
USUAL = ("scaling", "peers", "physics", "simulation")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = "\n".join(f"  {name:16s}{what}" for name, (what, _) in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__.split("\n")[0],
        epilog=f"benchmarks (by default {', '.join(USUAL)}):\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run")
    parser.add_argument("--only", metavar="NAME,…", help="the same, with commas")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and end")
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables there, too")
    parser.add_argument("--muograph-python", type=Path, metavar="PYTHON",
                        help="of an environment with muograph; else one is made")  # fmt: skip
    parser.add_argument("--resolution", type=float, default=1.0, metavar="MM",
                        help="blur the hits of the iron-barrel file (default 1 mm)")  # fmt: skip
    parser.add_argument("--ecomug", type=Path, metavar="EcoMug.h", help="header of EcoMug")
    parser.add_argument("--most", type=float, metavar="N",
                        help="largest size of any step, to try the benchmarks")  # fmt: skip
    parser.add_argument("--steps", default="", metavar="STEP,…",
                        help="steps of scaling, such as poca,em; by default all")  # fmt: skip
    options = parser.parse_args(arguments)
    options.steps = [step for step in options.steps.split(",") if step]
    options.names += options.only.split(",") if options.only else []
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark '{name}': there are {', '.join(BENCHMARKS)}")
    options.names = options.names or list(USUAL)
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.list:
        for name, (what, _) in BENCHMARKS.items():
            print(f"{name:16s}{what}")
        return
    machine = describe()
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {versions}")
    results: list[dict[str, Any]] = []
    for name in options.names:
        before, start = load_average(), time.perf_counter()
        tables = BENCHMARKS[name][1](options)
        after = load_average()
        for table in tables:
            print(table.markdown(), flush=True)
        seconds = round(time.perf_counter() - start, 1)
        print(f"\n{name}: {seconds} s, load average before and after {before}, {after}")
        results.append(
            {
                "name": name,
                "seconds": seconds,
                "load_average": {"before": before, "after": after},
                "tables": [table.document() for table in tables],
            }
        )
        if options.json is not None:  # after each, so that a late failure loses nothing
            document = {"machine": machine, "quick": options.quick, "benchmarks": results}
            text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
            options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
