"""Acceptances and rates against closed forms and the flux's own integrals; faults of layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from muscan import resources
from muscan.model.acceptance import Estimate, pair_acceptances, panel_rates
from muscan.model.detector import Detector, load_detector, parse_detector
from muscan.model.flux import FluxModel, load_flux
from muscan.model.layout_checks import intruders, overlaps, unmeasured
from muscan.model.layout_text import layout_text

HEAD = """
name = "test"
[inspection]
min_mm = [-300, -300, -200]
max_mm = [300, 300, 200]
[technology.plane]
size_mm = [{a}, {b}]
resolution_mm = [0.3, 0.3]
{more}
"""
PAIR = """
[[panel]]
name = "{name}"
group = "{name}"
technology = "plane"
centre_mm = [0, 0, {z}]
repeat = {{ count = 2, step_mm = [0, 0, {step}] }}
"""


def stack(a: float, b: float, z: float, step: float, more: str = "") -> Detector:
    """Return two planes above and two below, ``z`` the height of the inner ones."""
    text = HEAD.format(a=a, b=b, more=more)
    text += PAIR.format(name="upper", z=z, step=step) + PAIR.format(name="lower", z=-z, step=-step)
    return parse_detector(text, "test")


def parallel_rectangles(a: float, b: float, distance: float) -> float:
    """Return ∫ cosθ dA dΩ between two equal rectangles face to face [m² sr].

    π A times the view factor of radiative heat transfer (J. R. Howell, A Catalog of Radiation
    Heat Transfer Configuration Factors, C-11).
    """
    x, y = a / distance, b / distance
    p, q = np.sqrt(1 + x * x), np.sqrt(1 + y * y)
    factor = np.log(p * q / np.sqrt(1 + x * x + y * y))
    factor += x * q * np.arctan(x / q) + y * p * np.arctan(y / p)
    factor -= x * np.arctan(x) + y * np.arctan(y)
    return float(np.pi * a * b * 1e-6 * 2 / (np.pi * x * y) * factor)


def within(found: Estimate, expected: float, relative: float) -> None:
    assert found.value == pytest.approx(expected, rel=relative)
    assert abs(found.value - expected) < 4 * found.error + 1e-9 * expected


@pytest.mark.parametrize(("a", "b", "z", "step"), [(1000, 1000, 400, 100), (3000, 800, 900, 200)])
def test_acceptance_of_parallel_rectangles(a: float, b: float, z: float, step: float) -> None:
    # Whoever crosses the outer two planes crosses the inner ones.
    (pair,) = pair_acceptances(stack(a, b, z, step), seed=2)
    within(pair.acceptance_m2_sr, parallel_rectangles(a, b, 2 * (z + step)), 0.01)
    assert pair.acceptance_m2_sr.error < 0.005 * pair.acceptance_m2_sr.value
    assert (pair.incoming, pair.outgoing) == ("upper", "lower")


def test_rate_is_the_intensity_times_the_acceptance() -> None:
    flat = FluxModel("flat", lambda p, c: np.where(p < 2, 3.0, 0.0) + 0 * c)
    (pair,) = pair_acceptances(stack(1000, 1000, 400, 100), flat)
    # 3 m⁻² s⁻¹ sr⁻¹ GeV⁻¹ from 0.1 to 2 GeV; the edge falls between two nodes of the integral.
    assert pair.rate_hz.value / pair.acceptance_m2_sr.value == pytest.approx(3 * 1.9, rel=0.03)


@pytest.mark.parametrize("flux", ["guan2015", "ecomug"])
@pytest.mark.parametrize(("turn", "part"), [(0, "plane_rate"), (90, "wall_rate")])
def test_a_panel_sees_the_flux_through_its_area(flux: str, turn: float, part: str) -> None:
    text = HEAD.format(a=2000, b=1000, more="") + PAIR.format(name="one", z=0, step=300)
    text = text.replace("repeat", f"rotation_deg = [{turn}, 0, 0]\nrepeat")
    rates = panel_rates(parse_detector(text, "test"), flux)
    sides = 1 if turn == 0 else 2
    expected = sides * 2.0 * getattr(load_flux(flux), part)()
    assert rates[0].crossing_hz.value == pytest.approx(expected, rel=1e-4)


def test_recorded_hits_need_two_in_an_upper_group() -> None:
    """With one efficiency for all, the closed chance of a hit that is recorded."""
    e = 0.8
    # Wide and near each other: nearly every muon crosses both of a pair.
    wide = stack(4000, 4000, 300, 1, f"efficiency = {e}")
    upper, *_, lower = panel_rates(wide)
    assert upper.recorded_hz.value / upper.crossing_hz.value == pytest.approx(e * e, rel=0.01)
    (pair,) = pair_acceptances(wide)
    # A lower panel's hit is recorded if both upper ones are hit.
    assert lower.recorded_hz.value == pytest.approx(e * e * e * pair.rate_hz.value, rel=0.02)


def test_the_same_seed_gives_the_same() -> None:
    room = load_detector("parcel")
    assert pair_acceptances(room, seed=3) == pair_acceptances(room, seed=3)
    assert pair_acceptances(room, seed=3) != pair_acceptances(room, seed=4)


def test_overlaps_are_found_also_of_turned_panels() -> None:
    assert overlaps(stack(1000, 1000, 400, 100)) == []
    assert overlaps(stack(1000, 1000, 400, 5)) == [
        ("upper-1", "upper-2"),
        ("lower-1", "lower-2"),
    ]
    text = HEAD.format(a=1000, b=1000, more="") + PAIR.format(name="upper", z=400, step=100)
    wall = """
