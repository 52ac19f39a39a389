"""The material database: the shipped entries, the user's own over them, names and aliases."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from muscan.errors import InputError, nearest
from muscan.model import material_files
from muscan.model.composition import formula_fractions
from muscan.model.material_files import Entry, MaterialSpec
from muscan.model.matter import Material
from muscan.resources import shipped_folder, user_files, user_folder

__all__ = ["Material", "MaterialDatabase", "add_materials", "check_materials", "load_materials"]

DefaultT = TypeVar("DefaultT")


class MaterialDatabase:
    """Materials by name; aliases, upper case, spaces and underscores are understood too.

    Iterating gives the materials in the alphabetical order of their names.

    Parameters
    ----------
    materials : iterable of Material
        The entries. A name hides an equal alias of another; of equal aliases the last counts.
    """

    def __init__(self, materials: Iterable[Material]) -> None:
        given = {material.name: material for material in materials}
        self._materials = dict(sorted(given.items()))
        aliases = {
            material_files.normalised(alias): name
            for name, material in given.items()
            for alias in material.aliases
        }
        self._index = aliases | {material_files.normalised(name): name for name in given}
        self._version: str | None = None

    def __getitem__(self, name: str) -> Material:
        """Return a material by name or alias; InputError if there is none."""
        known = self._index.get(material_files.normalised(name))
        if known is None:
            raise InputError(
                name, "no such material in the database", nearest(name.lower(), self._index)
            )
        return self._materials[known]

    def get(self, name: str, default: DefaultT | None = None) -> Material | DefaultT | None:
        """Return a material by name or alias, or the default."""
        known = self._index.get(material_files.normalised(name))
        return default if known is None else self._materials[known]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and material_files.normalised(name) in self._index

    def __iter__(self) -> Iterator[Material]:
        return iter(self._materials.values())

    def __len__(self) -> int:
        return len(self._materials)

    def __repr__(self) -> str:
        return f"<MaterialDatabase of {len(self)} materials, version {self.version}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in alphabetical order, without aliases."""
        return tuple(self._materials)

    @property
    def version(self) -> str:
        """Hash of the content, 12 hexadecimal digits; file names and order do not matter."""
        if self._version is None:
            content = [_content(material) for material in self]
            text = json.dumps(content, sort_keys=True, separators=(",", ":"))
            self._version = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self._version


def _content(material: Material) -> list[object]:
    """Everything of a material that can change a result, as plain values."""
    effect = material.tabulated_density_effect
    return [
        material.name,
        sorted(material.aliases),
        material.category,
        material.hs_chapter,
        material.state,
        material.density_g_cm3,
        list(material.density_range_g_cm3),
        material.matter_density_g_cm3,
        material.excitation_eV,
        None if effect is None else list(effect),
        # Ten digits, so that the order in which a mixture was summed does not show.
        {symbol: f"{fraction:.10g}" for symbol, fraction in material.composition.items()},
    ]


def load_materials(files: Sequence[str | Path] = ()) -> MaterialDatabase:
    """Return the shipped materials with the user's own and the given files layered over them.

    Parameters
    ----------
    files : sequence of str or Path
        TOML files of materials; an entry replaces one of the same name of an earlier layer.

    Raises
    ------
    InputError
        If a file cannot be read or an entry is wrong, naming file and line.
    """
    own = user_files("materials")
    if not own and not files:
        return _shipped()
    layers = [_shipped_entries(), material_files.read_layer(own)]
    layers += [material_files.read_layer([Path(file).expanduser()]) for file in files]
    return MaterialDatabase(_resolve(layers).values())


def check_materials(file: str | Path) -> MaterialDatabase:
    """Return the materials that a file defines, checked against those that are shipped.

    Raises
    ------
    InputError
        If the file cannot be read or an entry is wrong, naming file and line.
    """
    layer = material_files.read_layer([Path(file).expanduser()])
    found = _resolve([_shipped_entries(), layer])
    return MaterialDatabase(found[name] for name in layer)


def add_materials(file: str | Path) -> Path:
    """Check a file of materials and copy it to the user's folder, where it is always loaded.

    Returns
    -------
    Path
        The copy.

    Raises
    ------
    InputError
        If the file is wrong, or one of that name is there already.
    """
    source = Path(file).expanduser()
    check_materials(source)
    target = user_folder("materials") / f"{source.stem}.toml"
    if target.exists():
        raise InputError(target, "is there already", "remove it first, or rename your file")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    return target


