"""Slabs against Geant4, and what must hold of transport whatever the physics."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from muscan.errors import InputError
from muscan.kernels.transport import cross_segment
from muscan.model.material import load_materials
from muscan.simulation.slab import _cross_chunks, transport_slab
from muscan.simulation.tables import build_tables

DENSITY = {"water": 1.0, "aluminium": 2.699, "iron": 7.874, "lead": 11.35}
NAMES = {"WATER": "water", "Al": "aluminium", "Fe": "iron", "Pb": "lead"}
TABLE = Path(__file__).parents[1] / "data" / "slabs_geant4.csv"
ROWS = list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))


def material(name):
    return load_materials()[name].with_density(DENSITY[name])


def figures(theta, displacement):
    """The reference's figures of projected angles [rad] and displacements [mm]."""
    size = np.abs(theta)
    core = size < np.quantile(size, 0.98)
    return {
        "theta_mrad_rms98": 1e3 * math.sqrt(np.mean(theta[core] ** 2)),
        "theta_mrad_hw68": 1e3 * np.quantile(size, 0.6827),
        "theta_mrad_hw95": 1e3 * np.quantile(size, 0.95),
        "theta_mrad_hw997": 1e3 * np.quantile(size, 0.9973),
        "disp_mm_hw68": np.quantile(np.abs(displacement), 0.6827),
        "corr98": np.corrcoef(theta[core], displacement[core])[0, 1],
    }


def slab_figures(muons, p):
    passed = ~muons["stopped"]
    loss = 1e3 * (p - muons["momentum"][passed])
    theta = np.concatenate([muons["theta_x"][passed], muons["theta_y"][passed]])
    displacement = np.concatenate([muons["x"][passed], muons["y"][passed]])
    found = figures(theta, displacement)
    return found | {"dp_mean_MeV": np.mean(loss), "dp_median_MeV": np.median(loss)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "row", ROWS, ids=lambda r: f"{r['material']}-{r['thickness_mm']}mm-{r['p_GeV']}GeV"
)
def test_agrees_with_geant4(row):
    p = float(row["p_GeV"])
    slab = material(NAMES[row["material"]])
    muons = transport_slab(slab, float(row["thickness_mm"]), p, 500_000, seed=1)
    found = slab_figures(muons, p)
    tolerances = {
        "theta_mrad_rms98": 0.04,
        "theta_mrad_hw68": 0.04,
        "theta_mrad_hw95": 0.04,
        "theta_mrad_hw997": 0.12,
        "disp_mm_hw68": 0.05,
        "dp_median_MeV": 0.03,
    }
    if p < 10:
        tolerances["dp_mean_MeV"] = 0.02
    for name, tolerance in tolerances.items():
        assert found[name] == pytest.approx(float(row[name]), rel=tolerance), name
    assert found["corr98"] == pytest.approx(float(row["corr98"]), abs=0.02)
    assert np.mean(muons["stopped"]) < 1e-4


@njit
def cross_in_pieces(rng, tables, p, thickness, pieces, out):
    """Cross a slab in so many layers of equal thickness, the direction carried along in 3D."""
    for i in range(out.shape[1]):
        q, x, y, z = p, 0.0, 0.0, 0.0
        d = np.array([0.0, 0.0, 1.0])
        while q > 0.0 and d[2] > 0.0 and z < thickness - 1e-9:
            # To the next border, where the last displacement may have ended just short of one.
            piece = int(z / thickness * pieces + 1e-3) + 1
            length = (thickness * min(piece / pieces, 1.0) - z) / d[2]
            if d[2] < 0.3:
                length = min(length, 0.02 * thickness)
            q, ux, uy, uz, bx, by, travelled = cross_segment(rng, tables, 0, q, length)
            # Any frame across d will do.
            e1 = np.array([d[2], 0.0, -d[0]]) / math.hypot(d[0], d[2])
            e2 = np.array(
                [
                    d[1] * e1[2] - d[2] * e1[1],
                    d[2] * e1[0] - d[0] * e1[2],
                    d[0] * e1[1] - d[1] * e1[0],
                ]
            )
            x += travelled * d[0] + bx * e1[0] + by * e2[0]
            y += travelled * d[1] + bx * e1[1] + by * e2[1]
            z += travelled * d[2] + bx * e1[2] + by * e2[2]
            d = uz * d + ux * e1 + uy * e2
            d /= math.sqrt(np.sum(d * d))
            if d[2] < 0.3 and uz < 0.3 and d[2] <= 0.0:
                q = 0.0  # few come round again
        x += (thickness - z) * d[0] / d[2]
        y += (thickness - z) * d[1] / d[2]
        out[0, i], out[1, i] = math.atan(d[0] / d[2]), math.atan(d[1] / d[2])
        out[2, i], out[3, i], out[4, i] = x, y, q


@pytest.mark.parametrize(("name", "p", "thickness"), [
    ("iron", 1.0, 100), ("lead", 3.0, 10), ("water", 3.0, 100), ("iron", 0.5, 100),
])  # fmt: skip
def test_result_does_not_depend_on_the_pieces(name, p, thickness):
    tables, found = build_tables([material(name)]), []
    for pieces in (1, 2, 15):
        out = np.empty((5, 300_000))
        cross_in_pieces(np.random.default_rng(pieces), tables, p, thickness, pieces, out)
        found.append(figures(out[:2].ravel(), out[2:4].ravel()) | {"dp": np.median(p - out[4])})
    for other in found[1:]:
        for key in ("theta_mrad_rms98", "theta_mrad_hw68", "theta_mrad_hw95", "disp_mm_hw68", "dp"):
            assert other[key] == pytest.approx(found[0][key], rel=0.015), key
        assert other["theta_mrad_hw997"] == pytest.approx(found[0]["theta_mrad_hw997"], rel=0.04)
        assert other["corr98"] == pytest.approx(found[0]["corr98"], abs=0.008)


