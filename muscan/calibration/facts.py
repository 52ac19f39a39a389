"""What was found of the panels, as plain data to print and as comments in a layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from muscan.calibration.alignment import PARAMETERS, Alignment
from muscan.calibration.response import PanelResponse


def alignment_facts(found: Alignment) -> dict[str, Any]:
    """Return an alignment as plain data: [mm] and [mrad], None where not measured."""
    unit = np.array([1.0] * 3 + [1e3] * 3)
    return {
        "converged": found.converged,
        "steps": found.steps,
        "tracks": found.n_tracks,
        "tracks thrown out": found.n_rejected,
        "residual spread before [mm]": plain(found.spread_before_mm),
        "residual spread after [mm]": plain(found.spread_after_mm),
        "held": list(found.held),
        "modes held": int(found.weak.shape[1]),
        "panels": {
            panel.name: {
                f"{name} [{'mm' if i < 3 else 'mrad'}]": plain([values[i], errors[i]])
                for i, name in enumerate(PARAMETERS)
            }
            for panel, values, errors in zip(
                found.detector.panels, found.correction * unit, found.error * unit, strict=True
            )
        },
    }


def response_facts(measured: Sequence[PanelResponse]) -> dict[str, Any]:
    """Return measured responses as plain data by panel; pairs are value and error."""
    return {
        one.name: {
            "probes": one.probes,
            "efficiency": plain([one.efficiency, one.efficiency_error]),
            "efficiency is flat": one.is_flat,
            "efficiency map": plain(one.cells),
            "efficiency map errors": plain(one.cell_errors),
            "sigma [mm]": plain(one.resolution.sigma_mm),
            "sigma statistical error [mm]": plain(one.resolution.statistical_mm),
            "sigma error by scattering [mm]": plain(one.resolution.systematic_mm),
            "noise [Hz/m²]": plain([one.noise_hz_per_m2, one.noise_error]),
            "dead channels": [list(axis) for axis in one.channels.dead],
            "hot channels": [list(axis) for axis in one.channels.hot],
        }
        for one in measured
    }


def alignment_notes(found: Alignment) -> tuple[str, dict[str, str]]:
    """Return the comments of a corrected layout: at its top, and by panel."""
    held = ", ".join(found.held) or "nothing"
    general = (
        f"Aligned with {found.n_tracks} straight tracks. Held where the layout had them: {held}.\n"
        "Above each panel: what was added to its shift along u, v and its normal [mm] and to its\n"
        "rotation about them [mrad], with standard deviations."
    )
    notes = {}
    for name, values in alignment_facts(found)["panels"].items():
        parts = [
            f"{key} {_number(value)} ± {_number(error)}" for key, (value, error) in values.items()
        ]
        notes[name] = ", ".join(parts[:3]) + "\n" + ", ".join(parts[3:])
    return general, notes


def response_notes(measured: Sequence[PanelResponse]) -> tuple[str, dict[str, str]]:
    """Return the comments of a layout with measured responses: at its top, and by panel."""
    notes = {}
    for one in measured:
        sigma = one.resolution
        errors = np.hypot(sigma.statistical_mm, sigma.systematic_mm)
        axes = ", ".join(
            f"sigma {axis} {_number(s)} ± {_number(e)} mm"
            for axis, s, e in zip("uv", plain(sigma.sigma_mm), plain(errors), strict=True)
        )
        efficiency, noise = (
            f"{_number(plain(value))} ± {_number(plain(error))}"
            for value, error in (
                (one.efficiency, one.efficiency_error),
                (one.noise_hz_per_m2, one.noise_error),
            )
        )
        hot = [f"{n} along {axis}" for axis, all_ in zip("uv", one.channels.hot, strict=True)
               for n in all_]  # fmt: skip
        notes[one.name] = (
            f"efficiency {efficiency} ({one.probes} probes), noise {noise} Hz/m²\n{axes}"
        ) + (f"\nhot channels: {', '.join(hot)}" if hot else "")
    return "Efficiency, resolution, noise and dead channels as measured.", notes


def plain(values: ArrayLike) -> Any:
    """Return numbers as (nested lists of) floats, None where not finite."""
    array = np.asarray(values, dtype=float)
    if array.ndim:
        return [plain(value) for value in array]
    return float(f"{array:.5g}") if np.isfinite(array) else None


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
