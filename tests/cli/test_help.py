"""What the command line says of itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

import muscan
from muscan.cli import main
from muscan.cli.app import app, register
from muscan.cli.contents import CONTENTS

register()
GROUP = typer.main.get_command(app)
NAMES = [name for names in CONTENTS.values() for name in names]


def leaves(command, words=()):
    """Yield the words of every command that does something."""
    if not hasattr(command, "commands"):
        yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*words, name))


def say(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_version(capsys):
    assert say(capsys, "--version") == f"muscan {muscan.__version__}\n"


def test_the_contents_name_every_command_once():
    assert sorted(NAMES) == sorted(GROUP.commands)


def test_help_reads_like_a_table_of_contents(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # a terminal, where help is cut to fit
    lines = say(capsys, "--help").splitlines()
    for name in NAMES:
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert line.endswith(".")
        assert not line.endswith("..")
        following = lines[lines.index(line) + 1]
        assert not following.startswith("   "), f"the help of {name} takes two lines"


@pytest.mark.parametrize(
    "name", [name for name in NAMES if hasattr(GROUP.commands[name], "commands")]
)
def test_help_of_a_group_is_not_cut_off(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")  # a terminal, where help is cut to fit
    text = say(capsys, name, "--help").partition("Commands:")[2]
    assert all(f"  {inner} " in text for inner in GROUP.commands[name].commands)
    assert "..." not in text


@pytest.mark.parametrize("words", list(leaves(GROUP)), ids=" ".join)
def test_help_of_a_command_has_an_example(capsys, words):
    example = say(capsys, *words, "--help").partition("Example:")[2].split()
    assert example[: len(words) + 1] == ["muscan", *words]


@pytest.mark.parametrize("group", ["materials", "detectors", "scenes"])
def test_groups_list_show_and_check(capsys, group):
    text = say(capsys, group, "--help")
    assert all(word in text for word in ("list", "show", "check"))


def test_import_leaves_optional_and_heavy_libraries_alone():
    code = (
        "import sys, muscan; "
        "print(sorted({'numba', 'napari', 'qtpy', 'dask', 'matplotlib', 'h5py', 'scipy', 'typer'}"
        " & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_public_names_are_pinned_and_there():
    assert sorted(muscan.__all__) == [
        "Detector", "InputError", "Material", "MaterialDatabase", "MaterialMap", "MuscanError",
        "Scene", "Volume", "VoxelGrid", "__version__", "align", "calibrate", "check_manifest",
        "draw_scene", "identify", "import_hits", "load_detector", "load_materials", "load_scene",
        "quality", "read", "reconstruct", "recover", "report", "scan", "simulate", "study",
        "survey", "track", "transport_slab", "watch", "weigh",
    ]  # fmt: skip
    for name in muscan.__all__:
        assert getattr(muscan, name) is not None
        assert callable(getattr(muscan, name)) or name == "__version__"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = muscan.no_such_name
