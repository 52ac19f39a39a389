"""Campaigns: many independent jobs whose results stay on disk, so that a stop costs little.

A job is a function of a small dict of parameters, its seed among them. Each result is one file,
whose name is a hash of the function, the parameters and the version of muscan; a campaign that is
started again does what is missing, and nothing else. Failed jobs count as missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muscan import io
from muscan.errors import InputError
from muscan.pipeline import executor
from muscan.pipeline.common import PathLike, Progress
from muscan.pipeline.executor import Outcome

if TYPE_CHECKING:
    from distributed import Client

Parameters = Mapping[str, Any]
Job = Callable[[Parameters], Mapping[str, Any]]

FORMAT = "muscan-job"
#: Characters of the hash in a file's name: 80 bits, no two jobs share them.
_DIGITS = 20


@dataclass(frozen=True)
class CampaignResult:
    """What a campaign gave.

    Attributes
    ----------
    records : list of dict or None
        The result of each job, in the order of the jobs; None where it failed.
    errors : dict of int to str
        The error of each failed job, by its number.
    n_run : int
        Jobs that were run now; the others were on disk.
    seconds : float
        Processor time of the jobs, those on disk included [s].
    """

    records: list[dict[str, Any] | None]
    errors: dict[int, str]
    n_run: int
    seconds: float

    @property
    def good(self) -> list[dict[str, Any]]:
        """The results of the jobs that did not fail."""
        return [record for record in self.records if record is not None]


def job_name(function: Job, parameters: Parameters) -> str:
    """Return the name under which a job's result is kept.

    Raises
    ------
    InputError
        If the parameters are not plain data.
    """
    what = {
        "function": f"{function.__module__}:{function.__qualname__}",
        "parameters": parameters,
        "muscan": version("muscan"),
    }
    try:
        text = json.dumps(what, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError("campaign", f"parameters are not plain data ({error})") from error
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def run_campaign(
    function: Job,
    jobs: Sequence[Parameters],
    folder: PathLike,
    *,
    workers: int | None = None,
    client: Client | None = None,
    step: str = "jobs",
    progress: Progress | None = None,
) -> CampaignResult:
    """Run the jobs whose results are not in a folder yet, and return the results of all.

    Parameters
    ----------
    function : callable
        Takes a job's parameters and returns plain data; importable by its name, and pure: what
        chance it needs it draws from a seed among the parameters.
    jobs : sequence of mapping
        The parameters of each job, plain data.
    folder : path
        Where the results are kept, ``NAME.json`` each; made if missing. An error is kept in
        ``NAME.error.json`` until the job succeeds.
    workers : int, optional
        Processes; one a processor unless given. With 1 the jobs run in this process.
    client : distributed.Client, optional
        A Dask cluster that runs the jobs instead.
    step : str
        What ``progress`` is told.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    CampaignResult

    Raises
    ------
    InputError
        If the folder cannot be made, a stored result is not one, or every job failed.
    """
    with io.result_folder(Path(folder)) as store:
        names = [job_name(function, parameters) for parameters in jobs]
        records: dict[str, dict[str, Any]] = {}
        seconds, n_run = 0.0, 0
        for name in dict.fromkeys(names):
            stored = _stored(store / f"{name}.json")
            if stored is not None:
                records[name] = stored["result"]
                seconds += stored["seconds"]
        missing = {
            name: parameters
            for name, parameters in zip(names, jobs, strict=True)
            if name not in records
        }
        errors: dict[str, str] = {}
        order, total = list(missing), len(set(names))
        if progress is not None:
            progress(step, (total - len(order)) / max(total, 1))
        for index, outcome in executor.run(
            function, list(missing.values()), workers=workers, client=client
        ):
            name = order[index]
            outcome = _keep(store, name, function, missing[name], outcome)
            n_run, seconds = n_run + 1, seconds + outcome.seconds
            if outcome.error:
                errors[name] = outcome.error
            else:
                records[name] = dict(outcome.value)
            if progress is not None:
                progress(step, (len(records) + len(errors)) / total)
        if names and not records:
            first = next(iter(errors.values()))
            raise InputError(store, f"every job failed, the first with {first}", "mend that first")
        return CampaignResult(
            [records.get(name) for name in names],
            {number: errors[name] for number, name in enumerate(names) if name in errors},
            n_run,
            seconds,
        )


def _stored(path: Path) -> dict[str, Any] | None:
    """Return what a job's file holds, None where there is none."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] == FORMAT:
            return {"result": dict(content["result"]), "seconds": float(content["seconds"])}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(path, "is not the result of a job", "remove it, and the job runs again")


def _keep(
    store: Path, name: str, function: Job, parameters: Parameters, outcome: Outcome
) -> Outcome:
    """Write what became of a job, and return it; a result that is not plain data is an error."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "format_version": 1,
        "muscan_version": version("muscan"),
        "function": f"{function.__module__}:{function.__qualname__}",
        "parameters": dict(parameters),
        "seconds": round(outcome.seconds, 3),
    }
    failed = store / f"{name}.error.json"
    if not outcome.error:
        try:
            # One line: a campaign has thousands of these, and each may hold hundreds of numbers.
            text = json.dumps({**content, "result": outcome.value}, allow_nan=False)
            io.write_text(store / f"{name}.json", text + "\n")
            failed.unlink(missing_ok=True)
            return outcome
        except (TypeError, ValueError) as error:
            outcome = Outcome(error=f"the result is not plain data ({error})")
    content.update(error=outcome.error, traceback=outcome.details)
    io.write_text(failed, json.dumps(content, indent=1) + "\n")
    return outcome
