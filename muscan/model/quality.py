"""What the data of a scan say of its detector: checks against limits, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from muscan.model import toml

FloatArray = NDArray[np.float64]

FORMAT: Final = "muscan-quality"
FORMAT_VERSION: Final = 1
#: From the best to the worst.
VERDICTS: Final = ("ok", "warn", "bad")

NotNegative = Annotated[float, Field(ge=0)]
#: Above the first it is a warning, above the second it is bad.
Pair = tuple[NotNegative, NotNegative]


class Limits(toml.Spec):
    """How far each quantity may be off: (warning, bad); a file holds what differs from these.

    A deviation counts only as far as it is sure: ``significance`` standard deviations are taken
    off it first.

    Attributes
    ----------
    rate : tuple of float
        Relative deviation of a panel's rate from what is expected, the panels' median factor
        taken out.
    common_rate : tuple of float
        Relative deviation of that median factor from 1.
    efficiency : tuple of float
        Deviation from the layout's.
    untried : tuple of float
        Fraction of the panels that no track of their group crosses, though it has the panels to.
    offset : tuple of float
        Median residual against the other panels, in resolutions; the largest of the panel's
        cells counts.
    chi2 : tuple of float
        Median χ² per degree of freedom of the tracks.
    bad_chi2 : tuple of float
        Fraction of events whose hits make no track by their χ².
    no_track : tuple of float
        Fraction of events without an incoming track.
    noise : tuple of float
        Noise over the layout's.
    dead_channels, hot_channels : tuple of float
        Fraction of a panel's channels that the layout does not say.
    lost_time : tuple of float
        Fraction of the time in gaps that chance does not make.
    disorder : tuple of float
        Fraction of events whose id or time is before that of the event before.
    duplicates : tuple of float
        Event ids that stand twice.
    """

    rate: Pair = (0.1, 0.3)
    common_rate: Pair = (0.3, 0.6)
    efficiency: Pair = (0.02, 0.1)
    untried: Pair = (0.0, 0.5)
    offset: Pair = (0.5, 3.0)
    chi2: Pair = (2.0, 5.0)
    bad_chi2: Pair = (0.1, 0.3)
    no_track: Pair = (0.3, 0.6)
    noise: Pair = (3.0, 10.0)
    dead_channels: Pair = (0.0, 0.1)
    hot_channels: Pair = (0.0, 0.05)
    lost_time: Pair = (0.01, 0.1)
    disorder: Pair = (0.0, 0.01)
    duplicates: Pair = (0.0, 0.0)
    significance: NotNegative = 5.0

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name}: the limit of a warning must not be above that of bad")
        return self


def load_limits(path: Path | None) -> Limits:
    """Return the limits of a TOML file, the usual ones where it is silent.

    Raises
    ------
    InputError
        If the file cannot be read or is wrong.
    """
    if path is None:
        return Limits()
    text = toml.read_text(path)
    return toml.validate(Limits, toml.parse(text, path), path, text)


@dataclass(frozen=True)
class Check:
    """One quantity against its limits.

    Attributes
    ----------
    name : str
        A name of `Limits`.
    subject : str
        A panel's name, or empty for the whole scan.
    value, error : float
        What was measured, and its standard deviation.
    expected : float
    warn, bad : float
        Limits on the deviation.
    verdict : {"ok", "warn", "bad"}
    text : str
        In words.
    """

    name: str
    subject: str
    value: float
    error: float
    expected: float
    warn: float
    bad: float
    verdict: str
    text: str


def judge(
    limits: Limits,
    name: str,
    value: float,
    text: str,
    *,
    subject: str = "",
    expected: float = 0.0,
    error: float = 0.0,
) -> Check:
    """Return a check of ``abs(value - expected)``, less what chance may make, against its limits.

    A value that is not finite is not known, and no fault.
    """
    warn, bad = getattr(limits, name)
    verdict = "ok"
    if math.isfinite(value):
        sure = abs(value - expected) - limits.significance * (error if math.isfinite(error) else 0)
        verdict = "bad" if sure > bad else "warn" if sure > warn else "ok"
    return Check(name, subject, value, error, expected, warn, bad, verdict, text)


@dataclass(frozen=True)
class PanelQuality:
    """What was seen of one panel.

    Attributes
    ----------
    name : str
    hits : int
    rate_hz, expected_hz : float
        Its hits in a second, and what the flux lets expect; NaN where unknown.
    efficiency, efficiency_error, noise_hz_per_m2 : float
    hit_map : (a, b) float64
        Hits by cell, along u and v.
    residual_maps : (2, c, d) float64
        Median residual of u and of v by cell [mm]; NaN where too few.
    """

    name: str
    hits: int
    rate_hz: float
    expected_hz: float
    efficiency: float
    efficiency_error: float
    noise_hz_per_m2: float
    hit_map: FloatArray
    residual_maps: FloatArray


@dataclass(frozen=True)
class Quality:
    """What was seen of a scan, and what to think of it.

    Attributes
    ----------
    checks : tuple of Check
    panels : tuple of PanelQuality
    facts : mapping
        Run, live time, events and such.
    seconds : (n,) float64
        Events in each interval of ``interval_s``, from the start of the run.
    interval_s : float
    chi2 : (m,) float64
        χ² per degree of freedom of a sample of tracks.
    """

    checks: tuple[Check, ...]
    panels: tuple[PanelQuality, ...]
    facts: Mapping[str, Any]
    seconds: FloatArray
    interval_s: float
    chi2: FloatArray = field(repr=False)

    @property
    def verdict(self) -> str:
        """The worst of the checks' verdicts."""
        return max((check.verdict for check in self.checks), key=VERDICTS.index, default="ok")

    @property
    def reasons(self) -> list[str]:
        """What is not well, the worst first."""
        faults = [check for check in self.checks if check.verdict != "ok"]
        ordered = sorted(faults, key=lambda check: -VERDICTS.index(check.verdict))
        return [f"{check.verdict}: {check.text}" for check in ordered]

    def to_dict(self) -> dict[str, Any]:
        """Return what a machine reads; numbers that are not known are None."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "verdict": self.verdict,
            "reasons": self.reasons,
            "run": dict(self.facts),
            "checks": [_plain(vars(check)) for check in self.checks],
            "panels": [
                _plain(
                    {key: value for key, value in vars(panel).items() if not key.endswith("maps")
                     and not key.endswith("map")}
                )
                for panel in self.panels
            ],
        }  # fmt: skip


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
