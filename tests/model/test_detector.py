"""Detectors: shipped layouts, technologies, panels at any pose, and what is refused."""

import numpy as np
import pytest

from muscan import resources
from muscan.errors import InputError
from muscan.model.detector import load_detector, parse_detector
from muscan.model.material import load_materials
from muscan.model.scene import Scene, check_in_detector

TWO = """
name = "two"
[inspection]
min_mm = [-100, -100, -100]
max_mm = [100, 100, 100]
[[panel]]
name = "top"
group = "upper"
technology = "gem"
centre_mm = [0, 0, 200]
[[panel]]
name = "wall"
group = "upper"
technology = "rpc-glass-u"
centre_mm = [300, 0, 0]
u_axis = [0, 2, 0]
v_axis = [0, 0, 1]
size_mm = [400, 200]
"""


def refused(text):
    with pytest.raises(InputError) as caught:
        parse_detector(text, "two.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(resources.names("detectors/scanners")))
def test_shipped_layouts_stand(name):
    detector = load_detector(name)
    assert detector.name == name
    check_in_detector(Scene("empty"), detector)
    materials = load_materials()
    for panel in detector.panels:
        assert panel.technology.material in materials
        assert panel.technology.source or panel.technology.description
    # The stored text alone gives the same detector.
    again = parse_detector(detector.text, "stored")
    assert (again.centres == detector.centres).all()
    assert again.panels[0].technology == detector.panels[0].technology
    assert again.text == detector.text


@pytest.mark.parametrize("name", sorted(resources.names("detectors/panels")))
def test_shipped_technologies_have_sources(name):
    text = TWO.replace('"gem"', f'"{name}"')
    technology = parse_detector(text, "two.toml").panels[0].technology
    assert technology.source
    assert technology.material in load_materials()


def test_the_lab_is_that_of_the_reference_data():
    detector = load_detector("blocks-lab")
    assert detector.centres[:, 2].tolist() == [1900, 1600, 1300, -1300, -1600, -1900]
    assert [panel.size for panel in detector.panels] == [(4000.0, 4000.0)] * 6
    technology = detector.panels[0].technology
    assert technology.resolution_mm == (0.3, 0.3)
    assert technology.efficiency == 0.98
    noise = technology.noise_hz_per_m2 * detector.panels[0].area_m2 * detector.gate_ns * 1e-9
    assert noise == pytest.approx(0.01)


def test_a_wall_panel():
    wall = parse_detector(TWO, "two.toml").panels[1]
    assert wall.normal == pytest.approx(np.array([1.0, 0.0, 0.0]))
    assert wall.u == pytest.approx(np.array([0.0, 1.0, 0.0]))
    assert wall.area_m2 == pytest.approx(0.08)
    assert wall.sigma == (0.38, np.inf)
    corners = wall.corners()
    assert corners.min(axis=0) == pytest.approx(np.array([300, -200, -100]))
    assert corners.max(axis=0) == pytest.approx(np.array([300, 200, 100]))


def test_euler_angles_and_axes_agree():
    turned = TWO.replace("u_axis = [0, 2, 0]\nv_axis = [0, 0, 1]", "rotation_deg = [90, 0, 90]")
    a, b = parse_detector(TWO, "a").panels[1], parse_detector(turned, "b").panels[1]
    assert a.u == pytest.approx(b.u)
    assert a.v == pytest.approx(b.v)


def test_panels_by_name_and_number():
    detector = parse_detector(TWO, "two.toml")
    assert detector.panel_index("wall") == detector.panel_index(1) == 1
    with pytest.raises(InputError, match="no panel 'wal'; did you mean 'wall'"):
        detector.panel_index("wal")


@pytest.mark.parametrize(
    "old, new, problem",
    [
        (
            'technology = "gem"',
            'technology = "gme"',
            "no such panel technology; did you mean 'gem'",
        ),
        ('name = "wall"', 'name = "top"', "panel 'top' stands twice"),
        ("size_mm = [400, 200]", "size_mm = [-400, 200]", "greater than 0"),
        ("v_axis = [0, 0, 1]", "v_axis = [0, 1, 1]", "perpendicular"),
        ("v_axis = [0, 0, 1]\n", "", "both u_axis and v_axis"),
        ("max_mm = [100, 100, 100]", "max_mm = [100, -200, 100]", "must be below"),
        ("group = ", "gruop = ", "unknown key; did you mean 'group'"),
    ],
)
def test_wrong_layouts_are_refused(old, new, problem):
    assert problem in refused(TWO.replace(old, new))


CHANNELS = (
    TWO
    + """
[technology.strips]
size_mm = [400, 200]
readout = "pitch"
pitch_mm = [10, 5]
dead_channels = [[3], []]
"""
)
CHANNELS = CHANNELS.replace("rpc-glass-u", "strips")


def test_a_readout_by_channels():
    detector = parse_detector(CHANNELS, "two.toml")
    wall = detector.panels[1]
    assert wall.sigma == pytest.approx((10 / np.sqrt(12), 5 / np.sqrt(12)))
    assert wall.dead_channels == ((3,), ())
    assert detector.panels[0].dead_channels == ((), ())


@pytest.mark.parametrize(
    "old, new, problem",
    [
        ("pitch_mm = [10, 5]\n", "", "need pitch_mm"),
        ("pitch_mm = [10, 5]", "pitch_mm = [10, 0]", "greater than 0"),
        ("pitch_mm = [10, 5]", "pitch_mm = [7, 5]", "'wall' is 400 mm along u, no whole number"),
        ('readout = "pitch"', 'readout = "pixel"', "'gaussian' or 'pitch'"),
        ('readout = "pitch"', "", "needs resolution_mm"),
        ("dead_channels = [[3], []]", "dead_channels = [[40], []]", "no channel 40 along u"),
        ("dead_channels = [[3], []]", "dead_channels = [[-1], []]", "greater than or equal to 0"),
        ("dead_channels = [[3], []]", "efficiency_map = [[1], [1, 1]]", "of one length"),
        ("dead_channels = [[3], []]", "efficiency_map = [[1.5]]", "less than or equal to 1"),
        ("dead_channels = [[3], []]", "efficiency_map = []", "at least 1"),
        ("dead_channels = [[3], []]", "extra_hits = 0.95", "less than or equal to 0.9"),
        (
            'technology = "gem"',
            'technology = "gem"\ndead_channels = [[1], []]',
            "'top' has dead_channels, but its technology no pitch_mm",
        ),
    ],
)
def test_wrong_channels_are_refused(old, new, problem):
    assert old in CHANNELS
    assert problem in refused(CHANNELS.replace(old, new))


def test_channels_along_what_is_not_measured_do_not_matter():
    text = CHANNELS.replace("pitch_mm = [10, 5]", 'pitch_mm = [10, 7]\nmeasures = "u"')
    assert parse_detector(text, "two.toml").panels[1].sigma == (10 / np.sqrt(12), np.inf)


def test_no_such_layout():
    with pytest.raises(InputError, match="no such layout; did you mean 'baggage'"):
        load_detector("bagage")


def test_a_panel_file_may_have_a_table_of_strips(tmp_path):
    """The layout as stored with hits says the same, although it stands in one file."""
    panel = tmp_path / "strip.toml"
    panel.write_text(
        'size_mm = [1000, 1000]\nreadout = "pitch"\npitch_mm = [10, 10]\n\n'
        "[strips]\ngain_adc = 123\ncharge_spread_mm = [2, 3]\n"
    )
    head = 'name = "l"\n[inspection]\nmin_mm = [-9, -9, -9]\nmax_mm = [9, 9, 9]\n'
    panels = "".join(
        f'[[panel]]\nname = "{name}"\ngroup = "g"\ntechnology = "{panel}"\n'
        f"centre_mm = [0, 0, {z}]\n"
        for name, z in (("a", 100), ("b", 200))
    )
    detector = parse_detector(head + panels, "layout.toml")
    again = parse_detector(detector.text, "stored")
    for one in (detector, again):
        strips = one.panels[0].technology.strips
        assert (strips.gain_adc, strips.charge_spread_mm) == (123, (2, 3))
    assert again.panels[1].technology == detector.panels[1].technology


def test_strips_need_a_readout_by_channels():
    text = """
name = "l"
[inspection]
min_mm = [-9, -9, -9]
max_mm = [9, 9, 9]
[technology.t]
size_mm = [10, 10]
resolution_mm = [1, 1]
strips = { gain_adc = 10 }
[[panel]]
name = "a"
group = "g"
technology = "t"
centre_mm = [0, 0, 100]
[[panel]]
name = "b"
group = "g"
technology = "t"
centre_mm = [0, 0, 200]
"""
    with pytest.raises(InputError, match="strips are of a readout by channels"):
        parse_detector(text, "layout.toml")