@lru_cache(maxsize=1)
def _shipped_entries() -> dict[str, Entry]:
    return material_files.read_layer(sorted(shipped_folder("materials").glob("*.toml")))


@lru_cache(maxsize=1)
def _shipped() -> MaterialDatabase:
    return MaterialDatabase(_resolve([_shipped_entries()]).values())


def _resolve(layers: Sequence[Mapping[str, Entry]]) -> dict[str, Material]:
    """Build every entry, the later layers' in place of the earlier ones', parts before mixtures."""
    entries: dict[str, Entry] = {}
    for layer in layers:
        entries.update(layer)
    built: dict[str, Material] = {}
    for name in entries:
        _build_with_parts(name, entries, built, ())
    return built


def _build_with_parts(
    name: str, entries: Mapping[str, Entry], built: dict[str, Material], above: tuple[str, ...]
) -> None:
    if name in built:
        return
    entry = entries[name]
    if name in above:
        loop = " -> ".join((*above[above.index(name) :], name))
        raise InputError(entry.file, f"{entry.where}: the material refers to itself: {loop}")
    for part in entry.spec.parts:
        if part not in entries:
            problem = f"{entry.where}: '{name}' refers to '{part}', no such material"
            raise InputError(entry.file, problem, nearest(part, entries))
        _build_with_parts(part, entries, built, (*above, name))
    built[name] = _build(entry.spec, built)


def _build(spec: MaterialSpec, parts: Mapping[str, Material]) -> Material:
    """Return the material that an entry describes; ``parts`` has those that a mixture names."""
    excitation, own = spec.mean_excitation_eV, spec.matter_density_g_cm3
    effect = spec.density_effect()
    if spec.mixture:
        fractions: dict[str, float] = {}
        scale = 1 / math.fsum(spec.mixture.values())
        for name, weight in spec.mixture.items():
            for symbol, fraction in parts[name].composition.items():
                fractions[symbol] = fractions.get(symbol, 0.0) + weight * scale * fraction
        excitation = excitation or _mixed_excitation(spec.mixture, parts)
        if own is None and spec.state in ("packed", "powder"):
            own = _mixed_density(spec.mixture, parts)
    else:
        fractions = formula_fractions(spec.formula) if spec.formula else dict(spec.elements)
    total = math.fsum(fractions.values())
    like = spec.density_effect_like or max(spec.mixture, key=spec.mixture.__getitem__, default="")
    if effect is None and like and (parts[like].state == "gas") == (spec.state == "gas"):
        # C̄ follows from this material's I and density; only the shape of δ is taken over.
        effect = parts[like].known_density_effect
    return Material(
        name=spec.name,
        density_g_cm3=spec.density_g_cm3,
        composition={symbol: value / total for symbol, value in fractions.items()},
        density_range_g_cm3=spec.density_range_g_cm3 or (spec.density_g_cm3,) * 2,
        category=spec.category,
        hs_chapter=spec.hs_chapter,
        state=spec.state,
        description=spec.description,
        source=spec.source,
        aliases=spec.aliases,
        matter_density_g_cm3=own,
        excitation_eV=excitation,
        tabulated_density_effect=effect,
    )


def _mixed_excitation(mixture: Mapping[str, float], parts: Mapping[str, Material]) -> float:
    """Bragg's rule over the parts of a mixture, which keep the energies that they have alone."""
    weights = {name: weight * parts[name].z_over_a for name, weight in mixture.items()}
    total = math.fsum(weights.values())
    logs = (w * math.log(parts[name].mean_excitation_eV) for name, w in weights.items())
    return math.exp(math.fsum(logs) / total)


def _mixed_density(mixture: Mapping[str, float], parts: Mapping[str, Material]) -> float | None:
    """Density of the condensed parts of a mixture, their volumes added [g/cm³]."""
    condensed = {name: w for name, w in mixture.items() if parts[name].state != "gas"}
    if not condensed:
        return None
    volume = math.fsum(
        w / (parts[name].matter_density_g_cm3 or parts[name].density_g_cm3)
        for name, w in condensed.items()
    )
    return math.fsum(condensed.values()) / volume
