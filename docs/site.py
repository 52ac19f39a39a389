"""Hooks of mkdocs: pages that are made from the code, so that they cannot become untrue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from typer.main import get_command

ROOT = Path(__file__).resolve().parent.parent
#: Folders of the repository whose README.md is a page of the site, and the page's name.
FOLDERS = {
    "detectors": "shipped-detectors.md",
    "materials": "materials.md",
    "examples": "examples.md",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the page of commands and those of the shipped data."""
    files.append(File.generated(config, "commands.md", content=commands()))
    for folder, page in FOLDERS.items():
        content = (ROOT / folder / "README.md").read_text("utf-8").replace("](../docs/", "](")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links that lead out of docs/ in the repository lead to the page of the site."""
    for folder, page in FOLDERS.items():
        markdown = markdown.replace(f"](../{folder}/README.md)", f"]({page})")
    return markdown


def commands() -> str:
    """Return the help of every command as Markdown, under the headings of `muscan --help`."""
    from muscan.cli.app import app, register
    from muscan.cli.contents import CONTENTS

    register()
    group: Any = get_command(app)
    parts = ["# Commands", group.help]
    for heading, names in CONTENTS.items():
        parts.append(f"## {heading}")
        for name in names:
            parts += _command(group.commands[name], f"muscan {name}", "###")
    return "\n\n".join(parts) + "\n"


def _command(command: Any, title: str, level: str) -> list[str]:
    context = command.context_class(command, info_name=title)
    parts = [f"{level} {title}", f"```text\n{command.get_help(context)}\n```"]
    for name, inner in getattr(command, "commands", {}).items():
        parts += _command(inner, f"{title} {name}", level + "#")
    return parts