def test_slow_muons_turn_and_stop_alike_in_many_pieces():
    tables = build_tables([load_materials()["uranium"]], charge=-1)
    found = []
    for pieces in (1, 100):
        out = np.empty((5, 40_000))
        cross_in_pieces(np.random.default_rng(pieces), tables, 0.3, 50.0, pieces, out)
        passed = out[4] > 0
        assert np.mean(~passed) < 3e-3
        found.append(figures(out[:2, passed].ravel(), out[2:4, passed].ravel()))
    for key in ("theta_mrad_rms98", "theta_mrad_hw68", "theta_mrad_hw95", "disp_mm_hw68"):
        assert found[1][key] == pytest.approx(found[0][key], rel=0.025), key
    # Twice as thick, it is thicker than their range: none comes out, forwards or sideways.
    assert np.all(transport_slab("uranium", 100, 0.3, 20_000, seed=1)["stopped"])


def test_result_does_not_depend_on_the_workers():
    tables = build_tables([material("iron")])
    expected = _cross_chunks(tables, 1.0, 50.0, 50_000, 7, workers=1)
    for workers in (2, 3, 5):
        assert np.array_equal(_cross_chunks(tables, 1.0, 50.0, 50_000, 7, workers), expected)
    assert not np.array_equal(_cross_chunks(tables, 1.0, 50.0, 50_000, 8, workers=1), expected)


def test_more_muons_begin_with_the_same_ones():
    few = transport_slab("iron", 20, 2, 20_000, seed=3)
    many = transport_slab("iron", 20, 2, 40_000, seed=3)
    chunk = 16_384
    for name, values in few.items():
        assert np.array_equal(values[:chunk], many[name][:chunk]), name


def test_slow_muons_stop_in_iron():
    muons = transport_slab("iron", 300, 0.3, 5_000, seed=1)
    assert np.all(muons["stopped"])
    assert np.all(np.isnan(muons["momentum"]))
    assert np.all(np.isfinite(muons["theta_x"]))


def test_muons_stop_at_their_range():
    # The path is the integral of the reciprocal stopping power; the bends, which make its depth
    # less, grow with the nuclear charge.
    medians = []
    for name, p in [("water", 0.3), ("iron", 0.3), ("lead", 0.3)]:
        slab = material(name)
        momenta = np.linspace(0.014, p, 20_000)
        beta = momenta / np.hypot(momenta, 0.1056583755)
        per_mm = slab.mass_stopping_power(momenta) * slab.density_g_cm3 * 1e-4
        path = np.trapezoid(beta / per_mm, momenta)
        depths = np.linspace(0.6, 1.1, 26)
        stopped = [
            np.mean(transport_slab(slab, depth * path, p, 2_000, seed=1)["stopped"])
            for depth in depths
        ]
        medians.append(np.interp(0.5, stopped, depths))
        assert stopped[-1] > 0.99
        assert stopped[0] < 0.1
    assert medians[0] == pytest.approx(1, abs=0.02)
    assert 1.01 > medians[0] > medians[1] > medians[2] > 0.8


def test_no_slab_changes_nothing():
    muons = transport_slab("lead", 0, 3, 100, seed=1)
    for name in ("theta_x", "theta_y", "x", "y"):
        assert np.all(muons[name] == 0)
    assert np.all(muons["momentum"] == 3)
    assert not np.any(muons["stopped"])


def test_projections_are_alike_and_symmetric():
    muons = transport_slab("lead", 20, 2, 200_000, seed=5)
    width = np.quantile(np.abs(muons["theta_x"]), 0.68)
    assert np.quantile(np.abs(muons["theta_y"]), 0.68) == pytest.approx(width, rel=0.01)
    assert abs(np.median(muons["theta_x"])) < 0.01 * width
    assert abs(np.corrcoef(np.sign(muons["theta_x"]), np.sign(muons["theta_y"]))[0, 1]) < 0.01


def test_tails_are_far_from_gaussian():
    tails = {}
    for law in ("moliere", "highland"):
        size = np.abs(transport_slab("water", 100, 3, 200_000, seed=2, scattering=law)["theta_x"])
        tails[law] = np.quantile(size, 0.9973) / np.quantile(size, 0.6827)
    assert tails["highland"] == pytest.approx(3, abs=0.08)
    assert tails["moliere"] > 4.2


@pytest.mark.parametrize(("change", "word"), [
    ({"material": "unobtainium"}, "unobtainium"),
    ({"thickness_mm": -1}, "thickness_mm"),
    ({"thickness_mm": math.nan}, "thickness_mm"),
    ({"momentum_GeV": 0}, "momentum_GeV"),
    ({"momentum_GeV": -3}, "momentum_GeV"),
    ({"momentum_GeV": math.inf}, "momentum_GeV"),
    ({"n": 0}, "n:"),
    ({"n": 2.5}, "n:"),
    ({"seed": -1}, "seed"),
    ({"scattering": "molier"}, "did you mean 'moliere'"),
])  # fmt: skip
def test_wrong_input_is_named(change, word):
    options = {"material": "iron", "thickness_mm": 10, "momentum_GeV": 3, "n": 10, "seed": 1}
    with pytest.raises(InputError, match=word):
        transport_slab(**(options | change))
