"""What each study asks of its scans: tables of numbers with intervals, one row a case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from muscan.studies.matching import (
    NOTHING,
    OPERATING_RATE,
    Scan,
    best_alert,
    grouped,
    highest,
    is_of,
    is_raised,
    is_severe,
    mass_inside,
    offset,
    significance,
)
from muscan.studies.statistics import (
    exceedance_limit,
    fraction,
    log_ratios,
    median_interval,
    quantile_interval,
    rate,
)

Row = dict[str, Any]
Table = list[Row]
Tables = dict[str, Table]
Alerts = Sequence[Mapping[str, Any]]

#: Detection is told for any alert, and for those of matter heavier than structural metal or worse.
SEVERITIES_TOLD: Final = ("info", "high")
#: False alarm rates for which a calibration gives thresholds.
CALIBRATED_RATES: Final = (0.2, 0.1, 0.05, 0.02, 0.01)


def split(group: Sequence[Scan]) -> tuple[list[Scan], list[Scan]]:
    """Return the benign scans and those with a threat."""
    return [s for s in group if not s.has_threat], [s for s in group if s.has_threat]


def roc(found: Sequence[Scan]) -> Tables:
    """Return detection against false alarms, for every threshold on the significance."""
    curve: Table = []
    points: Table = []
    for (scene, exposure), group in grouped(found).items():
        benign, threat = split(group)
        for severity in SEVERITIES_TOLD:
            case = {"scene": scene, "exposure_s": exposure, "severity": severity}
            false = [scan.worst(severity) for scan in benign]
            true = [scan.of_threats(scan.worst(severity)) for scan in threat]
            raised = [
                [list(filter(is_raised, alerts)) for alerts in both] for both in (false, true)
            ]
            values = [significance(alert) for alerts in (*false, *true) for alert in alerts]
            limit = exceedance_limit([highest(alerts) for alerts in false], OPERATING_RATE)
            curve += [{**case, **_point(at, false, true)} for at in _thresholds(values)]
            points.append({**case, "at": "as raised", **_point(NOTHING, *raised)})
            points.append({**case, "at": "1 in 20 here", **_point(limit, false, true)})
    return {"roc": curve, "roc_points": points}


def _thresholds(values: Sequence[float]) -> list[float]:
    """Return every threshold at which something changes, the highest first."""
    return sorted({value for value in values if np.isfinite(value)}, reverse=True)


def _point(limit: float, false: Sequence[Alerts], true: Sequence[Alerts]) -> Row:
    """Return what a threshold gives: alerts of benign scans, and of threats."""

    def above(alerts: Alerts) -> int:
        return sum(limit <= significance(alert) > NOTHING for alert in alerts)

    alarmed, detected = (sum(map(bool, map(above, each))) for each in (false, true))
    return {
        "threshold": limit,
        **rate(sum(map(above, false)), len(false)).columns("false_alarms_per_scan"),
        **fraction(alarmed, len(false)).columns("benign_scans_alarmed"),
        **fraction(detected, len(true)).columns("detected"),
        "n_benign": len(false),
        "n_threat": len(true),
    }


def time(found: Sequence[Scan]) -> Tables:
    """Return detection and clearing against exposure, and how far off the found objects are."""
    table: Table = []
    for (scene, exposure), group in grouped(found).items():
        benign, threat = split(group)
        for severity in SEVERITIES_TOLD:
            raised = [[a for a in scan.raised if is_severe(a, severity)] for scan in benign]
            cleared = sum(not alerts for alerts in raised)
            hits = [
                (scan, scan.of_threats([a for a in scan.raised if is_severe(a, severity)]))
                for scan in threat
            ]
            detected = [(scan, alerts) for scan, alerts in hits if alerts]
            table.append(
                {
                    "scene": scene,
                    "exposure_s": exposure,
                    "severity": severity,
                    **fraction(len(detected), len(threat)).columns("detected"),
                    **fraction(cleared, len(benign)).columns("cleared"),
                    **_offsets(detected),
                    "n_threat": len(threat),
                    "n_benign": len(benign),
                }
            )
    return {"time": table}


def _offsets(detected: Sequence[tuple[Scan, Alerts]]) -> Row:
    """Return the median distances of detected threats, horizontally and vertically."""
    away = []
    for scan, alerts in detected:
        shifts = [
            offset(alert, threat)
            for threat in scan.truth["threats"]
            for alert in alerts
            if is_of(alert, threat)
        ]
        away.append(min(shifts, key=np.linalg.norm))
    return {
        "horizontal_mm": median_interval([float(np.hypot(x, y)) for x, y, _ in away]).value,
        "vertical_mm": median_interval([float(z) for _, _, z in away]).value,
    }


def weight(found: Sequence[Scan]) -> Tables:
    """Return masses of loads and of detected threats over the truth, and intervals' coverage."""
    rows: Table = []
    for scan in found:
        case = {
            "scene": scan.scene,
            "exposure_s": scan.exposure_s,
            "seed": scan.parameters["seed"],
        }
        total = scan.result["report"]["total_mass_kg"]
        rows.append({**case, "what": "all", **_weighed(total, scan.truth["total_kg"])})
        if scan.result["load_kg"] is not None:
            true = scan.truth["total_kg"] - scan.truth["tare_kg"]
            rows.append({**case, "what": "load", **_weighed(scan.result["load_kg"], true)})
        for threat in scan.truth["threats"]:
            alert = best_alert(scan.raised, threat)
            if alert is not None:
                true = mass_inside(alert, scan.truth["threats"])
                rows.append({**case, "what": "threat", **_weighed(alert["mass_kg"], true)})
    return {"weights": rows, "weight": _weight_summary(rows)}


