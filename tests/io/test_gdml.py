"""GDML to scenes; the files are written here as text."""

from __future__ import annotations

import json
import logging
import random
import re
import subprocess
import sys
from collections import Counter
from math import pi
from pathlib import Path

import numpy as np
import pytest

# 0.8 GB, in an extra of its own, which the gate installs.
pytest.importorskip("pyg4ometry")

import muscan
from muscan.errors import InputError
from muscan.io import read_gdml
from muscan.io.gdml_reader import load
from muscan.model.composition import formula_fractions
from muscan.model.material import load_materials
from muscan.model.pose import rotation_matrix
from muscan.model.scene import load_scene

DEFINE = """
    <constant name="side" value="10*2"/>
    <constant name="wide" value="side^2/10"/>
    <quantity name="deep" type="length" value="50" unit="cm"/>
    <position name="at" x="1" y="2" z="3" unit="cm"/>
    <rotation name="turn" x="30" y="20" z="50" unit="deg"/>"""
MATERIALS = """
    <isotope name="U235" Z="92" N="235"><atom unit="g/mole" value="235.04"/></isotope>
    <isotope name="U238" Z="92" N="238"><atom unit="g/mole" value="238.05"/></isotope>
    <element name="heu"><fraction ref="U235" n="0.9"/><fraction ref="U238" n="0.1"/></element>
    <element name="Oxygen" formula="O" Z="8"><atom value="15.999"/></element>
    <element name="Hydrogen" formula="H" Z="1"><atom value="1.008"/></element>
    <material name="Lead0x55d12a8b40" Z="82"><D value="11.35"/><atom value="207.2"/></material>
    <material name="Oxide"><D value="10.97" unit="g/cm3"/>
      <composite n="1" ref="heu"/><composite n="2" ref="Oxygen"/></material>
    <material name="Brine" state="liquid"><D unit="kg/m3" value="1200"/>
      <fraction n="0.9" ref="G4_WATER"/><fraction n="0.1" ref="Lead0x55d12a8b40"/></material>"""
SOLIDS = """
    <box name="all" x="4" y="4" z="4" lunit="m"/>
    <box name="brick" x="side" y="wide" z="100"/>
    <orb name="ball" r="2" lunit="cm"/>
    <tube name="pipe" rmin="40" rmax="50" z="deep" startphi="90" deltaphi="360" aunit="deg"/>
    <tube name="rod" rmax="3.9" z="40" deltaphi="2*pi" lunit="cm"/>
    <sphere name="shell" rmin="5" rmax="6" deltaphi="360" deltatheta="180" aunit="deg" lunit="cm"/>
    <box name="tiny" x="4" y="6" z="8"/>"""
VOLUMES = """
    <volume name="Tiny"><materialref ref="G4_W"/><solidref ref="tiny"/></volume>
    <volume name="Brick"><materialref ref="Lead0x55d12a8b40"/><solidref ref="brick"/>
      <physvol name="tiny"><volumeref ref="Tiny"/><position x="1" y="2" z="3"/>
        <rotation z="-90" unit="deg"/></physvol></volume>
    <volume name="Ball"><materialref ref="Oxide"/><solidref ref="ball"/></volume>
    <volume name="Rod"><materialref ref="Brine"/><solidref ref="rod"/></volume>
    <volume name="Pipe"><materialref ref="G4_Fe"/><solidref ref="pipe"/></volume>
    <volume name="Shell"><materialref ref="G4_Al"/><solidref ref="shell"/></volume>"""
PLACED = """
      <physvol name="brick"><volumeref ref="Brick"/><positionref ref="at"/>
        <rotationref ref="turn"/></physvol>
      <physvol name="brick" copynumber="1"><volumeref ref="Brick"/><position x="300"/></physvol>
      <physvol name="pipe"><volumeref ref="Pipe"/><position x="-500"/>
        <rotation x="90" unit="deg"/></physvol>
      <physvol name="rod"><volumeref ref="Rod"/><position x="-500" y="20"/>
        <rotation x="90" unit="deg"/></physvol>
      <physvol name="shell"><volumeref ref="Shell"/><position y="-0.5" unit="m"/></physvol>
      <physvol><volumeref ref="Ball"/><position y="-520"/></physvol>"""


