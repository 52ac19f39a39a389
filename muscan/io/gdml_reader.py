"""GDML text to the geometry that pyg4ometry makes of it, checked before and while it is read.

pyg4ometry passes over what it does not know, and over some that it knows in part (units of
densities and of orbs, references to densities, text behind a formula). A scene must not differ from
its file in silence, so all of that is refused or put right here first.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.dom import minidom
from xml.parsers import expat

from muscan.errors import InputError, MissingExtraError

#: Larger files are not scenes made of boxes and tubes [bytes].
MAX_BYTES: Final = 64_000_000
#: A formula in a file may have this many characters.
MAX_FORMULA: Final = 1000
#: The solids that scenes have.
SOLIDS: Final = ("box", "tube", "sphere", "orb")
#: What may stand in an element; anything else is refused by name.
_KNOWN: Final = {
    "gdml": {"define", "materials", "solids", "structure", "setup", "userinfo"},
    "define": {"constant", "quantity", "variable", "expression", "position", "rotation", "scale"},
    "materials": {"isotope", "element", "material"},
    "structure": {"volume", "assembly"},
    "volume": {"materialref", "solidref", "physvol", "auxiliary"},
    "assembly": {"physvol", "auxiliary"},
    "physvol": {"volumeref", "position", "positionref", "rotation", "rotationref", "auxiliary"},
}
#: What light does, and how it looks, is nothing to a muon: counted and left out.
_LEFT_OUT: Final = {
    "bordersurface": "optical surfaces",
    "skinsurface": "optical surfaces",
    "opticalsurface": "optical surfaces",
    "property": "optical properties",
    "matrix": "tables of properties",
    "MEE": "mean excitation energies",
    "T": "temperatures and pressures",
    "P": "temperatures and pressures",
    "auxiliary": "auxiliary entries",
}
#: Names that formulae understand as something else.
_TAKEN: Final = {
    "pi", "e", "i", "sin", "cos", "tan", "asin", "acos", "atan", "log", "log10", "exp", "sqrt",
    "pow", "abs", "min", "max",
}  # fmt: skip
_DENSITY_UNITS: Final = {"g/cm3": 1.0, "mg/cm3": 1e-3, "kg/m3": 1e-3}


class Geometry(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    world : object
        pyg4ometry's logical volume of the world.
    left_out : mapping of str to int
        How much of what was left out.
    version : str
        Of pyg4ometry.
    """

    world: Any
    left_out: Counter[str]
    version: str


def load(path: Path) -> Geometry:
    """Read a file with pyg4ometry.

    Raises
    ------
    InputError
        If it is not GDML, or has what scenes have not; the message names it and its volume.
    MissingExtraError
        If pyg4ometry is not installed.
    """
    recursion = sys.getrecursionlimit()
    try:
        import pyg4ometry
        import pyg4ometry.gdml
    except ImportError as error:
        raise MissingExtraError("gdml", error.name) from error
    finally:
        # It raises the limit for the whole process.
        sys.setrecursionlimit(recursion)
    document = _document(path)
    left_out = _leave_out(document)
    _check(document, path)
    _put_right(document, path)
    with _quietly(pyg4ometry):
        try:
            world = _read(document, path)
        # Whatever it stumbles over is the file's; `SystemExit` is how its formulae say so.
        except (Exception, SystemExit) as error:
            problem = f"pyg4ometry cannot read it: {_reason(error)}"
            raise InputError(path, problem, "correct it") from error
    return Geometry(world, left_out, version("pyg4ometry"))


def _reason(error: BaseException) -> str:
    said = " ".join(str(part) for part in error.args)[:200]
    if isinstance(error, KeyError) and len(error.args) == 1:
        return f"'{said}' is missing or not defined"
    return said or type(error).__name__


def attribute(node: Any, name: str) -> str:
    """Return an attribute of an element, empty if it has none."""
    return str(node.getAttribute(name))


def _document(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "give a GDML file") from error
    if len(data) > MAX_BYTES:
        problem = f"has {len(data) / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f}"
        raise InputError(path, problem, "export the volumes of interest alone")

    def entity(name: str, *_: object) -> None:
        # Entities draw in other files, or blow a small file up.
        problem = f"line {parser.CurrentLineNumber}: defines the entity '{name}'"
        raise InputError(path, problem, "write everything into one file (xmllint --noent)")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(data, True)
        document = minidom.parseString(data)
    except expat.ExpatError as error:
        problem = f"line {error.lineno}: not XML ({expat.errors.messages[error.code]})"
        raise InputError(path, problem, "give a GDML file") from error
    except (ValueError, LookupError) as error:
        raise InputError(path, f"not XML ({error})", "give a GDML file") from error
    root: Any = document.documentElement
    if root.tagName != "gdml":
        problem = f"is a file of <{root.tagName}>, not of <gdml>"
        raise InputError(path, problem, "give a GDML file")
    return document


