"""Branches of the trees in ROOT files as flat arrays, through uproot (extra ``root``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError, MissingExtraError, nearest

#: Uncompressed data read at a time [bytes]; they grow about fivefold on the way to hits.
STEP_BYTES: Final = 16_000_000
#: Entries read at a time at most.
MAX_STEP: Final = 1_000_000
#: ROOT's compression takes data down by no more than this; what claims more is damaged.
MAX_COMPRESSION: Final = 10_000
#: What the first look at a file may reach for beyond its end [bytes].
MARGIN_BYTES: Final = 1_000_000
_MAGIC: Final = b"root"
_ELEMENT: Final = re.compile(r"(.+)\[(\d+)\]")


@dataclass(frozen=True)
class Branch:
    """Some entries of a branch.

    Attributes
    ----------
    values : (n,) array
        Of all entries, one after the other.
    counts : (e,) int64 or None
        Number of values in each entry; None where each has one, as a flat branch does.
    """

    values: NDArray[Any]
    counts: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.values if self.counts is None else self.counts)

    def join(self, other: Branch) -> Branch:
        """Return the entries of both."""
        values = np.concatenate([self.values, other.values])
        if self.counts is None or other.counts is None:
            return Branch(values, None)
        return Branch(values, np.concatenate([self.counts, other.counts]))

    def part(self, entries: int) -> tuple[Branch, Branch]:
        """Return the first entries, and the others."""
        if self.counts is None:
            return Branch(self.values[:entries], None), Branch(self.values[entries:], None)
        cut = int(self.counts[:entries].sum())
        head = Branch(self.values[:cut], self.counts[:entries])
        return head, Branch(self.values[cut:], self.counts[entries:])


class Tree:
    """A tree of an open file; made by `open_tree`.

    Attributes
    ----------
    path : Path
        Of the file.
    entries : int
        Number of its entries.
    names : tuple of str
        Of all its branches.
    """

    def __init__(self, tree: Any, path: Path) -> None:
        self.path = path
        self._branches: dict[str, Any] = {}
        self._rest: dict[str, tuple[int, Branch]] = {}
        for branch in tree.itervalues(recursive=True):
            self._branches.setdefault(branch.name, branch)
        self.names = tuple(self._branches)
        self.entries = int(tree.num_entries)
        if not 0 <= self.entries <= MAX_COMPRESSION * max(path.stat().st_size, 1):
            raise InputError(path, f"is damaged ({self.entries} entries)", "copy it again")

    def has(self, column: str) -> bool:
        """Tell whether there is a branch of that name, or of ``name[element]``."""
        return self._split(column) is not None

    def check(self, columns: Sequence[str]) -> None:
        """Refuse columns that are not there or do not hold numbers.

        Raises
        ------
        InputError
            If a column is no branch, or its branch holds no plain numbers.
        """
        for column in columns:
            found = self._split(column)
            if found is None:
                raise InputError(
                    self.path,
                    f"the tree has no branch '{column}'",
                    f"{nearest(column, map(_shown, self.names))}; a mapping tells "
                    "which branch is what",
                )
            with _reading(self.path, f"branch '{column}'"):
                self._number_type(found[0], column)

    def is_flat(self, column: str) -> bool:
        """Tell whether a checked column has one value an entry."""
        found = self._split(column)
        assert found is not None
        name, element = found
        if element is not None:
            return True
        interpretation = self._branches[name].interpretation
        return not hasattr(interpretation, "content") and not interpretation.to_dtype.shape

    def steps(self, columns: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Yield ranges of entries of which the columns take about `STEP_BYTES`."""
        names = {found[0] for found in map(self._split, columns) if found is not None}
        size = sum(int(self._branches[name].uncompressed_bytes) for name in names)
        each = max(size / max(self.entries, 1), 1.0)
        step = int(min(max(STEP_BYTES / each, 1), MAX_STEP))
        for start in range(0, self.entries, step):
            yield start, min(start + step, self.entries)

    def read(self, column: str, start: int, stop: int) -> Branch:
        """Read entries of a checked column.

        Raises
        ------
        InputError
            If the data are damaged.
        """
        found = self._split(column)
        assert found is not None
        name, element = found
        with _reading(self.path, f"branch '{column}', entries {start} to {stop - 1}"):
            branch = self._whole_baskets(name, start, stop)
        return branch if element is None else _element(branch, element)

    def _whole_baskets(self, name: str, start: int, stop: int) -> Branch:
        """Read entries, keeping what the last basket has beyond them: it may be most of a file."""
        source = self._branches[name]
        first, branch = self._rest.pop(name, (start, None))
        if branch is None or first != start:
            first, branch = start, None
        end = start + (0 if branch is None else len(branch))
        if end < stop:
            offsets = np.asarray(source.entry_offsets)
            beyond = offsets[(offsets >= stop) & (offsets <= self.entries)]
            until = int(beyond.min()) if len(beyond) else stop
            more = _as_branch(source, end, until)
            if len(more) != until - end:
                raise ValueError(f"holds {len(more)} entries")
            branch = more if branch is None else branch.join(more)
        assert branch is not None
        wanted, rest = branch.part(stop - start)
        if len(rest):
            self._rest[name] = stop, rest
        return wanted

    def _split(self, column: str) -> tuple[str, int | None] | None:
        """Return the name and the element that a column means; None where there is no such."""
        if column in self._branches:
            return column, None
        match = _ELEMENT.fullmatch(column)
        if match and match[1] in self._branches and len(match[2]) < 9:
            return match[1], int(match[2])
        return None

    def _number_type(self, name: str, column: str) -> None:
        interpretation = self._branches[name].interpretation
        content = getattr(interpretation, "content", interpretation)
        dtype = getattr(content, "to_dtype", None)
        jagged = content is not interpretation
        if dtype is None or dtype.base.kind not in "iufb" or (jagged and dtype.shape):
            raise InputError(
                self.path,
                f"branch '{column}' holds {_shown(self._branches[name].typename)}, not numbers",
                "give a branch of numbers or of vectors of numbers",
            )