def gdml(
    define=DEFINE,
    materials=MATERIALS,
    solids=SOLIDS,
    volumes=VOLUMES,
    placed=PLACED,
    air="G4_AIR",
    world="World",
) -> str:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- by hand -->
<gdml xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <define>{define}
  </define>
  <materials>{materials}
  </materials>
  <solids>{solids}
  </solids>
  <structure>{volumes}
    <volume name="World"><materialref ref="{air}"/><solidref ref="all"/>{placed}
    </volume>
  </structure>
  <setup name="Default" version="1.0">
    <world ref="{world}"/>
  </setup>
</gdml>
"""


def scene_of(tmp_path: Path, text: str):
    path = tmp_path / "cargo.gdml"
    path.write_text(text, encoding="utf-8")
    return read_gdml(path, detector="blocks-lab")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return scene_of(tmp_path_factory.mktemp("gdml"), gdml())


def test_bodies_have_their_names_centres_and_masses(scene):
    lead, steel = 11.35e-6, 7.874e-6
    wanted = {
        "brick": ([10, 20, 30], (20 * 40 * 100 - 4 * 6 * 8) * lead),
        "brick 2": ([300, 0, 0], (20 * 40 * 100 - 4 * 6 * 8) * lead),
        "pipe": ([-500, 0, 0], pi * (50**2 - 40**2) * 500 * steel),
        "rod": ([-500, 20, 0], None),
        "shell": ([0, -500, 0], 4 / 3 * pi * (60**3 - 50**3) * 2.699e-6),
        "Ball": ([0, -520, 0], 4 / 3 * pi * 20**3 * 10.97e-6),
        "tiny": (None, 4 * 6 * 8 * 19.3e-6),
        # The brick that stands straight: GDML's -90 deg turn the daughter by +90 deg.
        "tiny 2": ([301, 2, 3], 4 * 6 * 8 * 19.3e-6),
    }
    wanted["rod"] = ([-500, 20, 0], pi * 39**2 * 400 * 1.2e-6)
    names = [body.name for body in scene.bodies]
    masses = dict(zip(names, scene.masses_kg(load_materials()), strict=True))
    assert set(names) == {*wanted, "pipe hole", "shell hole"}
    for name, (centre, mass) in wanted.items():
        body = scene.bodies[names.index(name)]
        assert masses[name] == pytest.approx(mass, rel=2e-3), name
        if centre is not None:
            np.testing.assert_allclose(body.centre, centre, atol=1e-6, err_msg=name)
    straight = scene.bodies[names.index("tiny 2")]
    np.testing.assert_allclose(straight.rotation @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_what_is_in_a_hole_is_put_into_it(scene):
    mothers = {b.name: scene.bodies[b.mother].name for b in scene.bodies if b.mother >= 0}
    assert mothers == {
        "pipe hole": "pipe",
        "rod": "pipe hole",
        "shell hole": "shell",
        "Ball": "shell hole",
        "tiny": "brick",
        "tiny 2": "brick 2",
    }
    assert {b.material for b in scene.bodies if b.name.endswith("hole")} == {"G4_AIR"}
    assert scene.medium == "G4_AIR"


def test_rotations_are_those_of_the_parsers_own_mesh(scene, tmp_path):
    """The corners of a turned box against the mesh that pyg4ometry draws of it."""
    path = tmp_path / "cargo.gdml"
    path.write_text(gdml(), encoding="utf-8")
    import pyg4ometry

    world = pyg4ometry.gdml.Reader(str(path)).getRegistry().getWorldVolume()
    drawn = {pv.name: pv for pv in world.daughterVolumes}["brick"]
    vertices = np.array(drawn.logicalVolume.solid.mesh().toVerticesAndPolygons()[0])
    # As its viewer does: by the inverse of the matrix of the angles.
    turn = np.linalg.inv(np.asarray(pyg4ometry.transformation.tbxyz2matrix(drawn.rotation.eval())))
    there = vertices @ turn.T + np.array(drawn.position.eval())
    bounds = np.array([there.min(axis=0), there.max(axis=0)])
    brick = next(body for body in scene.bodies if body.name == "brick")
    np.testing.assert_allclose(brick.bounds(), bounds, atol=1e-6)


def test_rotations_come_back_from_the_angles_of_the_scene(tmp_path):
    """Quarter turns in all ways, where angles are not unique, and turns of no kind."""
    rng = np.random.default_rng(3)
    turns = [*np.ndindex(4, 4, 4)]
    angles = [*(90.0 * np.array(turns)), *rng.uniform(-360, 360, (30, 3))]
    placed = "".join(
        f'<physvol name="b{n}"><volumeref ref="Rod2"/><position x="{200 * n}"/>'
        f'<rotation x="{x}" y="{y}" z="{z}" unit="deg"/></physvol>'
        for n, (x, y, z) in enumerate(angles)
    )
    volumes = (
        '<volume name="Rod2"><materialref ref="G4_W"/><solidref ref="brick"/></volume>' + VOLUMES
    )
    made = scene_of(tmp_path, gdml(volumes=volumes, placed=placed))
    assert len(made.bodies) == len(angles)
    for body, turn in zip(made.bodies, angles, strict=True):
        # GDML's rotation is of the frame: its inverse turns the body.
        np.testing.assert_allclose(
            body.rotation, rotation_matrix(tuple(turn)).T, atol=1e-9, err_msg=str(turn)
        )
    assert all(body.is_aligned_box() for body in made.bodies[: len(turns)])


def test_materials_are_the_databases_or_written_out(scene):
    inline = {spec.name: spec for spec in scene.inline}
    assert set(inline) == {"Oxide", "Brine"}
    uranium = 0.9 * 235.04 + 0.1 * 238.05
    oxide = scene.materials(load_materials())["Oxide"].composition
    assert oxide["O"] == pytest.approx(2 * 15.999 / (2 * 15.999 + uranium), rel=1e-6)
    brine = scene.materials(load_materials())["Brine"]
    assert (brine.state, brine.density_g_cm3) == ("liquid", pytest.approx(1.2))
    assert brine.composition["Pb"] == pytest.approx(0.1)
    assert brine.composition["H"] == pytest.approx(0.9 * formula_fractions("H2O")["H"], rel=1e-3)
    assert "Lead" in {body.material for body in scene.bodies}


def test_a_material_of_a_known_name_and_other_content_is_the_files(tmp_path):
    heavy = MATERIALS.replace("10.97", "9").replace('"Oxide"', '"Water"')
    made = scene_of(tmp_path, gdml(materials=heavy, volumes=VOLUMES.replace("Oxide", "Water")))
    assert made.materials(load_materials())["Water"].density_g_cm3 == 9


def test_the_scene_is_a_file_that_simulates(scene, tmp_path):
    (tmp_path / "scene.toml").write_text(scene.text, encoding="utf-8")
    again = load_scene(tmp_path / "scene.toml")
    assert [b.name for b in again.bodies] == [b.name for b in scene.bodies]
    hits = muscan.simulate(again, muons=2000, seed=1)
    assert len(hits) > 2000


def test_a_vacuum_scatters_nothing_to_speak_of(tmp_path):
    made = scene_of(tmp_path, gdml(air="G4_Galactic", placed=""))
    assert not made.bodies
    assert made.materials(load_materials())["G4_Galactic"].density_g_cm3 == 1e-25
    assert len(muscan.simulate(made, muons=500, seed=1)) > 0


def test_a_material_as_geant4_writes_it_is_that_of_the_database(tmp_path):
    """Elements of isotopes, in Geant4's own material, defined in full and with its state."""
    materials = (
        MATERIALS
        + """
    <isotope name="N14" N="14" Z="7"><atom unit="g/mole" value="14.0031"/></isotope>
    <isotope name="N15" N="15" Z="7"><atom unit="g/mole" value="15.0001"/></isotope>
    <element name="N"><fraction n="0.99632" ref="N14"/><fraction n="0.00368" ref="N15"/></element>
    <material name="G4_AIR" state="gas"><T unit="K" value="293.15"/>
      <P unit="pascal" value="101325"/><MEE unit="eV" value="85.7"/>
      <D unit="g/cm3" value="0.00120479"/><fraction n="0.7553" ref="N"/>
      <fraction n="0.2318" ref="Oxygen"/><fraction n="0.0129" ref="G4_Ar"/></material>"""
    )
    made = scene_of(tmp_path, gdml(materials=materials))
    assert made.medium == "G4_AIR"
    assert {spec.name for spec in made.inline} == {"Oxide", "Brine"}
    assert "1 mean excitation energies, 2 temperatures and pressures" in made.description
    # The same text with another density is another material.
    thin = materials.replace("0.00120479", "0.0006")
    made = scene_of(tmp_path, gdml(materials=thin))
    air = made.materials(load_materials())["G4_AIR"]
    assert (air.density_g_cm3, air.state) == (0.0006, "gas")


