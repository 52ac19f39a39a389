import pytest

from muscan.identification.match import candidates, object_posterior
from muscan.identification.rules import Evidence, judge
from muscan.identification.watchlist import watched_materials


@pytest.fixture
def verdict(materials):
    kinds = candidates(materials)

    def judged(density, relative, watch=()):
        probability = object_posterior(kinds, density, relative)
        watched = watched_materials(kinds, watch)
        return judge(Evidence(density, relative, kinds, probability, watched))

    return judged


@pytest.mark.parametrize(
    "density, relative, severity",
    [
        (79.0, 0.03, "critical"),
        (44.5, 0.1, "high"),
        (30.0, 0.1, "high"),
        (18.0, 0.2, "medium"),
        (14.2, 0.1, "low"),
        (9.0, 0.05, "low"),
    ],
)
def test_severity_follows_density(verdict, density, relative, severity):
    assert verdict(density, relative)[0] == severity


@pytest.mark.parametrize("density", [0.3, 0.7, 2.8, 5.0])
def test_goods_are_no_alert(verdict, density):
    assert verdict(density, 0.1) is None


def test_uncertain_density_can_still_be_heavy(verdict):
    assert verdict(15.0, 0.1)[0] == "low"
    assert verdict(15.0, 0.5)[0] == "medium"


def test_watched_material_that_cannot_be_excluded_is_an_alert(verdict):
    severity, reason = verdict(0.7, 0.1, ["water"])
    assert severity == "medium"
    assert "cannot be excluded" in reason
    assert verdict(0.28, 0.02, ["water"]) is None


def test_watching_raises_the_severity_by_one(verdict):
    assert verdict(14.2, 0.05, ["structural"])[0] == "medium"
    assert verdict(79.0, 0.03, ["special-nuclear"])[0] == "critical"


def test_explosive_needs_to_be_the_best_explanation(verdict):
    severity, reason = verdict(1.10, 0.03)
    assert severity == "medium"
    assert "explosive" in reason
