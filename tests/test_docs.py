"""The documentation says only what is so: commands exist, files load, examples run."""

from __future__ import annotations

import ast
import doctest
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

import muscan
from muscan.cli.app import app, register
from muscan.model.detector import load_detector
from muscan.model.manifest import read_manifest
from muscan.model.scene import load_scene

ROOT = Path(__file__).parent.parent
TEXTS = ("README", "CONTRIBUTING", "CHANGELOG", "detectors/README", "examples/README")
PAGES = [
    *(ROOT / f"{name}.md" for name in (*TEXTS, "materials/README")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return [body for kind, body in _BLOCK.findall(page.read_text("utf-8")) if kind == language]


def commands(page: Path) -> list[list[str]]:
    """Return the words after ``muscan`` of each command: in blocks, indented, and in the text."""
    text = page.read_text("utf-8")
    fenced = "\n".join(blocks(page, "bash") + blocks(page, "text")).replace("\\\n", " ")
    lines = [*fenced.splitlines(), *re.findall(r"^    (muscan .*)", text, re.MULTILINE)]
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|\|?|;", line)]
    spans = re.findall(r"`(muscan [^`]+)`", _BLOCK.sub("", text).replace("\n", " "))
    spans = [re.sub(r"\S*\|\S*|[][…]", " ", span) for span in spans]
    parts += [span for span in spans if not span.startswith("muscan: ")]
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


def test_commands_are_found_in_blocks_in_lists_and_in_the_text() -> None:
    found = commands(ROOT / "docs/scenes.md")
    assert ["scenes", "check", "my-scene.toml"] in found
    assert ["scenes", "draw"] in found
    assert len([words for page in PAGES for words in commands(page)]) > 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_pages_uses_what_there_is(page: Path) -> None:
    for body in blocks(page, "python"):
        tree = ast.parse(body)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("muscan"):
                module = import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "muscan":
                assert hasattr(muscan, node.attr), f"no muscan.{node.attr}"


def test_examples_in_docstrings_run() -> None:
    files = [path for path in (ROOT / "muscan").rglob("*.py") if ">>> " in path.read_text("utf-8")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    results = {name: doctest.testmod(import_module(name)) for name in names}
    assert sum(result.attempted for result in results.values()) > 0
    assert {name: result.failed for name, result in results.items() if result.failed} == {}


def test_the_python_page_has_every_public_name() -> None:
    page = (ROOT / "docs/api.md").read_text("utf-8")
    names = {line.rpartition(".")[2] for line in re.findall(r"^::: (\S+)", page, re.MULTILINE)}
    for members in re.findall(r"members: \[(.*?)\]", page):
        names |= {name.strip() for name in members.split(",")}
    assert set(muscan.__all__) - {"__version__"} <= names


def test_every_page_is_in_the_navigation_and_in_the_index() -> None:
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("nav:")[2]
    assert {page for page in pages if page not in navigation} == set()
    index = "".join(
        (ROOT / "docs" / name).read_text() for name in ("README.md", "formats/README.md")
    )
    assert {page for page in pages if f"({page.removeprefix('formats/')})" not in index} <= {
        "README.md",
        "formats/README.md",
    }


@pytest.mark.parametrize("page", ["howto/operators.md", "formats/manifest.md"])
def test_manifests_of_the_pages_are_sound(page: str, tmp_path: Path) -> None:
    (manifest,) = blocks(ROOT / "docs" / page, "json")
    (tmp_path / "manifest.json").write_text(manifest)
    assert [item.sequence for item in read_manifest(tmp_path / "manifest.json").goods] == [1]


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
