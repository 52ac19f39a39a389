"""Hooks of mkdocs: pages that are made from the code, so that they cannot become untrue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from typer.main import get_command

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: Any) -> Files:
    """Add the page of commands and those of the shipped data."""
    files.append(File.generated(config, "commands.md", content=commands()))
    for folder in ("materials", "examples"):
        source = ROOT / folder / "README.md"
        if source.is_file():
            files.append(File.generated(config, f"{folder}.md", content=source.read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links that lead out of docs/ in the repository lead to the page of the site."""
    for folder in ("materials", "examples"):
        markdown = markdown.replace(f"](../{folder}/README.md)", f"]({folder}.md)")
    return markdown


def commands() -> str:
    """Return the help of every command as Markdown."""
    from muscan.cli.app import app, register

    register()
    group: Any = get_command(app)
    context = group.make_context("muscan", [], resilient_parsing=True)
    parts = ["# Commands", group.help]
    for name in group.list_commands(context):
        parts += _command(group.get_command(context, name), f"muscan {name}", context)
    return "\n\n".join(parts) + "\n"


def _command(command: Any, title: str, parent: Any) -> list[str]:
    context = type(parent)(command, info_name=title, parent=None)
    parts = [f"## {title}", f"```text\n{command.get_help(context)}\n```"]
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            parts += [
                part.replace("## ", "### ", 1)
                for part in _command(inner, f"{title} {name}", context)
            ]
    return parts
