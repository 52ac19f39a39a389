"""What the command line says of itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

import muscan
from muscan.cli import main

COMMANDS = [
    "scan", "simulate", "import", "track", "reconstruct", "identify", "report", "info",
    "materials", "detectors", "scenes",
]  # fmt: skip


def say(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_version(capsys):
    assert say(capsys, "--version") == f"muscan {muscan.__version__}\n"


def test_help_lists_every_command(capsys):
    text = say(capsys, "--help")
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS[:8])
def test_help_of_a_verb_has_an_example(capsys, command):
    assert f"muscan {command} " in say(capsys, command, "--help").partition("Example:")[2]


@pytest.mark.parametrize("group", COMMANDS[8:])
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
        "Scene", "Volume", "VoxelGrid", "__version__", "identify", "import_hits",
        "load_detector", "load_materials", "load_scene", "read", "reconstruct", "report", "scan",
        "simulate", "track", "transport_slab",
    ]  # fmt: skip
    for name in muscan.__all__:
        assert getattr(muscan, name) is not None
        assert callable(getattr(muscan, name)) or name == "__version__"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = muscan.no_such_name
