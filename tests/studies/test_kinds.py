"""Tables of studies from scans made up by hand, whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest

from muscan.identification.operating_points import read_operating_points
from muscan.studies import kinds
from muscan.studies.matching import Scan, best_alert, is_of, mass_inside
from muscan.studies.operating import operating_points, write_operating_points

THREAT = {
    "name": "cube",
    "materials": ["uranium"],
    "categories": ["special-nuclear"],
    "centre_mm": [100.0, 0.0, 0.0],
    "size_mm": [100.0, 100.0, 100.0],
    "mass_kg": 19.0,
    "scattering_density": 79.0,
}


def alert(significance=6.0, x=100.0, *, severity="high", chance=0.01, mass=(20.0, 15.0, 25.0)):
    value, low, high = mass
    return {
        "id": "1",
        "severity": severity,
        "position_mm": [x, 0.0, 30.0],
        "extent_mm": [[x - 50, -50, -50], [x + 50, 50, 50]],
        "volume_l": 1.0,
        "scattering_density": {"value": 79.0, "low": 60.0, "high": 90.0},
        "material": {
            "name": "uranium",
            "category": "special-nuclear",
            "probability": 0.7,
            "alternatives": [{"name": "lead", "probability": 0.2}],
        },
        "mass_kg": {"value": value, "low": low, "high": high},
        "significance": significance,
        "false_alarm_rate": chance,
        "n_muons": 100,
        "reason": "Heavier than structural metal",
    }


def scan(*alerts, threat=False, seed=0, scene="fruit", exposure=60.0, total=1000.0, container=""):
    report = {
        "format": "muscan-alerts",
        "format_version": 1,
        "scan": {
            "run_id": "r",
            "live_time_s": exposure,
            "n_muons": 5,
            "method": "em",
            "materials_version": "v",
        },
        "alerts": list(alerts),
        "total_mass_kg": {"value": total, "low": total - 50, "high": total + 50},
        "warnings": [],
    }
    return Scan(
        {"scene": scene, "seed": seed, "method": "em"},
        "portal",
        container,
        {"threats": [THREAT] if threat else [], "total_kg": 1020.0, "tare_kg": 200.0},
        {
            "exposure_s": exposure,
            "report": report,
            "load_kg": {"value": 700.0, "low": 600.0, "high": 800.0},
            "seconds": {},
        },
    )


def row(table, **wanted):
    (found,) = [r for r in table if all(r[name] == value for name, value in wanted.items())]
    return found


def test_an_alert_near_the_box_is_of_the_threat():
    assert is_of(alert(x=100), THREAT)
    assert is_of(alert(x=250), THREAT)
    assert not is_of(alert(x=251), THREAT)
    assert best_alert([alert(3.0), alert(9.0), alert(20.0, x=800)], THREAT)["significance"] == 9
    assert best_alert([alert(x=800)], THREAT) is None


def test_pieces_inside_one_alert_are_weighed_together():
    other = {**THREAT, "centre_mm": [400.0, 0.0, 0.0], "mass_kg": 1.0}
    wide = {**alert(), "extent_mm": [[0, -100, -100], [500, 100, 100]]}
    assert mass_inside(wide, [THREAT, other]) == 20.0
    assert mass_inside(alert(), [THREAT, other]) == 19.0


def test_roc_counts_scans_and_alerts_at_every_threshold():
    benign = [scan(), scan(alert(4.0), alert(5.0)), scan(alert(3.0)), scan()]
    threat = [scan(alert(s), threat=True) for s in (2.0, 4.5, 8.0)]
    threat.append(scan(alert(9.0, x=900), threat=True))  # elsewhere: no detection
    tables = kinds.roc(benign + threat)
    at = row(tables["roc"], severity="info", threshold=4.0)
    assert at["false_alarms_per_scan"] == 0.5
    assert at["benign_scans_alarmed"] == 0.25
    assert at["detected"] == 0.5
    assert at["n_benign"] == at["n_threat"] == 4
    assert at["detected_low"] < 0.5 < at["detected_high"]
    thresholds = [r["threshold"] for r in tables["roc"] if r["severity"] == "info"]
    assert thresholds == [8.0, 5.0, 4.5, 4.0, 3.0, 2.0]
    here = row(tables["roc_points"], severity="info", at="1 in 20 here")
    assert here["threshold"] == np.nextafter(5.0, 6.0)
    assert here["benign_scans_alarmed"] == 0
    assert here["detected"] == 0.25
    assert row(tables["roc_points"], severity="info", at="as raised")["detected"] == 0.75


def test_an_alert_beyond_the_operating_point_is_not_raised():
    tables = kinds.time([scan(alert(chance=0.2)), scan(alert(chance=0.2), threat=True)])
    at = row(tables["time"], severity="info")
    assert at["cleared"] == 1.0
    assert at["detected"] == 0.0


def test_detection_and_clearing_by_exposure_and_severity():
    found = [scan(exposure=e) for e in (30.0, 60.0)]
    found += [scan(alert(severity="low"), exposure=60.0)]
    found += [scan(threat=True, exposure=30.0), scan(alert(), threat=True, exposure=60.0)]
    table = kinds.time(found)["time"]
    assert row(table, exposure_s=30.0, severity="info")["detected"] == 0
    at = row(table, exposure_s=60.0, severity="info")
    assert (at["detected"], at["cleared"]) == (1.0, 0.5)
    assert at["horizontal_mm"] == 0
    assert at["vertical_mm"] == 30
    assert row(table, exposure_s=60.0, severity="high")["cleared"] == 1.0


def test_weights_over_the_truth_and_their_coverage():
    found = [scan(alert(mass=(m, m - 3, m + 3)), threat=True) for m in (16.0, 19.0, 25.0)]
    tables = kinds.weight(found)
    at = row(tables["weight"], what="threat")
    assert at["ratio"] == pytest.approx(1.0)
    assert at["covered"] == pytest.approx(2 / 3)
    assert at["median_true_kg"] == 19.0
    total = row(tables["weight"], what="all")
    assert total["ratio"] == pytest.approx(1000 / 1020)
    assert total["covered"] == 1.0
    assert total["n"] == 3
    load = row(tables["weight"], what="load")
    assert load["ratio"] == pytest.approx(700 / 820)
    assert load["covered"] == 0.0


def test_confusion_names_what_was_missed():
    found = [scan(alert(), threat=True, seed=1), scan(threat=True, seed=2)]
    tables = kinds.confusion(found)
    (line,) = tables["confusion"]
    assert line["true"] == "uranium"
    assert (line["uranium"], line["no alert"], line["n"]) == (0.5, 0.5, 2)
    rows = tables["confusions"]
    assert rows[0]["of_truth"] == 0.7
    assert rows[0]["density_ratio"] == 1.0
    within = row(tables["probabilities"], n=1)
    assert (within["right"], within["given"]) == (1.0, 0.7)


def test_calibration_gives_thresholds_and_a_table_that_rules_read(tmp_path):
    found = [scan(alert(s), seed=n) for n, s in enumerate(np.linspace(3, 8.7, 20))]
    tables = kinds.calibrate(found)
    at = row(tables["calibrate"], severity="info", benign_scans_alarmed=0.05)
    assert 8.3 < at["threshold"] < 8.7
    assert len(tables["highest"]) == 40
    points = operating_points([*found, scan(alert(50.0), threat=True)])
    assert {p.cargo for p in points} == {"any", "fruit"}
    (point,) = [p for p in points if (p.cargo, p.severity, p.significance) == ("any", "high", 8.0)]
    assert point.false_alarms == pytest.approx(3.5 / 20)
    assert point.scans == 20
    path = tmp_path / "operating_points.csv"
    write_operating_points(path, found)
    other = [scan(alert(4.0), scene="ore"), scan(alert(4.0), container="20ft")]
    write_operating_points(path, other)
    again = read_operating_points(path)
    scans = {(p.container, p.cargo): p.scans for p in again}
    one, boxed = {("", "any"): 1, ("", "ore"): 1}, {("20ft", "any"): 1, ("20ft", "fruit"): 1}
    assert scans == {("", "fruit"): 20} | one | boxed


def test_no_scan_no_table():
    for study in kinds.KINDS.values():
        tables = study([])
        assert all(not table for name, table in tables.items() if name != "probabilities")