[[panel]]
name = "wall"
group = "wall"
technology = "plane"
centre_mm = [{x}, 0, 0]
rotation_deg = [0, {turn}, 0]
"""
    for x, turn, expected in (
        (480, 90, ["wall"]),
        (520, 90, []),
        (840, 60, []),
        (700, 60, ["wall"]),
    ):
        found = overlaps(parse_detector(text + wall.format(x=x, turn=turn), "test"))
        # The wall stands up to z = 500 beside the roof at 400, which ends at x = 500.
        assert sorted({name for pair in found for name in pair} & {"wall"}) == expected, (x, turn)


def test_panels_in_the_inspected_space_are_told() -> None:
    assert intruders(stack(1000, 1000, 150, 100)) == ["upper-1", "lower-1"]
    assert intruders(stack(1000, 1000, 400, 100)) == []


def test_unmeasured_directions_are_named() -> None:
    assert unmeasured(load_detector("truck-portal")) == {}
    strips = stack(1000, 1000, 400, 100, 'measures = "u"')
    told = unmeasured(strips)
    assert set(told) == {"upper", "lower"}
    assert sorted(told["upper"]) == ["angle along (0, 1, 0)", "position along (0, 1, 0)"]


@pytest.mark.parametrize("name", sorted(resources.names("detectors/scanners")))
def test_shipped_layouts_have_no_fault(name: str) -> None:
    detector = load_detector(name)
    assert overlaps(detector) == []
    assert intruders(detector) == []
    assert unmeasured(detector) == {}
    assert pair_acceptances(detector)[0].acceptance_m2_sr.value > 0.1


@pytest.mark.parametrize("name", sorted(resources.names("detectors/scanners")))
def test_a_written_layout_reads_back(name: str) -> None:
    detector = load_detector(name)
    text = layout_text(detector, notes="one\ntwo", panel_notes={detector.panels[0].name: "first"})
    assert text.startswith("# one\n# two\n")
    again = parse_detector(text, name)
    assert again.bounds.tolist() == detector.bounds.tolist()
    for mine, other in zip(detector.panels, again.panels, strict=True):
        np.testing.assert_allclose(mine.corners(), other.corners(), atol=1e-5)
        assert (mine.technology, mine.group, mine.size) == (
            other.technology,
            other.group,
            other.size,
        )


def test_the_layout_of_the_docs_is_sound() -> None:
    page = Path(__file__).parents[2] / "docs" / "detectors.md"
    text = page.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    detector = parse_detector(text, page)
    names = [panel.name for panel in detector.panels]
    assert names[:3] == ["roof-1", "roof-2", "roof-3"]
    assert (names[3], names[-1]) == ("wall-1-1", "wall-2-3")
    assert overlaps(detector) == []


def test_technologies_of_one_name_are_told_apart() -> None:
    detector = stack(1000, 1000, 400, 100)
    better = detector.panels[0].technology.model_copy(update={"efficiency": 0.5})
    panels = (replace(detector.panels[0], technology=better), *detector.panels[1:])
    again = parse_detector(layout_text(replace(detector, panels=panels)), "again")
    assert [panel.technology.efficiency for panel in again.panels] == [0.5, 1.0, 1.0, 1.0]


def test_repeats_number_the_panels() -> None:
    text = (
        HEAD.format(a=500, b=400, more="")
        + """
[[panel]]
name = "tile"
group = "roof"
technology = "plane"
centre_mm = [-250, -200, 1000]
repeat = [{ count = 2, step_mm = [0, 0, -100] }, { count = 3, step_mm = [500, 0, 0] }]
"""
    )
    panels = parse_detector(text, "test").panels
    assert [panel.name for panel in panels] == [f"tile-{i}-{j}" for i in (1, 2) for j in (1, 2, 3)]
    np.testing.assert_allclose(panels[-1].centre, [750, -200, 900])
    with pytest.raises(Exception, match="two panels or more"):
        parse_detector(
            text.replace("count = 2", "count = 1").replace("count = 3", "count = 1"), "x"
        )