def _elements(document: Any) -> Iterator[Any]:
    """Yield all elements below the root."""
    stack = list(document.documentElement.childNodes)
    while stack:
        node = stack.pop()
        if node.nodeType == node.ELEMENT_NODE:
            yield node
            stack += node.childNodes


def _leave_out(document: Any) -> Counter[str]:
    """Remove comments, white space and what is nothing to a muon, and count the latter."""
    left_out: Counter[str] = Counter()
    stack = [document.documentElement]
    while stack:
        parent = stack.pop()
        kept = []
        for node in parent.childNodes:
            if node.nodeType != node.ELEMENT_NODE:
                # The only text that GDML has is that of <expression>.
                if node.nodeType == node.TEXT_NODE and parent.tagName == "expression":
                    kept.append(node)
            elif node.tagName in _LEFT_OUT:
                left_out[_LEFT_OUT[node.tagName]] += 1
            else:
                kept.append(node)
                stack.append(node)
        # Not by removeChild, which searches the list each time.
        parent.childNodes[:] = kept
    return left_out


def _check(document: Any, path: Path) -> None:
    """Refuse what pyg4ometry would pass over and what scenes do not have."""
    root = document.documentElement
    for section in ("materials", "solids", "structure", "setup", "define"):
        found = len(root.getElementsByTagName(section))
        if found > 1 or (not found and section != "define"):
            problem = f"has {found or 'no'} <{section}>"
            raise InputError(path, problem, "give one of each section")
    solids = {attribute(node, "name"): node.tagName for node in _only(root, "solids").childNodes}
    for node in _elements(document):
        parent = node.parentNode
        if node.tagName not in _KNOWN.get(parent.tagName, {node.tagName}):
            problem = f"{_where(node)}<{node.tagName}> is not supported"
            raise InputError(path, problem, "write it as volumes placed one by one, unscaled")
        if node.tagName == "solidref":
            kind = solids.get(attribute(node, "ref"))
            if kind not in SOLIDS:
                problem = f"{_where(node)}the solid '{attribute(node, 'ref')}' is " + (
                    f"a <{kind}>" if kind else "not defined"
                )
                remedy = f"build the volume of {', '.join(SOLIDS)}, or remove it"
                raise InputError(path, problem, remedy)
        if parent.nodeName == "define" and attribute(node, "name") in _TAKEN:
            problem = f"defines '{attribute(node, 'name')}', which formulae take for their own"
            raise InputError(path, problem, "rename it")
        if node.nodeName == "material":
            _check_material(node, path)
    if not attribute(_only(root, "world"), "ref"):
        raise InputError(path, "<setup> names no world", "give it a <world ref=…>")


def _check_material(node: Any, path: Path) -> None:
    name = f"material '{plain_name(attribute(node, 'name'))}'"
    children = Counter(child.tagName for child in node.childNodes)
    if children["D"] != 1:
        problem = f"{name} has {children['D'] or 'no'} density <D>"
        raise InputError(path, problem, "give one, as a number")
    if children["composite"] and children["fraction"]:
        problem = f"{name} counts both atoms and fractions"
        raise InputError(path, problem, "give mass fractions of all")
    density = _only(node, "D")
    unit = attribute(density, "unit") or "g/cm3"
    try:
        value = float(attribute(density, "value")) * _DENSITY_UNITS[unit]
    except (ValueError, KeyError):
        value = 0.0
    if not 0 < value < 100:
        problem = f"{name} has the density '{attribute(density, 'value')} {unit}'"
        raise InputError(path, problem, "give a positive number, in g/cm3, mg/cm3 or kg/m3")
    density.setAttribute("value", repr(value))
    for atom in node.getElementsByTagName("atom"):
        if attribute(atom, "unit") not in ("", "g/mole", "g/mol"):
            problem = f"{name} has an atomic mass in {attribute(atom, 'unit')}"
            raise InputError(path, problem, "give it in g/mole")


