"""The documentation says only what is so: commands exist, files load, examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from muscan.cli.app import app, register
from muscan.model.detector import load_detector
from muscan.model.scene import load_scene

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return [body for kind, body in _BLOCK.findall(page.read_text("utf-8")) if kind == language]


def commands(page: Path) -> list[list[str]]:
    """Return the words after ``muscan`` of each command in the shell blocks."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|\|?|;", line)]
    return [shlex.split(part, comments=True)[1:] for part in parts if part.startswith("muscan ")]


@pytest.fixture(scope="module")
def group() -> Any:
    register()
    return typer.main.get_command(app)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path, group: Any) -> None:
    for words in commands(page):
        command = group
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            assert words[0] in command.commands, f"no command 'muscan {words[0]}'"
            command, words = command.commands[words[0]], words[1:]
        known = {
            name for option in command.params for name in (*option.opts, *option.secondary_opts)
        }
        known |= {"-h", "--help", "--debug", "--version"}
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= known, f"muscan {command.name}: no option {sorted(given - known)}"


def test_scene_and_layout_of_the_tutorial_load(tmp_path: Path) -> None:
    (scene,) = blocks(ROOT / "docs/tutorial/own-scene.md", "toml")
    (layout,) = blocks(ROOT / "docs/tutorial/own-panels.md", "toml")
    (tmp_path / "my-scene.toml").write_text(scene)
    (tmp_path / "my-layout.toml").write_text(layout)
    assert [body.name for body in load_scene(tmp_path / "my-scene.toml").bodies] == [
        "carton",
        "tungsten block",
    ]
    assert len(load_detector(tmp_path / "my-layout.toml").panels) == 4
