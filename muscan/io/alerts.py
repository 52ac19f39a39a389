"""Alert files (JSON)."""

from __future__ import annotations

import json
from pathlib import Path

from muscan.io.atomic import write_text
from muscan.model import toml
from muscan.model.alerts import AlertReport


def write_alerts(path: str | Path, report: AlertReport) -> None:
    """Write alerts as JSON, in the form that ``alerts.schema.json`` fixes."""
    write_text(path, json.dumps(report.model_dump(mode="json"), indent=2, allow_nan=False) + "\n")


def read_alerts(path: str | Path) -> AlertReport:
    """Read alerts.

    Raises
    ------
    InputError
        If the file is missing, not JSON, or not of this form or version.
    """
    return toml.validate(AlertReport, toml.read_json(path, "muscan-alerts"), path)
