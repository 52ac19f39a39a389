"""What the verbs share: their types, progress, and counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from muscan.errors import InputError
from muscan.model.events import Run

#: Called with the name of a step and the fraction of it that is done, None where unknown.
Progress = Callable[[str, float | None], None]
PathLike = str | Path
#: The sky of simulations, unless told otherwise.
SIMULATED_FLUX: Final = "guan2015"
#: The sky of recorded muons: EcoMug follows spectra that ADAMO measured from 0.1 GeV on (Pagano et
#: al., NIM A 1014:165732, 2021), where most of the scattering comes from.
RECORDED_FLUX: Final = "ecomug"


@contextmanager
def naming(what: str, source: object) -> Iterator[None]:
    """Let an error about ``what`` name the file that it came from."""
    try:
        yield
    except InputError as error:
        if error.source != what or not isinstance(source, (str, Path)):
            raise
        raise InputError(source, error.problem, error.remedy) from error


def counted(
    chunks: Iterable[Any], step: str, total: int | None, progress: Progress | None
) -> Iterator[Any]:
    """Yield the chunks, telling ``progress`` of each."""
    if progress is not None:
        progress(step, 0.0 if total else None)
    for number, chunk in enumerate(chunks, start=1):
        yield chunk
        if progress is not None and total:
            progress(step, number / total)
    if progress is not None:
        progress(step, 1.0)


def assumed_flux(flux: str, run: Run) -> str:
    """Return the flux model from which the spectrum of a run's muons is taken.

    Parameters
    ----------
    flux : str
        As given; empty for the usual one: of simulated muons `SIMULATED_FLUX`, of recorded ones
        `RECORDED_FLUX`.
    run : Run
    """
    return flux or (SIMULATED_FLUX if run.source == "simulated" else RECORDED_FLUX)


def summed(runs: Iterable[Run]) -> Run:
    """Return the first run with the counts of all."""
    listed = list(runs)
    counts: dict[str, int] = {}
    for run in listed:
        for name, count in run.counts.items():
            counts[name] = counts.get(name, 0) + count
    return replace(listed[0], counts=counts)
