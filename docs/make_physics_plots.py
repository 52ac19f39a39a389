"""Measure and draw the comparisons of `physics.md`.

    python docs/make_physics_plots.py slabs     # about 20 seconds
    python docs/make_physics_plots.py flux
    python docs/make_physics_plots.py scan      # about 30 seconds
    python docs/make_physics_plots.py panels

Each prints its figures and writes `docs/images/physics-*.png`. The reference numbers and the
definitions of what is compared are those of `tests/simulation`, so that document and tests cannot
drift apart.
"""

from __future__ import annotations

import argparse
import runpy
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from muscan.kernels.response import record_crossings
from muscan.model.detector import parse_detector
from muscan.model.flux import load_flux
from muscan.simulation.response import build_response, empty_hits
from muscan.simulation.slab import transport_slab
from muscan.simulation.strips import empty_signals

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
MODELS = ("guan2015", "reyna2006", "ecomug")
#: Column of the reference, its name in the figure, and whether the difference is absolute.
COMPARED = {
    "theta_mrad_hw68": ("angle, 68.27 % quantile", False),
    "theta_mrad_rms98": ("angle, rms of the inner 98 %", False),
    "theta_mrad_hw95": ("angle, 95 % quantile", False),
    "theta_mrad_hw997": ("angle, 99.73 % quantile", False),
    "disp_mm_hw68": ("displacement, 68.27 % quantile", False),
    "corr98": ("correlation of the two (difference)", True),
    "dp_mean_MeV": ("mean loss of momentum", False),
    "dp_median_MeV": ("median loss of momentum", False),
}
STYLE = {"WATER": ("C0", "o"), "Al": ("C1", "s"), "Fe": ("C2", "^"), "Pb": ("C3", "D")}


def tests_of(name: str) -> dict[str, Any]:
    """Return what a test module of the simulation defines."""
    return runpy.run_path(str(ROOT / "tests" / "simulation" / f"{name}.py"))


def save(figure: Any, name: str, command: str) -> None:
    """Write a figure that says which command made it."""
    figure.text(0.995, 0.004, command, ha="right", va="bottom", fontsize=6, color="0.4")
    path = IMAGES / f"physics-{name}.png"
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(path, dpi=90)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def slabs(muons: int) -> None:
    """Every row of the Geant4 table: our figures over the reference's."""
    test = tests_of("test_slab")
    rows, deviations = test["ROWS"], {name: [] for name in COMPARED}
    for row in rows:
        p = float(row["p_GeV"])
        slab = test["material"](test["NAMES"][row["material"]])
        sample = transport_slab(slab, float(row["thickness_mm"]), p, muons, seed=1)
        found = test["slab_figures"](sample, p)
        for name, (_, absolute) in COMPARED.items():
            expected = float(row[name])
            ratio = found[name] - expected if absolute else found[name] / expected - 1
            deviations[name].append(ratio)
    figure, axes = plt.subplots(4, 2, figsize=(10, 10), sharex=True, layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.02, 1, 0.98))
    print(f"{'quantity':40s} {'median':>9s} {'worst':>9s}   worst row")
    for axis, (name, (label, absolute)) in zip(axes.ravel(), COMPARED.items(), strict=True):
        values, scale = np.array(deviations[name]), 1.0 if absolute else 100.0
        for i, (row, value) in enumerate(zip(rows, values, strict=True)):
            colour, marker = STYLE[row["material"]]
            axis.plot(i, scale * value, marker, color=colour, markersize=5)
        axis.axhline(0, color="0.6", linewidth=0.8)
        axis.set_title(label + ("" if absolute else ", deviation [%]"), fontsize=9)
        if absolute:
            axis.set_ylim(-0.02, 0.02)
        shown = values
        if name == "dp_mean_MeV":  # the mean at 10 GeV is that of a few radiated photons
            shown = np.where([float(row["p_GeV"]) < 10 for row in rows], values, 0)
            label += ", below 10 GeV"
        worst = int(np.argmax(np.abs(shown)))
        row = rows[worst]
        where = f"{row['material']} {row['thickness_mm']} mm, {row['p_GeV']} GeV"
        unit = "" if absolute else " %"
        print(
            f"{label:40s} {scale * np.median(values):+8.4f}{unit} "
            f"{scale * values[worst]:+8.4f}{unit}   {where}"
        )
    labels = [f"{row['thickness_mm']} mm {row['p_GeV']}" for row in rows]
    for axis in axes[-1]:
        axis.set_xticks(range(len(rows)), labels, rotation=90, fontsize=6)
    handles = [
        plt.Line2D([], [], linestyle="", marker=marker, color=colour, label=name)
        for name, (colour, marker) in STYLE.items()
    ]
    axes[0, 0].legend(handles=handles, fontsize=8, ncols=4)
    figure.suptitle("Slabs: muscan over Geant4 11.4.0, by thickness and momentum [GeV]")
    save(figure, "slabs", f"python docs/make_physics_plots.py slabs --muons {muons}")


