"""Workers elsewhere, among whom the lanes of a reconstruction are dealt.

Lanes are dealt in groups of neighbours, and sums run in one fixed tree over the lanes, so a result
has the same bits for any number of workers, and for none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

Term = TypeVar("Term")
#: First and last row (exclusive) of a lane.
Rows = tuple[int, int]


class Team(Protocol):
    """What a cluster of workers can do for a reconstruction.

    Only the team can look into what it says it holds.
    """

    def size(self) -> int:
        """Return how many can work at a time."""

    def hold(self, make: Callable[..., Any], portions: Sequence[tuple[Any, ...]]) -> Any:
        """Let the workers make and keep ``make(*portion)`` of each portion."""

    def derive(self, function: Callable[..., Any], held: Any, *common: Any) -> Any:
        """Let the workers make and keep ``function(kept, *common)`` of everything held."""

    def results(self, function: Callable[..., Any], held: Any, *common: Any) -> list[Any]:
        """Return ``function(kept, *common)`` of everything that is held, in order."""

    def total(self, function: Callable[..., Any], held: Any, *common: Any) -> Any:
        """Return the sum of `results` (`add_terms`) in the tree's order (`tree_sum`)."""

    def totalling(self, function: Callable[..., Any], held: Any, *common: Any) -> Callable[[], Any]:
        """Let the workers make the `total`, and return what waits for it.

        For what is asked many times: of all ways the one that costs least beside the work.
        """


def groups(workers: int, count: int) -> int:
    """Return into how many groups of neighbours to deal some lanes.

    One for each worker if that makes every group a branch of the tree, else one for each lane.
    """
    size = count // workers if count % workers == 0 else 1
    return workers if size.bit_count() == 1 and size > 1 else count


def grouped_lanes(count: int, team: Team) -> list[Rows]:
    """Return the first and last lane (exclusive) of each group of so many lanes."""
    size = count // groups(team.size(), count)
    return [(first, first + size) for first in range(0, count, size)]


def grouped(rows: Sequence[Rows], team: Team) -> list[tuple[Rows, ...]]:
    """Return the rows of the lanes in each group."""
    return [tuple(rows[first:last]) for first, last in grouped_lanes(len(rows), team)]


def add_terms(a: Any, b: Any) -> Any:
    """Return the sum of two numbers or arrays, or of two tuples of them term by term."""
    if isinstance(a, tuple):
        return tuple(add_terms(x, y) for x, y in zip(a, b, strict=True))
    return a + b


def tree_sum(terms: Sequence[Term]) -> Term:
    """Return the sum of the terms as a tree of pairs of neighbours.

    The order does not depend on where the branches are summed, so that workers may each sum
    their own branch.
    """
    level = list(terms)
    while len(level) > 1:
        pairs = [add_terms(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]