def _as_branch(branch: Any, start: int, stop: int) -> Branch:
    import awkward

    if not hasattr(branch.interpretation, "content"):
        found = branch.array(entry_start=start, entry_stop=stop, library="np")
        if found.ndim == 1:
            return Branch(found, None)
        each = int(np.prod(found.shape[1:]))
        return Branch(found.reshape(-1), np.full(len(found), each, np.int64))
    jagged = branch.array(entry_start=start, entry_stop=stop, library="ak")
    return Branch(
        awkward.to_numpy(awkward.flatten(jagged, axis=1)),
        awkward.to_numpy(awkward.num(jagged, axis=1)).astype(np.int64),
    )


def _element(branch: Branch, element: int) -> Branch:
    """Return one element of each entry as float64, NaN where an entry is too short."""
    values, counts = branch.values, branch.counts
    if counts is None:
        counts = np.ones(len(values), np.int64)
    picked = np.full(len(counts), np.nan)
    long_enough = counts > element
    starts = np.cumsum(counts) - counts
    picked[long_enough] = values[starts[long_enough] + element]
    return Branch(picked, None)


@contextmanager
def open_tree(path: Path, name: str | None) -> Iterator[Tree]:
    """Open a tree of a ROOT file, the only one unless its name is given.

    What the file tells of its own classes is not used, so that nothing in it is compiled or run:
    branches of numbers and of vectors of numbers need none of it.

    Raises
    ------
    InputError
        If the file is not ROOT's or is damaged, or has no such tree.
    MissingExtraError
        If uproot is not installed.
    """
    with path.open("rb") as raw:
        if raw.read(len(_MAGIC)) != _MAGIC:
            raise InputError(path, "is not a ROOT file", "give a file that ROOT or uproot wrote")
    try:
        import uproot
        import uproot.source.file
    except ImportError as error:
        raise MissingExtraError("root", error.name) from error

    class DataOnly(uproot.reading.ReadOnlyFile):  # type: ignore[misc]
        """A file whose class descriptions are left alone: uproot would compile them."""

        @property
        def streamers(self) -> dict[str, Any]:
            return {}

    class Bounded(uproot.source.file.MultithreadedFileSource):  # type: ignore[misc]
        """A file of which no more is asked for than it has: room would be made for it."""

        def chunk(self, start: int, stop: int) -> Any:
            return super().chunk(start, self._bounded(stop))

        def chunks(self, ranges: Any, notifications: Any) -> Any:
            listed = [(start, self._bounded(stop)) for start, stop in ranges]
            return super().chunks(listed, notifications)

        def _bounded(self, stop: int) -> int:
            if stop > self.num_bytes + MARGIN_BYTES:
                raise ValueError(f"asks for byte {stop} of {self.num_bytes}")
            return stop

    with _reading(path, ""):
        file = DataOnly(
            str(path),
            handler=Bounded,
            num_workers=1,
            object_cache=None,
            array_cache=None,
        )
    try:
        with _reading(path, ""):
            folder = file.root_directory
            tree = Tree(folder[_tree_name(folder, name, path)], path)
        yield tree
    finally:
        file.close()


def _tree_name(folder: Any, name: str | None, path: Path) -> str:
    classes: dict[str, str] = {
        key.partition(";")[0]: kind for key, kind in folder.classnames(recursive=True).items()
    }
    trees = sorted(key for key, kind in classes.items() if kind in ("TTree", "TNtuple", "TNtupleD"))
    if name is None:
        if len(trees) == 1:
            return trees[0]
        known = f"has {len(trees)} trees" + (
            f": {', '.join(map(_shown, trees[:8]))}" if trees else ""
        )
        hint = "name one as 'tree' in the mapping" if trees else "write the data as a TTree"
        raise InputError(path, known, hint)
    if name in trees:
        return name
    if name in classes:
        problem = f"'{name}' is a {_shown(classes[name])}, not a TTree"
        raise InputError(path, problem, "write the data as a TTree")
    raise InputError(path, f"has no tree '{name}'", nearest(name, map(_shown, trees)))


def _shown(name: str) -> str:
    """Return a name from a file as it may stand in a line."""
    return "".join(c if c.isprintable() else "?" for c in name[:60])


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Say in one line that a file is damaged, whatever uproot meets in it."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        # A compression that needs one more library.
        raise InputError(path, f"needs the library {error.name}", "install it by pip") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        where = f"{what}: " if what else ""
        raise InputError(
            path, f"{where}is damaged or of an unknown kind ({reason})", "copy it again"
        ) from error
