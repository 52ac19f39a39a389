import math

import pytest

from muscan.errors import InputError
from muscan.identification.operating_points import (
    THRESHOLDS,
    count_false_alarms,
    false_alarms_of,
    operating_points_text,
    read_operating_points,
    shipped_operating_points,
    with_rates,
)
from muscan.model.alerts import Alert, AlertReport, Interval, MaterialGuess, ScanInfo

FACTS = {"scanner": "portal", "container": "", "method": "em", "provenance": "test"}
NOTHING = Interval(value=1, low=1, high=1)


def report(*alerts):
    """Return a report of alerts, each a severity and a significance."""
    return AlertReport(
        scan=ScanInfo(run_id="", live_time_s=60, n_muons=1, method="em", materials_version=""),
        alerts=[
            Alert(
                id=str(number), severity=severity, position_mm=(0, 0, 0),
                extent_mm=((0, 0, 0), (1, 1, 1)), volume_l=1, scattering_density=NOTHING,
                material=MaterialGuess(name="steel", category="structural", probability=1),
                mass_kg=NOTHING, significance=significance, false_alarm_rate=None, n_muons=1,
                reason="",
            )
            for number, (severity, significance) in enumerate(alerts)
        ],
        total_mass_kg=NOTHING,
    )  # fmt: skip


@pytest.fixture
def table():
    scans = [report(("high", 6.2)), report(("low", 9.0), ("low", 3.2)), report(), report()]
    points = []
    for exposure, more in ((60, []), (240, [report(("high", 6.2))] * 4)):
        points += count_false_alarms(scans + more, cargo="any", exposure_s=exposure, **FACTS)
    return points


def test_rates_are_counts_over_scans(table):
    rows = {(p.exposure_s, p.severity, p.significance): p for p in table}
    assert rows[60, "high", 6.0].false_alarms == pytest.approx(1.5 / 4)
    assert rows[60, "high", 7.0].false_alarms == pytest.approx(0.5 / 4)
    assert rows[60, "info", 3.0].false_alarms == pytest.approx(3.5 / 4)
    assert rows[60, "low", 8.0].false_alarms == pytest.approx(1.5 / 4)
    assert rows[60, "critical", 3.0].false_alarms == pytest.approx(0.5 / 4)
    assert all(p.low < p.false_alarms < p.high for p in table)
    # Jeffreys' interval of 0 of 4: the quantiles of Gamma(1/2) are χ²(1) over two.
    assert rows[60, "critical", 3.0].high == pytest.approx(1.99 / 2 / 4, rel=0.01)


def test_a_scan_reads_its_rate_between_the_rows(table):
    found = false_alarms_of("portal", "em", 60, points=table)
    assert found.rate("high", 6.0) == pytest.approx(1.5 / 4)
    half = found.rate("high", 6.5)
    assert half == pytest.approx(math.sqrt(1.5 / 4 * 0.5 / 4))
    assert found.rate("high", 99.0) == pytest.approx(0.5 / 4)
    assert found.rate("high", THRESHOLDS[0] - 0.1) is None
    between = false_alarms_of("portal", "em", 120, points=table).rate("high", 6.0)
    assert between == pytest.approx(math.sqrt(1.5 / 4 * 5.5 / 8))


def test_what_is_not_in_the_table_is_none(table):
    assert false_alarms_of("other", "em", 60, points=table) is None
    assert false_alarms_of("portal", "poca", 60, points=table) is None
    assert false_alarms_of("portal", "em", 20, points=table) is None
    assert false_alarms_of("portal", "em", 50, points=table) is not None
    assert false_alarms_of("portal", "em", math.nan, points=table) is None
    assert false_alarms_of("portal", "em", 60, "fruit", points=table) is not None
    assert false_alarms_of("portal", "em", 60, container="20ft", points=table) is None


def test_the_file_reads_back(table, tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(operating_points_text(table))
    again = read_operating_points(path)
    assert [(p.severity, p.scans) for p in again] == [(p.severity, p.scans) for p in table]
    assert [p.false_alarms for p in again] == pytest.approx([p.false_alarms for p in table])
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([*lines[:3], lines[3].replace("portal,,any,em,60", "portal,,any,em,x")])
    )
    with pytest.raises(InputError, match="line 4"):
        read_operating_points(path)


def test_the_shipped_table_is_sound():
    assert all(p.false_alarms > 0 and p.low < p.high for p in shipped_operating_points())


def test_alerts_get_the_rates_of_the_table(table):
    rates = false_alarms_of("portal", "em", 60, points=table)
    found = with_rates(report(("high", 6.0), ("low", 2.0)), rates)
    assert found.alerts[0].false_alarm_rate == pytest.approx(1.5 / 4)
    assert found.alerts[1].false_alarm_rate is None
    assert "of 1 alerts count chance only" in found.warnings[0]
    assert "count chance only" in with_rates(report(("high", 6.0)), None).warnings[0]
    assert with_rates(report(), None).warnings == []


def test_what_chance_makes_often_stays_often_however_few_benign_scans_show_it(table):
    rates = false_alarms_of("portal", "em", 60, points=table)
    told = report(("high", 6.0))
    for chance, expected in ((0.9, 0.9), (1e-9, 1.5 / 4)):
        alert = told.alerts[0].model_copy(update={"false_alarm_rate": chance})
        found = with_rates(told.model_copy(update={"alerts": [alert]}), rates)
        assert found.alerts[0].false_alarm_rate == pytest.approx(expected)


def test_no_scans_are_refused():
    with pytest.raises(InputError, match="no benign scans"):
        count_false_alarms([], cargo="any", exposure_s=60, **FACTS)
