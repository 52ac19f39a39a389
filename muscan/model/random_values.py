"""Random values in files: ``{ uniform = [1, 2] }``, ``{ whole = [1, 6] }``, ``{ choose = […] }``.

A string ``"$name"`` (or ``"$name.key"`` where the value is a table) stands for a value drawn
before under that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field, model_validator

from muscan.errors import InputError, nearest
from muscan.model import toml

_DIGITS: Final = 4


class UniformSpec(toml.Spec):
    """A number anywhere between two, to four decimals."""

    uniform: tuple[float, float]

    @model_validator(mode="after")
    def _ordered(self) -> UniformSpec:
        if self.uniform[0] > self.uniform[1]:
            raise ValueError("the lower limit comes first")
        return self


class WholeSpec(toml.Spec):
    """A whole number between two, both included."""

    whole: tuple[int, int]

    @model_validator(mode="after")
    def _ordered(self) -> WholeSpec:
        if self.whole[0] > self.whole[1]:
            raise ValueError("the lower limit comes first")
        return self


class ChooseSpec(toml.Spec):
    """One of some values, which may be random or tables themselves."""

    choose: Annotated[list[Any], Field(min_length=1)]
    weights: list[Annotated[float, Field(ge=0)]] | None = None

    @model_validator(mode="after")
    def _one_weight_each(self) -> ChooseSpec:
        if self.weights is not None and (
            len(self.weights) != len(self.choose) or not sum(self.weights)
        ):
            raise ValueError("give one weight for each choice, not all zero")
        return self


_KINDS: Final[dict[str, type[toml.Spec]]] = {
    "uniform": UniformSpec,
    "whole": WholeSpec,
    "choose": ChooseSpec,
}


def _kind(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return None
    return next((name for name in _KINDS if name in value), None)


def is_random(value: Any) -> bool:
    """Return whether there is anything to draw in a value of a file."""
    if _kind(value):
        return True
    if isinstance(value, Mapping):
        return any(map(is_random, value.values()))
    if isinstance(value, list):
        return any(map(is_random, value))
    return isinstance(value, str) and value.startswith("$")


class Drawer:
    """Draws the random values of a file.

    Parameters
    ----------
    rng : numpy.random.Generator
    source : Path
        The file, for messages.
    """

    def __init__(self, rng: np.random.Generator, source: Path) -> None:
        self.rng, self.source = rng, source
        self.values: dict[str, Any] = {}

    def let(self, name: str, value: Any) -> None:
        """Draw a value, and remember it under a name."""
        self.values[name] = self.draw(value, f"let.{name}")

    def draw(self, value: Any, where: str = "") -> Any:
        """Return a value with everything random in it drawn, in the order of the file.

        Raises
        ------
        InputError
            If a random value is wrong, or a name is not known.
        """
        kind = _kind(value)
        if kind is not None:
            return self._draw_one(kind, value, where or "the file")
        if isinstance(value, Mapping):
            return {k: self.draw(v, f"{where}.{k}" if where else k) for k, v in value.items()}
        if isinstance(value, list):
            return [self.draw(item, f"{where}[{i}]") for i, item in enumerate(value, start=1)]
        if isinstance(value, str) and value.startswith("$"):
            return self._known(value[1:], where)
        return value

    def _draw_one(self, kind: str, value: Any, where: str) -> Any:
        spec = toml.validate(_KINDS[kind], value, f"{self.source}: {where}")
        if isinstance(spec, UniformSpec):
            return round(float(self.rng.uniform(*spec.uniform)), _DIGITS)
        if isinstance(spec, WholeSpec):
            return int(self.rng.integers(spec.whole[0], spec.whole[1] + 1))
        assert isinstance(spec, ChooseSpec)
        weights = np.array(spec.weights or [1.0] * len(spec.choose))
        chosen = int(self.rng.choice(len(weights), p=weights / weights.sum()))
        return self.draw(spec.choose[chosen], where)

    def _known(self, path: str, where: str) -> Any:
        value: Any = self.values
        for part in path.split("."):
            if not isinstance(value, Mapping) or part not in value:
                known = value if isinstance(value, Mapping) else {}
                raise InputError(
                    self.source, f"{where}: no value '${path}' in [let]", nearest(part, known)
                )
            value = value[part]
        return value