def test_assemblies_are_dissolved(tmp_path):
    volumes = (
        VOLUMES
        + """
    <assembly name="Pair">
      <physvol name="left"><volumeref ref="Ball"/><position x="-30"/></physvol>
      <physvol name="right"><volumeref ref="Ball"/><position x="30"/></physvol>
    </assembly>"""
    )
    placed = """<physvol name="pair"><volumeref ref="Pair"/><position y="100"/>
        <rotation z="90" unit="deg"/></physvol>"""
    made = scene_of(tmp_path, gdml(volumes=volumes, placed=placed))
    centres = {body.name: body.centre.round(9).tolist() for body in made.bodies}
    assert centres == {"left": [0, 130, 0], "right": [0, 70, 0]}


def test_what_light_does_is_left_out_and_told(tmp_path):
    define = DEFINE + '<matrix name="RINDEX" coldim="2" values="2*eV 1.5 3*eV 1.5"/>'
    materials = MATERIALS.replace("<D value", '<property name="RINDEX" ref="RINDEX"/><D value')
    assert "optical" not in scene_of(tmp_path, gdml()).description
    made = scene_of(tmp_path, gdml(define, materials))
    assert "2 optical properties, 1 tables of properties" in made.description


REFUSED = {
    "boolean": (
        {"solids": SOLIDS + '<union name="u"><first ref="brick"/><second ref="rod"/></union>',
         "volumes": VOLUMES.replace('solidref ref="rod"', 'solidref ref="u"')},
        "volume 'Rod': the solid 'u' is a <union>",
    ),
    "part of a tube": (
        {"solids": SOLIDS.replace('"2*pi"', '"pi"')}, "volume 'Rod': the Tubs 'rod' is a part",
    ),
    "part of a sphere": (
        {"solids": SOLIDS.replace('deltatheta="180"', 'deltatheta="90"')}, "volume 'Shell'",
    ),
    "replica": (
        {"placed": '<replicavol number="3"><volumeref ref="Rod"/></replicavol>'},
        "volume 'World': <replicavol> is not supported",
    ),
    "scale": (
        {"placed": PLACED.replace('<position x="300"/>', '<scale x="1" y="1" z="-1"/>')},
        "volume 'World': <scale> is not supported",
    ),
    "other file": (
        {"placed": '<physvol><file name="other.gdml"/></physvol>'}, "<file> is not supported",
    ),
    "loop": (
        {"volumes": VOLUMES + '<loop for="i" from="1" to="3" step="1"/>'},
        "<loop> is not supported",
    ),
    "undefined material": ({"air": "Unobtainium"}, "material 'Unobtainium' is not defined"),
    "no density": (
        {"materials": MATERIALS.replace('<D value="11.35"/>', '<Dref ref="x"/>')},
        "material 'Lead' has no density",
    ),
    "density in another unit": (
        {"materials": MATERIALS.replace("kg/m3", "g/l")}, "has the density '1200 g/l'",
    ),
    "fractions": (
        {"materials": MATERIALS.replace('n="0.9" ref="G4_W', 'n="0.5" ref="G4_W')},
        "mass fractions of sum 0.6, not 1",
    ),
    "atoms and fractions": (
        {"materials": MATERIALS.replace("<composite", "<fraction", 1)},
        "counts both atoms and fractions",
    ),
    "name of a unit": (
        {"define": DEFINE + '<constant name="L" value="1"/>'}, "Redefinition of a constant unit",
    ),
    "name of a number": (
        {"define": DEFINE + '<constant name="e" value="1"/>'}, "defines 'e', which formulae",
    ),
    "text behind a formula": (
        {"define": DEFINE.replace('"10*2"', '"10*2 mm"')}, "wrong formula '10*2 mm'",
    ),
    "unfinished formula": ({"define": DEFINE.replace('"10*2"', '"10*(2"')}, "wrong formula"),
    "code": (
        {"define": DEFINE.replace('"10*2"', "\"__import__('os').system('touch ran')\"")},
        "wrong formula",
    ),
    "undefined name": ({"define": DEFINE.replace('"10*2"', '"10*two"')}, "two"),
    "no number": ({"define": DEFINE.replace('"10*2"', '"1/0"')}, "division by zero"),
    "huge number": ({"define": DEFINE.replace('"10*2"', '"9^9^9^9"')}, "pyg4ometry cannot read"),
    "long formula": ({"define": DEFINE.replace('"10*2"', f'"{"1+" * 600}1"')}, "1201 characters"),
    "unit": ({"solids": SOLIDS.replace('z="40"', 'z="40" lunit="furlong"', 1)
              .replace(' lunit="cm"/>\n    <sphere', '/>\n    <sphere')}, "no number of a known"),
    "unit of an angle": ({"define": DEFINE.replace('"deg"', '"grd"')}, "Invalid unit"),
    "infinite size": ({"solids": SOLIDS.replace('z="100"', 'z="1e308*1e9"')}, "not finite"),
    "negative side": ({"solids": SOLIDS.replace('x="4" y="6"', 'x="-4" y="6"')}, "side of -4 mm"),
    "radii": ({"solids": SOLIDS.replace('rmin="40"', 'rmin="60"')}, "radii 60, 50 and the length"),
    "overlap": (
        {"placed": PLACED.replace('x="300"', 'x="12" y="20"')},
        "bodies 'brick' and 'brick 2' overlap",
    ),
    "outside its mother": (
        {"volumes": VOLUMES.replace('x="1" y="2" z="3"', 'x="9"')}, "out of 'brick",
    ),
    "undefined volume": ({"placed": PLACED.replace('"Ball"', '"Bell"')}, "'Bell' is missing"),
    "one name for two": (
        {"materials": MATERIALS.replace('"Oxide"', '"Oxygen"')}, "Identical material name",
    ),
    "a world without walls": (
        {"volumes": VOLUMES.replace("volume", "assembly", 1).replace("</volume>", "</assembly>", 1)
         .replace('<materialref ref="G4_W"/><solidref ref="tiny"/>', ""),
         "world": "Tiny"}, "the world is no volume",
    ),
    "two worlds": (
        {"placed": "</volume></structure><setup><world ref='World'/></setup><structure><volume>"},
        "2 <s",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_scenes_have_not_is_refused_by_name(case, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.chdir(tmp_path)
    changes, wanted = REFUSED[case]
    with pytest.raises(InputError) as refused:
        scene_of(tmp_path, gdml(**changes))
    assert wanted in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "cargo.gdml"))
    assert refused.value.remedy
    assert not (tmp_path / "ran").exists()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "line 1: not XML"),
        ("<gdml>\n<define>\n</gdml>", "line 3: not XML"),
        ("<svg/>", "is a file of <svg>"),
        ("<gdml/>", "has no <materials>"),
        (
            '<!DOCTYPE gdml [<!ENTITY secret SYSTEM "/etc/passwd">]>\n<gdml>&secret;</gdml>',
            "line 1: defines the entity 'secret'",
        ),
    ],
)
def test_other_files_are_refused(text, wanted, tmp_path):
    with pytest.raises(InputError, match=r"cargo\.gdml") as refused:
        scene_of(tmp_path, text)
    assert wanted in str(refused.value)


