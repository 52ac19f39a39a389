import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from muscan.errors import InputError
from muscan.identification import identify
from muscan.identification.background import contrast
from muscan.identification.match import candidates, inseparable, object_posterior
from muscan.identification.segment import known_voxels, regions_of
from muscan.identification.verdict import likely, object_errors, object_stopping
from muscan.model.alerts import SEVERITIES, alerts_schema
from muscan.model.events import Run

TRUTH = {
    "uranium": ((-600, 600, 0), 79.0),
    "lead": ((600, 600, 0), 44.5),
    "steel": ((-600, -600, 0), 14.2),
    "aluminium": ((600, -600, 0), 2.81),
    "water": ((0, 0, 0), 0.69),
}
RUN = Run(live_time_s=300.0, run_id="bench")


@pytest.fixture(scope="module")
def blocks(make_volume):
    """Five 200 mm cubes in air, in 50 mm voxels."""
    values = np.zeros((40, 40, 24))
    for centre, density in TRUTH.values():
        low = [(c + 50 * n // 2 - 100) // 50 for c, n in zip(centre, values.shape, strict=True)]
        values[tuple(slice(first, first + 4) for first in low)] = density
    return make_volume(values, sigma=0.3, noise=0.3, run=RUN)


@pytest.fixture(scope="module")
def result(blocks, materials):
    return identify(blocks, None, materials)


def nearest(alerts, name):
    place = np.array(TRUTH[name][0])
    return min(alerts, key=lambda alert: np.linalg.norm(np.array(alert.position_mm) - place))


def test_dense_blocks_are_alerts_where_they_are(result):
    alerts = result[0].alerts
    assert len(alerts) == 3
    for name in ("uranium", "lead", "steel"):
        alert = nearest(alerts, name)
        assert alert.position_mm == pytest.approx(TRUTH[name][0], abs=15)
        assert alert.scattering_density.low < TRUTH[name][1] < alert.scattering_density.high
    order = [nearest(alerts, name).scattering_density.value for name in TRUTH][:3]
    assert order == sorted(order, reverse=True)


def test_mass_interval_holds_the_truth(result, materials):
    for name in ("uranium", "lead", "steel"):
        mass = nearest(result[0].alerts, name).mass_kg
        truth = materials[name].density_g_cm3 * 8.0
        assert mass.value == pytest.approx(truth, rel=0.2)
        assert mass.low < truth * 1.05
        assert mass.high > truth * 0.95


def test_alerts_are_ordered_by_severity(result):
    ranks = [SEVERITIES.index(alert.severity) for alert in result[0].alerts]
    assert ranks == sorted(ranks, reverse=True)


def test_report_is_of_the_schema_and_tells_the_scan(result, materials):
    report = result[0]
    content = json.loads(report.model_dump_json())
    jsonschema.Draft202012Validator(alerts_schema()).validate(content)
    assert report.scan.run_id == "bench"
    assert report.scan.live_time_s == 300.0
    assert report.scan.materials_version == materials.version
    assert any("no tracks" in warning for warning in report.warnings)


def test_same_input_same_report(blocks, materials, result):
    assert identify(blocks, None, materials)[0].model_dump_json() == result[0].model_dump_json()


def test_voxels_are_classified_too(result):
    labels = result[1]
    assert labels.names[labels.labels[8, 32, 12]] == "uranium"
    assert labels.names[labels.labels[2, 2, 2]] == "air"


def test_chance_is_not_an_alert(make_volume, materials):
    for seed in range(5):
        volume = make_volume(np.full((40, 30, 20), 10.0), sigma=3.0, noise=3.0, seed=seed)
        assert identify(volume, None, materials)[0].alerts == []


def test_false_alarm_rate_counts_the_places(make_volume, materials):
    values = np.full((30, 30, 20), 1.0)
    values[14:16, 14:16, 9:11] = 44.5
    report = identify(make_volume(values, sigma=4.0, noise=4.0), None, materials)[0]
    alert = report.alerts[0]
    assert 5 < alert.significance < 40
    assert alert.false_alarm_rate < 0.05
    assert (
        identify(make_volume(values, sigma=4.0, noise=4.0), None, materials, false_alarms=0.0)[
            0
        ].alerts
        == []
    )


def test_warnings_tell_what_is_missing(make_volume, materials):
    volume = make_volume(np.full((10, 10, 10), 1.0), sigma=0.5)
    volume.n_muons[:] = 3
    volume.values[:3] = np.nan
    text = " ".join(identify(volume, None, materials)[0].warnings)
    for piece in ("few muons", "30%", "live time"):
        assert piece in text


def test_wrong_input_is_one_clear_error(make_volume, materials):
    with pytest.raises(InputError):
        identify(make_volume(np.full((5, 5, 5), np.nan)), None, materials)
    with pytest.raises(InputError, match="uranum"):
        identify(make_volume(np.full((5, 5, 5), 1.0)), None, materials, watch=["uranum"])


@pytest.fixture(scope="module")
def iron(make_volume):
    """A 300 mm cube of iron with its stopping density."""
    values = np.zeros((20, 20, 16))
    values[7:13, 7:13, 5:11] = 14.2
    volume = make_volume(values, sigma=0.3, noise=0.0, run=RUN)
    stopping = np.where(values > 1, 5.7, 0.0).astype(np.float32)
    error = np.full(values.shape, 1.0, np.float32)
    return replace(volume, channels={"stopping": stopping, "stopping_uncertainty": error})


def stopping_of(volume, materials, **changes):
    (region,) = regions_of(volume, contrast(volume, known_voxels(volume)))
    region = replace(region, **changes)
    (found,) = object_stopping([region], volume, candidates(materials), materials)
    return found


def test_large_objects_have_a_stopping_density(iron, materials):
    found = stopping_of(iron, materials)
    assert found.value == pytest.approx(5.7)
    assert found.sigma == pytest.approx(1 / np.sqrt(216 / 8))
    assert stopping_of(iron, materials, volume_mm3=9e5) is None


def test_no_stopping_density_where_the_volume_does_not_tell_it(iron, materials):
    poor = {**iron.channels, "stopping_uncertainty": iron.channels["stopping_uncertainty"] * 100}
    assert stopping_of(replace(iron, channels=poor), materials) is None
    blind = {**poor, "stopping_uncertainty": np.full_like(poor["stopping"], np.inf)}
    assert stopping_of(replace(iron, channels=blind), materials) is None
    assert stopping_of(replace(iron, channels={}), materials) is None


def test_the_stopping_density_is_told_and_matched(iron, materials):
    with_it, without = (
        max(identify(volume, None, materials)[0].alerts, key=lambda alert: alert.volume_l)
        for volume in (iron, replace(iron, channels={}))
    )
    assert "stopping density 5.7" in with_it.reason
    assert "stopping" not in without.reason
    assert with_it.material.name == without.material.name == "steel"
    assert with_it.material.probability > without.material.probability


def test_objects_in_cargo_are_known_less_well(blocks):
    region = regions_of(blocks, contrast(blocks, known_voxels(blocks)))[0]
    region = replace(region, excess=100.0, excess_sigma=17.0)
    assert object_errors(region).common == 0.0
    in_air = object_errors(replace(region, chance=0.0, background=0.02))
    in_cargo = object_errors(replace(region, chance=0.0, background=0.3))
    assert in_air.common == pytest.approx(0.08)
    assert in_air.excess_sigma == 17.0
    assert in_cargo.common == pytest.approx(0.17)
    assert in_cargo.excess_sigma == pytest.approx(np.hypot(17.0, 15.0))
    assert in_cargo.relative == pytest.approx(np.hypot(in_air.relative, 0.15))


def test_a_group_is_told_with_its_probability(materials):
    kinds = candidates(materials)
    probability = object_posterior(kinds, 75.0, 0.2)
    group = inseparable(kinds, probability, 75.0, 0.2)
    text = likely(kinds, probability, 75.0, 0.2)
    assert text.startswith(f"Most probably uranium ({probability[group[0]]:.0%})")
    assert "tungsten" in text
    assert f"one of these with {probability[group].sum():.0%}" in text
    sharp = object_posterior(kinds, 44.0, 0.01)
    assert likely(kinds, sharp, 44.0, 0.01) == f"Most probably lead ({sharp.max():.0%})."
