"""Asking the workers of a Dask cluster over and over for what they hold.

A task takes some 10 ms beside its work, and the call of an actor 2 ms. But an actor is lost with
its worker. So tasks make and keep what is held, and actors only answer for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Actor, ActorFuture, Client, Future

#: Seconds between two looks whether a worker that does not answer is lost.
LOOK_S = 2.0


class Desk:
    """What answers for one thing that a worker holds.

    Parameters
    ----------
    kept : object
    """

    def __init__(self, kept: Any) -> None:
        self._kept = kept

    async def answer(self, function: Callable[..., Any], *common: Any) -> Any:
        """Return ``function(kept, *common)``, beside what other desks of the worker do."""
        return await asyncio.to_thread(function, self._kept, *common)


class Desks:
    """One `Desk` for each thing that is held, at the worker that holds it.

    Parameters
    ----------
    client : distributed.Client
    held : sequence of Future
    """

    def __init__(self, client: Client, held: Sequence[Future]) -> None:
        from distributed import wait

        self.held = held
        wait(held)
        holders = client.who_has(held)
        self._opened: list[Future] = [
            client.submit(
                Desk,
                kept,
                actor=True,
                workers=list(holders[kept.key]),
                allow_other_workers=True,
                pure=False,
            )
            for kept in held
        ]
        self._desks: list[Actor] = [opened.result() for opened in self._opened]

    def ask(self, function: Callable[..., Any], *common: Any) -> Callable[[], list[Any]]:
        """Ask for ``function(kept, *common)`` of everything, and return what waits for it.

        Raises
        ------
        OSError, RuntimeError
            If a worker is lost, when asked or when waited for; and what the function raises.
        """
        asked = [desk.answer(function, *common) for desk in self._desks]
        return lambda: [
            _result(answer, opened) for answer, opened in zip(asked, self._opened, strict=True)
        ]


def _result(answer: ActorFuture, opened: Future) -> Any:
    """Return an answer; of a lost worker some never come."""
    while True:
        try:
            return answer.result(timeout=LOOK_S)
        except TimeoutError:
            if opened.status != "finished":
                raise RuntimeError("a worker is lost") from None
