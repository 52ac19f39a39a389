"""What can go wrong, as exceptions that carry one clear line each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class MuscanError(Exception):
    """Base of every error that muscan raises on purpose."""


class InputError(MuscanError):
    """The user's input or options are wrong.

    Parameters
    ----------
    source : str or Path
        The file (or option) that is at fault.
    problem : str
        What is wrong and where in it.
    remedy : str, optional
        What to do about it.
    """

    def __init__(self, source: str | Path, problem: str, remedy: str = "") -> None:
        self.source, self.problem, self.remedy = str(source), problem, remedy
        super().__init__(f"{source}: {problem}" + (f"; {remedy}" if remedy else ""))


class MissingExtraError(MuscanError):
    """A library of an optional extra is not installed.

    Parameters
    ----------
    extra : str
        The extra of muscan that has it.
    library : str
        The library.
    """

    def __init__(self, extra: str, library: str | None) -> None:
        super().__init__(f"this needs {library}: python -m pip install 'muscan[{extra}]'")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint such as ``did you mean 'iron'?``, or the first known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
