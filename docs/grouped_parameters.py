"""Extension of griffe: parameters that a docstring names together get a type each.

numpydoc allows ``spectrum, workers`` over one description. griffe gives all of them the
annotation of the first; told apart, each has its own.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_NAMES = re.compile(r"^( *)(\w+(?:, *\n? *\w+)+)\n((?:\1 +\S.*\n?)+)", re.MULTILINE)


class GroupedParameters(griffe.Extension):
    """Writes a description under each of the names."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Tell the names of a function's parameters apart."""
        if func.docstring is not None:
            names = {parameter.name for parameter in func.parameters}
            func.docstring.value = _NAMES.sub(
                lambda found: _apart(found, names), func.docstring.value
            )


def _apart(found: re.Match[str], known: set[str]) -> str:
    indent, names, description = found.groups()
    each = re.findall(r"\w+", names)
    if not known.issuperset(each):
        return found.group()
    return "".join(f"{indent}{name}\n{description.rstrip()}\n" for name in each)