def flux() -> None:
    """Integrals and spectra of the models."""
    models = {name: load_flux(name) for name in MODELS}
    p = np.geomspace(0.05, 1e4, 4001)
    cosine = (np.arange(400) + 0.5) / 400
    print(f"{'':44s}" + "".join(f"{name:>12s}" for name in MODELS))
    lines: dict[str, list[float]] = {}
    for model in models.values():
        lines.setdefault("horizontal plane, p > 0.1 [1/m2/s]", []).append(model.plane_rate(0.1))
        lines.setdefault("horizontal plane, p > 1 [1/m2/s]", []).append(model.plane_rate(1.0))
        lines.setdefault("one side of a wall, p > 0.1 [1/m2/s]", []).append(model.wall_rate(0.1))
        vertical = model.vertical_intensity(1.0)
        lines.setdefault("vertical intensity, p > 1 [1/m2/s/sr]", []).append(vertical)
        q = p[p > 0.5]
        spectrum = model.intensity(q[:, None], cosine) @ cosine
        parts = 0.5 * (spectrum[1:] + spectrum[:-1]) * np.diff(q)
        middle = 0.5 * (q[1:] + q[:-1])
        mean = np.sum(parts * middle) / parts.sum()
        median = np.interp(0.5, np.cumsum(parts) / parts.sum(), q[1:])
        lines.setdefault("mean p above 0.5 through a plane [GeV]", []).append(mean)
        lines.setdefault("median p above 0.5 through a plane [GeV]", []).append(median)
    for label, values in lines.items():
        print(f"{label:44s}" + "".join(f"{value:12.2f}" for value in values))

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))
    for i, (name, model) in enumerate(models.items()):
        left.loglog(p, p**2 * model.intensity(p, 1.0), color=f"C{i}", label=name)
        left.loglog(p, p**2 * model.intensity(p, 0.25), "--", color=f"C{i}")
        rate = np.trapezoid(model.intensity(p[p > 0.1][:, None], cosine), p[p > 0.1], axis=0)
        right.plot(cosine, rate, color=f"C{i}", label=name)
    gaisser = load_flux("gaisser")
    high = p[p > 30]
    left.loglog(high, high**2 * gaisser.intensity(high, 1.0), ":", color="0.4", label="gaisser")
    left.set(xlabel="momentum [GeV]", ylabel="p² · intensity [GeV m⁻² s⁻¹ sr⁻¹]", ylim=(0.05, 500))
    left.set_title("vertical (full) and at cosθ = 0.25 (dashed)", fontsize=10)
    left.legend(fontsize=8)
    right.set(xlabel="cos θ", ylabel="intensity, p > 0.1 GeV [m⁻² s⁻¹ sr⁻¹]")
    right.set_title("by zenith angle", fontsize=10)
    save(figure, "flux", "python docs/make_physics_plots.py flux")


