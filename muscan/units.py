"""Constants and the native units: mm, ns, GeV (c = 1), rad, g/cm³; z points up.

Sources: PDG, *Review of Particle Physics* (2024), tables "Physical constants" and
"Atomic and nuclear properties of materials".
"""

from typing import Final

MUON_MASS_GEV: Final = 0.1056583755
ELECTRON_MASS_GEV: Final = 0.51099895e-3
MUON_LIFETIME_NS: Final = 2196.9811
SPEED_OF_LIGHT_MM_PER_NS: Final = 299.792458
AVOGADRO_PER_MOL: Final = 6.02214076e23
FINE_STRUCTURE: Final = 1 / 137.035999084
CLASSICAL_ELECTRON_RADIUS_CM: Final = 2.8179403262e-13

MM_PER_CM: Final = 10.0
MRAD_PER_RAD: Final = 1000.0
S_PER_MIN: Final = 60.0

#: Rossi's scattering constant: theta0 = SCATTERING_CONSTANT / (beta p) * sqrt(x / X0).
SCATTERING_CONSTANT_MEV: Final = 15.0
#: Momentum at which a scattering density is quoted.
REFERENCE_MOMENTUM_GEV: Final = 3.0
#: A scattering density times the radiation length, (15 MeV / 3 GeV)² = 25 mrad².
SCATTERING_DENSITY_X0_MRAD2: Final = (
    SCATTERING_CONSTANT_MEV / REFERENCE_MOMENTUM_GEV / 1000 * MRAD_PER_RAD
) ** 2
#: rad²/mm in one mrad²/cm, the factor from the quoted unit to the native one.
RAD2_PER_MM: Final = 1e-6 / MM_PER_CM