def _put_right(document: Any, path: Path) -> None:
    """Write for pyg4ometry what it would not understand as it stands, and drop unused solids."""
    solids = _only(document, "solids")
    solids.childNodes[:] = [node for node in solids.childNodes if node.tagName in SOLIDS]
    for node in solids.childNodes:
        if node.tagName == "orb":
            # It takes every orb to be in millimetres.
            node.setAttribute("r", f"({attribute(node, 'r')})*{attribute(node, 'lunit') or 'mm'}")
    # It renames placements of equal names, which copies commonly have.
    taken: dict[str, int] = {}
    for node in document.getElementsByTagName("physvol"):
        volume = node.getElementsByTagName("volumeref")
        if len(volume) != 1:
            problem = f"{_where(node)}a placement names no volume"
            raise InputError(path, problem, "give it one <volumeref>")
        name = attribute(node, "name") or attribute(volume[0], "ref")
        node.setAttribute("name", unique(plain_name(name), taken))


def plain_name(name: str) -> str:
    """Return a name without the address that Geant4 appends, and without a slash."""
    return re.sub(r"0x[0-9a-fA-F]{6,}$", "", name).strip().replace("/", "_") or "unnamed"


def unique(name: str, taken: dict[str, int]) -> str:
    """Return a name that is not taken yet, numbered from 2 if need be, and take it."""
    chosen = name
    while chosen in taken:
        taken[name] += 1
        chosen = f"{name} {taken[name]}"
    taken[chosen] = 1
    return chosen


def _only(node: Any, tag: str) -> Any:
    """Return the first element of a tag, an empty one if there is none."""
    found = node.getElementsByTagName(tag)
    return found[0] if found else minidom.Element(tag)


def _where(node: Any) -> str:
    """Return ``volume 'NAME': `` for a node within a volume."""
    while node is not None:
        if node.nodeName in ("volume", "assembly"):
            return f"{node.nodeName} '{plain_name(attribute(node, 'name'))}': "
        node = node.parentNode
    return ""


@contextmanager
def _quietly(pyg4ometry: Any) -> Iterator[None]:
    """Keep pyg4ometry from logging beside our one line, and from meshing every solid."""
    log, meshing = logging.getLogger("pyg4ometry"), pyg4ometry.config.doMeshing
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    pyg4ometry.config.doMeshing = False
    try:
        yield
    finally:
        log.setLevel(level)
        pyg4ometry.config.doMeshing = meshing


def _read(document: Any, path: Path) -> Any:
    """Return the world's logical volume."""
    from pyg4ometry.gdml import Reader

    class DocumentReader(Reader):  # type: ignore[misc]
        """Reads a document that is checked already instead of opening a file."""

        def load(self) -> None:
            self._registry.expressionParser = _strict_formulae()
            self.parseDefines(document)
            self.parseMaterials(document)
            self.parseSolids(document)
            for node in _only(document, "structure").childNodes:
                self.extractStructureNodeData(node)

    registry = DocumentReader(str(path)).getRegistry()
    return registry.logicalVolumeDict[attribute(_only(document, "world"), "ref")]


def _strict_formulae() -> Any:
    """Return pyg4ometry's parser of formulae, made to refuse what it would skip or guess."""
    from antlr4 import CommonTokenStream, InputStream, Token
    from antlr4.error.ErrorListener import ErrorListener
    from pyg4ometry.gdml.GdmlExpression import ExpressionParser
    from pyg4ometry.gdml.GdmlExpression.GdmlExpressionLexer import GdmlExpressionLexer
    from pyg4ometry.gdml.GdmlExpression.GdmlExpressionParser import GdmlExpressionParser

    class Refuse(ErrorListener):  # type: ignore[misc]
        def syntaxError(self, *details: object) -> None:
            raise ValueError(f"wrong formula: {details[4]}")

    class StrictParser(ExpressionParser):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            # Definitions stand in each other: without memory, n of them take 2^n steps.
            self.trees: dict[str, Any] = {}
            self.values: dict[int, Any] = {}

        def parse(self, expression: str) -> Any:
            if expression not in self.trees:
                self.trees[expression] = self.checked_tree(expression)
            return self.trees[expression]

        def evaluate(self, parse_tree: Any, define_dict: Any = None) -> Any:
            if id(parse_tree) not in self.values:
                self.values[id(parse_tree)] = super().evaluate(parse_tree, define_dict)
            return self.values[id(parse_tree)]

        def checked_tree(self, expression: str) -> Any:
            if len(expression) > MAX_FORMULA:
                raise ValueError(f"a formula of {len(expression)} characters")
            lexer = GdmlExpressionLexer(InputStream(expression))
            tokens = CommonTokenStream(lexer)
            parser = GdmlExpressionParser(tokens)
            for part in (lexer, parser):
                part.removeErrorListeners()
                part.addErrorListener(Refuse())
            tree = parser.expression()
            if tokens.LA(1) != Token.EOF:
                raise ValueError(f"wrong formula '{expression}'")
            return tree

    return StrictParser()