def scan() -> None:
    """Whole scans of the five blocks: ratios to Geant4."""
    test = tests_of("test_full_scan")
    found, reference = test["scan"]("blocks", 20), test["GEANT4"]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
    figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))
    names = list(reference)
    for i, name in enumerate(names):
        width, width_error, lost, lost_error = reference[name]
        ours, ours_error, ours_lost, ours_lost_error = found[name]
        ratio, share = ours / width, ours_lost / lost
        error = ratio * np.hypot(width_error / width, ours_error / ours)
        share_error = share * np.hypot(lost_error / lost, ours_lost_error / ours_lost)
        print(f"{name:12s} width {ratio:.3f} ± {error:.3f}   lost {share:.2f} ± {share_error:.2f}")
        axes[0].errorbar(ratio, i, xerr=error, fmt="o", color="C0")
        axes[1].errorbar(share, i, xerr=share_error, fmt="o", color="C0")
    titles = ("68.27 % width of the angle", "share of lost tracks")
    for axis, title, band in zip(axes, titles, (0.05, 0.1), strict=True):
        axis.axvspan(1 - band, 1 + band, color="0.92")
        axis.axvline(1, color="0.6", linewidth=0.8)
        axis.set(xlabel="muscan over Geant4", title=title)
    axes[0].set_yticks(range(len(names)), names)
    save(figure, "scan", "python docs/make_physics_plots.py scan")


PANELS = """
name = "one"
[inspection]
min_mm = [-100, -100, -100]
max_mm = [100, 100, 100]
[technology.gauss]
size_mm = [200, 200]
resolution_mm = [2.89, 2.89]
[technology.strips]
size_mm = [200, 200]
readout = "pitch"
pitch_mm = [10, 10]
[technology.map]
size_mm = [200, 200]
readout = "pitch"
pitch_mm = [4, 4]
efficiency_map = [[1.0, 0.9, 0.7], [0.9, 0.8, 0.6], [0.7, 0.6, 0.3]]
dead_channels = [[10, 11], [35]]
"""


def panels() -> None:
    """Residuals of two kinds of readout, and the hits on a panel with a map and dead channels."""
    entries = "".join(
        f'\n[[panel]]\nname = "{name}"\ngroup = "upper"\ntechnology = "{name}"\n'
        f"centre_mm = [0, 0, {200 + i}]\n"
        for i, name in enumerate(("gauss", "strips", "map"))
    )
    response = build_response(parse_detector(PANELS + entries, "panels"))
    rng = np.random.Generator(np.random.PCG64(1))
    n = 200_000
    none = empty_signals(0)
    hits, row, numbers = empty_hits(3 * n), 0, np.arange(3, dtype=np.int32)
    truth = np.zeros((n, 2))
    crossings = np.zeros((3, 4))
    crossings[:, 3] = 1.0
    for event in range(n):
        truth[event] = rng.uniform(-100, 100, 2)
        crossings[:, :2] = truth[event]
        row = record_crossings(rng, response, numbers, crossings, 3, event, 0.0, hits, none, row)
    panel, event = hits.panel[:row], hits.event_id[:row].astype(int)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))
    for number, label in ((0, "gaussian, 2.89 mm"), (1, "pitch of 10 mm")):
        mask = panel == number
        residual = hits.u[:row][mask] - truth[event[mask], 0]
        left.hist(residual, np.linspace(-12, 12, 97), histtype="step", label=label)
        print(
            f"{label:20s} rms {residual.std():.3f} mm, reported {hits.sigma_u[:row][mask][0]:.3f}"
        )
    left.set(xlabel="measured − true [mm]", ylabel="hits")
    left.legend(fontsize=8)
    mask = panel == 2
    image = right.hist2d(
        hits.u[:row][mask], hits.v[:row][mask], bins=[np.linspace(-100, 100, 51)] * 2
    )
    figure.colorbar(image[3], ax=right, label="hits a cell")
    right.set(xlabel="u [mm]", ylabel="v [mm]", aspect="equal")
    right.set_title("efficiency map and dead channels", fontsize=10)
    save(figure, "panels", "python docs/make_physics_plots.py panels")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["slabs", "flux", "scan", "panels"])
    parser.add_argument("--muons", type=int, default=1_000_000, help="muons a row of slabs")
    options = parser.parse_args()
    if options.what == "slabs":
        slabs(options.muons)
    else:
        {"flux": flux, "scan": scan, "panels": panels}[options.what]()


if __name__ == "__main__":
    main()
