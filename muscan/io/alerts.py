"""Alert files (JSON)."""

from __future__ import annotations

import json
from pathlib import Path

from muscan.errors import InputError
from muscan.io.atomic import write_text
from muscan.model import toml
from muscan.model.alerts import AlertReport


def write_alerts(path: Path, report: AlertReport) -> None:
    """Write alerts as JSON, in the form that ``alerts.schema.json`` fixes."""
    write_text(path, json.dumps(report.model_dump(mode="json"), indent=2, allow_nan=False) + "\n")


def read_alerts(path: Path) -> AlertReport:
    """Read alerts.

    Raises
    ------
    InputError
        If the file is missing, not JSON, or not of this form or version.
    """
    text = toml.read_text(path)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            path, f"line {error.lineno}: not valid JSON ({error.msg})", "restore it from its scan"
        ) from error
    except (RecursionError, ValueError) as error:
        raise InputError(path, "is nested too deeply, or has a number too long") from error
    if not isinstance(data, dict) or data.get("format") != "muscan-alerts":
        raise InputError(path, "is not a muscan-alerts file")
    if isinstance(data.get("format_version"), int) and data["format_version"] > 1:
        raise InputError(
            path,
            f"has version {data['format_version']}; this muscan reads up to 1",
            "update muscan",
        )
    return toml.validate(AlertReport, data, path)
