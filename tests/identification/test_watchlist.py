import numpy as np
import pytest

from muscan.errors import InputError
from muscan.identification.match import candidates, object_posterior
from muscan.identification.rules import Evidence, judge
from muscan.identification.watchlist import WatchRule, watched_materials


def test_takes_names_and_categories(materials):
    kinds = candidates(materials)
    assert set(watched_materials(kinds, ["lead", "structural"])) == {"lead", "steel", "aluminium"}
    with pytest.raises(InputError, match="did you mean 'uranium'"):
        watched_materials(kinds, ["uranum"])


@pytest.mark.parametrize(
    "text, rule",
    [
        ("uranium", WatchRule(0.0, None)),
        ("uranium:0.5kg", WatchRule(0.5, None)),
        ("uranium:500 g:critical", WatchRule(0.5, "critical")),
        ("uranium:high", WatchRule(0.0, "high")),
        ("uranium:2", WatchRule(2.0, None)),
    ],
)
def test_items_are_read(materials, text, rule):
    found = watched_materials(candidates(materials), [text])["uranium"]
    assert found.minimum_kg == pytest.approx(rule.minimum_kg)
    assert found.severity == rule.severity


@pytest.mark.parametrize(
    "text, said", [("lead:3stone", "is no mass"), ("lead:urgent", "no severity 'urgent'")]
)
def test_wrong_items_are_refused(materials, text, said):
    with pytest.raises(InputError, match=said):
        watched_materials(candidates(materials), [text])


def test_a_file_is_a_list(materials, tmp_path):
    path = tmp_path / "watch.toml"
    path.write_text('[[watch]]\nname = "lead"\nminimum_mass = "5 kg"\nseverity = "high"\n')
    found = watched_materials(candidates(materials), [str(path), "water"])
    assert found["lead"] == WatchRule(5.0, "high")
    assert "water" in found
    path.write_text('[[watch]]\nnam = "lead"\n')
    with pytest.raises(InputError, match="did you mean 'name'"):
        watched_materials(candidates(materials), [str(path)])


@pytest.mark.parametrize("heaviest, alerted", [(0.4, False), (0.6, True), (np.inf, True)])
def test_what_is_certainly_lighter_is_no_alert(materials, heaviest, alerted):
    kinds = candidates(materials)
    probability = object_posterior(kinds, 0.69, 0.1)
    watched = watched_materials(kinds, ["water:0.5kg"])
    found = judge(Evidence(0.69, 0.1, kinds, probability, watched, heaviest))
    assert (found is not None) == alerted


@pytest.mark.parametrize("asked", ["low", "high", "critical"])
def test_the_list_says_how_severe(materials, asked):
    kinds = candidates(materials)
    probability = object_posterior(kinds, 0.69, 0.1)
    watched = watched_materials(kinds, [f"water:{asked}"])
    assert judge(Evidence(0.69, 0.1, kinds, probability, watched))[0] == asked
