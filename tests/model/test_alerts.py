import json
import math
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from muscan.model.alerts import (
    SEVERITIES,
    AlertReport,
    Interval,
    alert_id,
    alerts_schema,
    schema_text,
)
from muscan.resources import shipped_folder


def report(**changes):
    alert = {
        "id": "run-1",
        "severity": "high",
        "position_mm": [1.0, 2.0, 3.0],
        "extent_mm": [[0, 0, 0], [10, 10, 10]],
        "volume_l": 1.0,
        "scattering_density": {"value": 79.0, "low": 60.0, "high": 100.0},
        "material": {
            "name": "uranium",
            "category": "special-nuclear",
            "probability": 0.6,
            "alternatives": [{"name": "tungsten", "probability": 0.3}],
        },
        "mass_kg": {"value": 19.0, "low": 15.0, "high": 24.0},
        "significance": 9.0,
        "false_alarm_rate": 1e-9,
        "n_muons": 250,
        "reason": "Dense.",
    }
    content = {
        "scan": {
            "run_id": "run",
            "live_time_s": 300.0,
            "n_muons": 1000,
            "method": "poca",
            "materials_version": "abc",
        },
        "alerts": [alert | changes],
        "total_mass_kg": {"value": 1000.0, "low": 900.0, "high": 1100.0},
    }
    return AlertReport.model_validate(content)


def test_shipped_schema_is_that_of_the_model():
    shipped = Path(shipped_folder("schemas")) / "alerts.schema.json"
    assert shipped.read_text(encoding="utf-8") == schema_text()


def test_schema_is_a_valid_schema_and_accepts_a_report():
    validator = jsonschema.Draft202012Validator
    validator.check_schema(alerts_schema())
    validator(alerts_schema()).validate(json.loads(report().model_dump_json()))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("format"),
        lambda content: content.update(format_version=2),
        lambda content: content["alerts"][0].pop("reason"),
        lambda content: content["alerts"][0].update(severity="urgent"),
        lambda content: content["alerts"][0].update(position_mm=[1, 2]),
        lambda content: content["alerts"][0].update(n_muons=-1),
        lambda content: content["alerts"][0]["material"].update(probability=1.5),
        lambda content: content["total_mass_kg"].update(value="heavy"),
        lambda content: content.update(comment="not in version 1"),
    ],
)
def test_schema_and_model_refuse_what_is_not_of_the_format(change):
    content = json.loads(report().model_dump_json())
    change(content)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(alerts_schema()).validate(content)
    if "format" in content:
        with pytest.raises(ValidationError):
            AlertReport.model_validate(content)


def test_further_keys_of_the_scan_are_kept():
    content = json.loads(report().model_dump_json())
    content["scan"]["operator"] = "A"
    assert AlertReport.model_validate(content).model_dump()["scan"]["operator"] == "A"


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=3, max_size=3),
)
def test_any_floats_give_legal_json_that_reads_back(numbers):
    value, low, high = numbers
    text = json.dumps(
        Interval(value=value, low=low, high=high).model_dump(mode="json"), allow_nan=False
    )
    back = Interval.model_validate_json(text)
    for number, kept in zip(numbers, (back.value, back.low, back.high), strict=True):
        if math.isfinite(number):
            assert kept == pytest.approx(number, rel=1e-5)
        else:
            assert kept is None


def test_a_value_that_is_not_a_number_is_refused():
    with pytest.raises(ValidationError):
        Interval(value="heavy", low=0, high=1)


def test_id_names_run_and_place_only():
    here = alert_id("run", (100.0, 200.0, -300.0))
    assert here == alert_id("run", (100.2, 199.9, -300.4))
    assert here != alert_id("run", (101.0, 200.0, -300.0))
    assert here != alert_id("other", (100.0, 200.0, -300.0))
    assert here.startswith("run-")
    assert alert_id("", (0.0, 0.0, 0.0)).isalnum()


def test_severities_ascend():
    assert SEVERITIES == ("info", "low", "medium", "high", "critical")
