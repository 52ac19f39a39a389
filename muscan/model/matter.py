"""Materials: what a muon meets, with everything that follows from density and composition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muscan.errors import InputError
from muscan.model import composition as chemistry
from muscan.model.composition import DensityEffect
from muscan.model.radiative import radiative_loss
from muscan.model.stopping import (
    MIN_BETA_GAMMA,
    BetheParameters,
    density_effect,
    ionisation_loss,
    plasma_energy,
)
from muscan.units import MM_PER_CM, MUON_MASS_GEV, SCATTERING_DENSITY_X0_MRAD2

FloatArray = NDArray[np.float64]
State = Literal["solid", "liquid", "gas", "packed", "powder"]


@dataclass(frozen=True)
class Material:
    """A material.

    Attributes
    ----------
    name : str
        Its name in the database.
    density_g_cm3 : float
        Typical bulk density, air between packages included.
    composition : mapping of str to float
        Mass fraction of each element by its symbol, sum 1.
    density_range_g_cm3 : tuple of float
        Lowest and highest bulk density that is met, packed loosely and tightly; the typical one
        where none is given.
    category : str
        What kind of thing it is, such as ``"explosive"``.
    hs_chapter : str
        Chapter of the Harmonized System, two digits, or empty.
    state : {"solid", "liquid", "gas", "packed", "powder"}
        ``packed`` and ``powder`` are condensed matter with air between.
    description, source : str
        What it is and where its figures come from.
    aliases : tuple of str
        Other names.
    matter_density_g_cm3 : float or None
        Density of the grains or pieces themselves where it is not that of the bulk. The density
        effect is a matter of nanometres: it sees the grain, not the heap.
    excitation_eV : float or None
        Tabulated mean excitation energy; None to compute it by Bragg's rule.
    tabulated_density_effect : DensityEffect or None
        Tabulated parameters; None for those of the element or a general prescription.
    """

    name: str
    density_g_cm3: float
    composition: Mapping[str, float] = field(hash=False)
    density_range_g_cm3: tuple[float, float] = (math.nan, math.nan)
    category: str = "chemical"
    hs_chapter: str = ""
    state: State = "solid"
    description: str = ""
    source: str = ""
    aliases: tuple[str, ...] = ()
    matter_density_g_cm3: float | None = None
    excitation_eV: float | None = None
    tabulated_density_effect: DensityEffect | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.density_g_cm3) and self.density_g_cm3 > 0):
            raise InputError(
                self.name, f"density {self.density_g_cm3} g/cm³ is not positive", "give it in g/cm³"
            )
        total = math.fsum(self.composition.values())
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise InputError(self.name, f"mass fractions sum to {total:.6g}, not 1")
        object.__setattr__(self, "composition", MappingProxyType(dict(self.composition)))
        if math.isnan(self.density_range_g_cm3[0]):
            object.__setattr__(self, "density_range_g_cm3", (self.density_g_cm3,) * 2)

    def __reduce__(self) -> tuple[object, ...]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _rebuild, (values | {"composition": dict(self.composition)},)

    @cached_property
    def radiation_length_g_cm2(self) -> float:
        """Mass radiation length [g/cm²] (Tsai; mixture rule)."""
        return chemistry.radiation_length(self.composition)

    @property
    def radiation_length_mm(self) -> float:
        """Radiation length [mm]."""
        return self.radiation_length_g_cm2 / self.density_g_cm3 * MM_PER_CM

    @property
    def scattering_density(self) -> float:
        """Scattering density (15 MeV / 3 GeV)² / X0 [mrad²/cm]."""
        return self.mass_scattering_power * self.density_g_cm3

    @property
    def mass_scattering_power(self) -> float:
        """Scattering density of unit density [mrad²/cm per g/cm³]."""
        return SCATTERING_DENSITY_X0_MRAD2 / self.radiation_length_g_cm2

    @cached_property
    def z_over_a(self) -> float:
        """⟨Z/A⟩ [mol/g]."""
        return chemistry.z_over_a(self.composition)

    @cached_property
    def mean_excitation_eV(self) -> float:
        """Mean excitation energy [eV], tabulated or by Bragg's rule."""
        if self.excitation_eV is not None:
            return self.excitation_eV
        phase: Literal["gas", "condensed"] = "gas" if self.state == "gas" else "condensed"
        return chemistry.mean_excitation(self.composition, phase)

    def elements(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return atomic numbers, atomic masses [g/mol] and mass fractions, in order of Z."""
        rows = sorted(
            (float(chemistry.element(s).z), chemistry.element(s).atomic_mass, w)
            for s, w in self.composition.items()
        )
        z, a, fraction = np.array(rows).T
        return z.copy(), a.copy(), fraction.copy()

    def with_density(self, density_g_cm3: float) -> Material:
        """Return the same matter at another bulk density, such as steel goods at 0.6 g/cm³.

        A gas is compressed. Condensed matter is packed: its pieces keep their own density, so its
        mass stopping power stays as it is.

        Raises
        ------
        InputError
            If the density is not positive.
        """
        own = self.matter_density_g_cm3 or self.density_g_cm3
        return replace(
            self,
            density_g_cm3=density_g_cm3,
            density_range_g_cm3=(density_g_cm3, density_g_cm3),
            matter_density_g_cm3=None if self.state == "gas" else own,
        )

    @property
    def known_density_effect(self) -> DensityEffect | None:
        """Tabulated density-effect parameters, its own or its only element's, or None."""
        if self.tabulated_density_effect is None and len(self.composition) == 1:
            return chemistry.element(next(iter(self.composition))).density_effect
        return self.tabulated_density_effect

    @cached_property
    def _bethe(self) -> BetheParameters:
        own = max(self.matter_density_g_cm3 or 0.0, self.density_g_cm3)
        excitation, plasma = self.mean_excitation_eV, plasma_energy(own, self.z_over_a)
        known = self.known_density_effect
        effect = density_effect(excitation, plasma, self.state == "gas", known)
        return BetheParameters(self.z_over_a, excitation, plasma, *effect)

    def bethe_parameters(self) -> BetheParameters:
        """Return what the Bethe formula with density effect needs of this material."""
        return self._bethe

    def mass_stopping_power(
        self,
        momentum_GeV: ArrayLike,
        parts: Literal["total", "ionisation", "radiative"] = "total",
    ) -> FloatArray:
        """Return the mean energy loss of a muon per mass path length.

        Parameters
        ----------
        momentum_GeV : array_like
            Muon momentum [GeV], any shape. Below 5 MeV the loss at 5 MeV is given.
        parts : {"total", "ionisation", "radiative"}
            Which processes to count.

        Returns
        -------
        ndarray, same shape
            Mass stopping power [MeV cm²/g].

        Raises
        ------
        InputError
            If ``parts`` is none of these.
        """
        if parts not in ("total", "ionisation", "radiative"):
            raise InputError("parts", f"no such part '{parts}'", "total, ionisation or radiative")
        momentum = np.asarray(momentum_GeV, dtype=float)
        loss = np.zeros(momentum.shape)
        if parts != "radiative":
            loss = loss + ionisation_loss(self._bethe, momentum)
        if parts != "ionisation":
            slowest = np.maximum(momentum, MIN_BETA_GAMMA * MUON_MASS_GEV)
            for symbol, fraction in self.composition.items():
                loss = loss + fraction * radiative_loss(symbol, slowest)
        return loss


def _rebuild(values: Mapping[str, object]) -> Material:
    return Material(**values)  # type: ignore[arg-type]
