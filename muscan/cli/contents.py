"""The help of `muscan` as a table of contents: the commands under headings, in order of use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from typer.core import TyperGroup

#: Commands and groups by heading; one that is not here does not show.
CONTENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "The whole job": ("scan",),
    "Its steps": (
        *("simulate", "import", "track", "reconstruct", "identify", "weigh"),
        *("report", "view", "info", "export"),
    ),
    "Scans that are running": ("watch", "recover", "notify"),
    "Decisions": ("alerts", "manifest", "audit"),
    "The detector itself": ("align", "calibrate", "quality"),
    "Many scans": ("study",),
    "What is shipped, and your own": ("scenes", "detectors", "materials"),
}


class Contents(TyperGroup):
    """The group of all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of the contents."""
        return [name for names in CONTENTS.values() for name in names if name in self.commands]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command and its first sentence under its heading."""
        widest = max(map(len, self.list_commands(ctx)))
        for heading, names in CONTENTS.items():
            rows = [
                (name.ljust(widest), self.commands[name].get_short_help_str(formatter.width))
                for name in names
            ]
            with formatter.section(heading):
                formatter.write_dl(rows)