def test_damaged_files_are_read_or_refused(tmp_path):
    """One value is another's, or none; whatever comes of it is a scene or one clear line."""
    text, outcomes = gdml(), Counter()
    places = list(re.finditer(r'"[^"]*"', text))[3:]
    values = [
        '""',
        '"-1"',
        '"0"',
        '"1.5"',
        '"1e400"',
        '"nan"',
        '"(-1)^0.5"',
        '"x y"',
        '"世"',
        '"m"',
    ]
    rng = random.Random(11)
    for _ in range(200):
        place = rng.choice(places)
        value = rng.choice([rng.choice(places).group(), *values])
        try:
            scene_of(tmp_path, text[: place.start()] + value + text[place.end() :])
            outcomes["read"] += 1
        except InputError:
            outcomes["refused"] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 5


def test_bodies_and_definitions_that_multiply_do_not_hang(tmp_path):
    doubled = '<constant name="c0" value="1"/>' + "".join(
        f'<constant name="c{n}" value="(c{n - 1}+c{n - 1})/2"/>' for n in range(1, 60)
    )
    assert scene_of(tmp_path, gdml(DEFINE + doubled)).bodies
    nested = VOLUMES + "".join(
        f'<assembly name="n{n}">'
        + 2 * f'<physvol><volumeref ref="{f"n{n - 1}" if n else "Ball"}"/></physvol>'
        + "</assembly>"
        for n in range(40)
    )
    placed = '<physvol><volumeref ref="n39"/></physvol>'
    with pytest.raises(InputError, match="more than 20000 placements"):
        scene_of(tmp_path, gdml(volumes=nested, placed=placed))


def test_the_parser_is_left_as_it_was(tmp_path):
    import pyg4ometry

    log = logging.getLogger("pyg4ometry")
    before = log.level, pyg4ometry.config.doMeshing
    (tmp_path / "cargo.gdml").write_text(gdml(), encoding="utf-8")
    load(tmp_path / "cargo.gdml")
    assert (log.level, pyg4ometry.config.doMeshing) == before


def test_the_command_writes_a_scene_that_checks(tmp_path):
    (tmp_path / "cargo.gdml").write_text(gdml(), encoding="utf-8")
    (tmp_path / "wrong.gdml").write_text(gdml(air="Unobtainium"), encoding="utf-8")

    def run(*words):
        command = [sys.executable, "-c", "from muscan.cli import main; main()", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run("scenes", "import", "cargo.gdml", "-o", "s.toml", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["bodies"] == 10
    assert facts["materials written out"] == ["Brine", "Oxide"]
    checked = run("scenes", "check", "s.toml", "--detector", "blocks-lab")
    assert "10 bodies in blocks-lab, no fault found" in checked.stdout
    refused = run("scenes", "import", "wrong.gdml", "-o", "w.toml")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "w.toml").exists()
