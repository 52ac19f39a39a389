"""TOML and JSON files to validated specifications, with errors that name the file, line and key."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from muscan.errors import InputError


class Spec(BaseModel):
    """Base of what is written in files: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SpecT = TypeVar("SpecT", bound=BaseModel)

#: Tables that only one kind of file has, and what to do with such a file.
_KINDS: Final = {
    "inspection": ("a layout", "give it with --detector, or see 'muscan detectors'"),
    "body": ("a scene", "give it as a scene, or see 'muscan scenes'"),
    "container": ("a scene", "give it as a scene, or see 'muscan scenes'"),
    "columns": ("a mapping", "give it with --mapping"),
}


def read_text(path: str | Path) -> str:
    """Return a text file's content.

    Raises
    ------
    InputError
        If the file cannot be read or is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start} is not UTF-8", "save it as UTF-8") from error


def parse(text: str, source: str | Path) -> dict[str, Any]:
    """Parse TOML text; ``source`` names it in errors."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        other = Path(source).suffix not in ("", ".toml", ".h5")
        remedy = "give a TOML file; recorded data come in by 'muscan import'" if other else ""
        raise InputError(source, f"not valid TOML: {error}", remedy) from error
    except (RecursionError, ValueError) as error:
        problem = "not valid TOML: nested too deeply, or a number too long"
        raise InputError(source, problem) from error


def read_json(path: str | Path, kind: str) -> dict[str, Any]:
    """Return the object in a JSON file of a kind such as ``"muscan-alerts"``, version 1.

    Raises
    ------
    InputError
        If it cannot be read, is no JSON, of another kind or a newer version.
    """
    text = read_text(path)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        problem = f"{where}: not valid JSON ({error.msg})"
        raise InputError(path, problem, f"give a {kind} file") from error
    except (RecursionError, ValueError) as error:
        raise InputError(path, "is nested too deeply, or has a number too long") from error
    if not isinstance(data, dict):
        raise InputError(path, "is not a JSON object", f"give a {kind} file")
    if data.get("format") != kind:
        found = f"format is {data['format']!r:.60}" if "format" in data else "format: missing"
        raise InputError(path, found, f"a {kind} file is needed")
    version = data.get("format_version")
    if isinstance(version, int) and version > 1:
        raise InputError(path, f"has version {version}; this muscan reads up to 1", "update muscan")
    return data


def validate(spec: type[SpecT], data: Any, source: str | Path, text: str = "") -> SpecT:
    """Return ``data`` as a specification.

    Raises
    ------
    InputError
        With the first fault: its line where ``text`` is given, its key, and a remedy.
    """
    try:
        return spec.model_validate(data)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        # A misspelt key is both unknown and missing: say the first, which suggests the right one.
        unknown = [fault for fault in faults if fault["type"] == "extra_forbidden"]
        for key in (fault["loc"][0] for fault in unknown if len(fault["loc"]) == 1):
            if key in _KINDS:
                kind, remedy = _KINDS[str(key)]
                problem = f"[{key}] makes it {kind}, which is not what is read here"
                raise InputError(source, problem, remedy) from error
        first = (unknown or faults)[0]
        location = first["loc"]
        key = _dotted(location)
        line = _line_of(text, location)
        where = f"line {line}, {key}" if line else key
        if first["type"] == "extra_forbidden":
            hint = _nearest_key(spec, location)
            raise InputError(source, f"{where}: unknown key", hint) from error
        if first["type"] == "missing":
            raise InputError(source, f"{where}: missing", "add this key") from error
        message = first["msg"].removeprefix("Value error, ")
        shown = repr(first["input"])
        got = f" (got {shown})" if len(shown) <= 60 else ""
        raise InputError(source, f"{where}: {message[0].lower()}{message[1:]}{got}") from error


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"


def _line_of(text: str, location: tuple[int | str, ...]) -> int | None:
    """Line (from 1) of the deepest part of a location that can be found in the text."""
    found: int | None = None
    lines = text.splitlines()
    start = 0
    for depth, part in enumerate(location):
        if isinstance(part, int):
            continue
        following = location[depth + 1] if depth + 1 < len(location) else None
        nth = following if isinstance(following, int) else 0
        name = re.escape(part)
        header = re.compile(rf"^\s*\[\[?\s*([\w-]+\.)*[\"']?{name}[\"']?\s*\]\]?")
        key = re.compile(rf"^\s*[\"']?{name}[\"']?\s*=")
        headers = [i for i in range(start, len(lines)) if header.match(lines[i])]
        keys = [i for i in range(start, len(lines)) if key.match(lines[i])]
        if len(headers) > nth:
            found = headers[nth]
        elif keys:
            found = keys[0]
        else:
            break
        start = found + 1
    return None if found is None else found + 1


def _nearest_key(spec: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Suggest the known key nearest to an unknown one."""
    known: set[str] = set()
    pending: list[Any] = [spec]
    while pending:
        model = pending.pop()
        for name, field in model.model_fields.items():
            alias = field.alias or name
            if alias not in known:
                known.add(alias)
                pending += _models_in(field.annotation)
    close = difflib.get_close_matches(str(location[-1]), sorted(known), n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else "remove it"


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in _models_in(argument)]