def _weighed(mass: Mapping[str, float | None], true: float) -> Row:
    value, low, high = (
        np.nan if mass[key] is None else float(mass[key])  # type: ignore[arg-type]
        for key in ("value", "low", "high")
    )
    inside = (not low > true) and (not high < true)
    return {"mass_kg": value, "low_kg": low, "high_kg": high, "true_kg": true, "covered": inside}


def _weight_summary(rows: Sequence[Row]) -> Table:
    cases: dict[tuple[str, float, str], list[Row]] = {}
    for row in rows:
        cases.setdefault((row["scene"], row["exposure_s"], row["what"]), []).append(row)
    table = []
    for (scene, exposure, what), group in sorted(cases.items()):
        logs = log_ratios([(row["mass_kg"], row["true_kg"]) for row in group])
        ratio = median_interval(np.exp(logs).tolist())
        # Half the distance of the quantiles that hold 68 %: outliers do not govern it.
        width = np.diff(np.quantile(logs, [0.16, 0.84]))[0] / 2 if len(logs) else np.nan
        table.append(
            {
                "scene": scene,
                "exposure_s": exposure,
                "what": what,
                **ratio.columns("ratio"),
                "spread": float(width),
                "median_true_kg": float(np.median([row["true_kg"] for row in group])),
                **fraction(sum(row["covered"] for row in group), len(group)).columns("covered"),
                "n": len(group),
            }
        )
    return table


def confusion(found: Sequence[Scan]) -> Tables:
    """Return what each material was taken for, and how often the probabilities are right."""
    rows: Table = []
    for scan in found:
        for threat in scan.truth["threats"]:
            alert = best_alert(scan.raised, threat)
            guess = alert["material"] if alert else None
            rows.append(
                {
                    "exposure_s": scan.exposure_s,
                    "seed": scan.parameters["seed"],
                    "true": threat["materials"][0],
                    "true_category": threat["categories"][0],
                    "found": guess["name"] if guess else "no alert",
                    "found_category": guess["category"] if guess else "no alert",
                    "probability": guess["probability"] if guess else np.nan,
                    "of_truth": _probability_of(threat["materials"][0], guess),
                    "density_ratio": _density_ratio(alert, threat),
                }
            )
    return {
        "confusions": rows,
        "confusion": _matrix(rows, "found"),
        "confusion_categories": _matrix(rows, "found_category"),
        "probabilities": _calibration_of_probabilities(rows),
    }


def _probability_of(material: str, guess: Mapping[str, Any] | None) -> float:
    """Return the probability that an alert gives to the true material."""
    if guess is None:
        return float("nan")
    given = {guess["name"]: guess["probability"]}
    given.update({other["name"]: other["probability"] for other in guess["alternatives"]})
    return float(given.get(material, 0.0))


def _density_ratio(alert: Mapping[str, Any] | None, threat: Mapping[str, Any]) -> float:
    value = alert["scattering_density"]["value"] if alert else None
    return float("nan") if value is None else float(value / threat["scattering_density"])


def _matrix(rows: Sequence[Row], column: str) -> Table:
    """Return one row a true material and exposure, with the share of each answer."""
    answers = sorted({row[column] for row in rows})
    cases: dict[tuple[float, str], list[Row]] = {}
    for row in rows:
        cases.setdefault((row["exposure_s"], row["true"]), []).append(row)
    return [
        {
            "exposure_s": exposure,
            "true": true,
            "n": len(group),
            **{name: sum(row[column] == name for row in group) / len(group) for name in answers},
        }
        for (exposure, true), group in cases.items()
    ]


def _calibration_of_probabilities(rows: Sequence[Row]) -> Table:
    """Return how often materials named with some probability are the true ones."""
    named = [row for row in rows if row["found"] != "no alert"]
    edges = np.linspace(0, 1, 6)
    table = []
    for low, high in pairwise(edges.tolist()):
        inside = [r for r in named if low < r["probability"] <= high]
        right = sum(row["found"] == row["true"] for row in inside)
        given = float(np.mean([r["probability"] for r in inside])) if inside else np.nan
        share = fraction(right, len(inside)).columns("right")
        table.append({"from": low, "to": high, "given": given, **share, "n": len(inside)})
    return table


def calibrate(found: Sequence[Scan]) -> Tables:
    """Return the highest significance of each benign scan, and thresholds by false alarm rate."""
    rows: Table = []
    table: Table = []
    for (scene, exposure), group in grouped(found).items():
        case = {"scene": scene, "exposure_s": exposure}
        benign, _ = split(group)
        for severity in SEVERITIES_TOLD:
            each = [scan.worst(severity) for scan in benign]
            surest = [highest(alerts) for alerts in each]
            rows += [
                {
                    **case,
                    "severity": severity,
                    "seed": scan.parameters["seed"],
                    "highest": value,
                    "n_alerts": len(alerts),
                }
                for scan, alerts, value in zip(benign, each, surest, strict=True)
            ]
            for wanted in CALIBRATED_RATES:
                interval = quantile_interval(surest, 1 - wanted)
                table.append(
                    {
                        **case,
                        "severity": severity,
                        "benign_scans_alarmed": wanted,
                        "threshold": exceedance_limit(surest, wanted),
                        "threshold_from": interval.low,
                        "threshold_to": interval.high,
                        "n_benign": len(benign),
                    }
                )
    return {"highest": rows, "calibrate": table}


KINDS: Final[dict[str, Callable[[Sequence[Scan]], Tables]]] = {
    "roc": roc,
    "time": time,
    "weight": weight,
    "confusion": confusion,
    "calibrate": calibrate,
}
