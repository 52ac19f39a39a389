"""What all pages are made with: Jinja templates, pictures by Matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muscan.errors import MissingExtraError

if TYPE_CHECKING:
    import jinja2


def environment() -> jinja2.Environment:
    """Return where the pages' templates are found, and how they are filled in.

    Raises
    ------
    MissingExtraError
        If Jinja or Matplotlib is not installed.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401  (what the pictures need, before any is drawn)
    except ImportError as error:
        raise MissingExtraError("report", error.name) from error
    return jinja2.Environment(
        loader=jinja2.PackageLoader("muscan.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
