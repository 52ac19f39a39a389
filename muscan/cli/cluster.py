"""The option --dask: a cluster for a command's work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from distributed import Client

Dask = Annotated[
    str | None,
    typer.Option(
        help="Work on a Dask cluster: a scheduler's address or file, or N processes here.",
        metavar="ADDRESS|local:N",
        show_default=False,
    ),
]


@contextmanager
def cluster(address: str | None, quiet: bool) -> Iterator[Client | None]:
    """Yield a client of a cluster, None where none is wanted; say where its dashboard is."""
    if address is None:
        yield None
        return
    from muscan.pipeline.distributed import connect

    with connect(address) as client:
        if not quiet:
            workers = len(client.scheduler_info(n_workers=-1)["workers"])
            where = f"dashboard at {client.dashboard_link}"
            print(f"muscan: note: {workers} Dask workers, {where}", file=sys.stderr)
        yield client
