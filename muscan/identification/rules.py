"""Which regions become alerts, and how severe.

A region is no alert by itself: a barrel among boxes stands above its surroundings too. It is one
if a rule of `RULES` fits; the first that fits sets the severity and the reason. A material or a
category on the watch list is an alert as soon as it cannot be excluded, and raises the severity
of any other rule by one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from muscan.identification.match import Candidates
from muscan.model.alerts import SEVERITIES, Severity

FloatArray = NDArray[np.float64]

#: λ above which matter is heavier than structural metal [mrad²/cm]: solid iron has 14.2 and
#: copper 17.4, silver 29 and lead 44.
HEAVY: Final = 22.0
#: λ above which matter is metal [mrad²/cm]: aluminium has 2.8, ore and rock up to 5, titanium
#: 7.0; iron packed at 55 % has 8.
METAL: Final = 8.0
#: A watched material cannot be excluded while it is at least this probable.
NOT_EXCLUDED: Final = 0.1
NUCLEAR: Final = "special-nuclear"
CONTRABAND: Final = ("explosive", "narcotic")


@dataclass(frozen=True)
class Evidence:
    """What is known of a region.

    Attributes
    ----------
    scattering_density : float
        λ [mrad²/cm].
    relative : float
        Standard deviation of its logarithm.
    kinds : Candidates
        Materials.
    probability : ndarray, shape (k,)
        Their posterior.
    watched : frozenset of str
        Materials on the watch list.
    """

    scattering_density: float
    relative: float
    kinds: Candidates
    probability: FloatArray
    watched: frozenset[str]

    def above(self, limit: float) -> float:
        """Probability that λ is above a limit, taking λ as log-normal."""
        return float(ndtr(np.log(self.scattering_density / limit) / self.relative))

    def of(self, *categories: str) -> float:
        """Probability of the materials of some categories."""
        return float(self.probability[np.isin(self.kinds.categories, categories)].sum())

    def watched_probability(self) -> float:
        """Probability of the watched materials."""
        return float(self.probability[np.isin(self.kinds.names, list(self.watched))].sum())


Rule = Callable[[Evidence], "tuple[Severity, str] | None"]


def _nuclear(evidence: Evidence) -> tuple[Severity, str] | None:
    share = evidence.of(NUCLEAR)
    if share >= 0.5 and evidence.above(HEAVY) >= 0.5:
        return "critical", f"special nuclear material is most probable ({share:.0%})"
    return None


def _heavy(evidence: Evidence) -> tuple[Severity, str] | None:
    share = evidence.above(HEAVY)
    if share >= 0.5:
        return "high", "heavier than structural metal"
    if share >= 0.1:
        return "medium", f"may be heavier than structural metal ({share:.0%})"
    return None


def _contraband(evidence: Evidence) -> tuple[Severity, str] | None:
    share = evidence.of(*CONTRABAND)
    if share >= 0.5:
        return "medium", f"an explosive or a narcotic is most probable ({share:.0%})"
    return None


def _metal(evidence: Evidence) -> tuple[Severity, str] | None:
    if evidence.above(METAL) >= 0.5:
        return "low", "dense as metal"
    return None


#: The rules, the most severe first.
RULES: Final[tuple[Rule, ...]] = (_nuclear, _heavy, _contraband, _metal)


def judge(evidence: Evidence) -> tuple[Severity, str] | None:
    """Return severity and reason of a region's alert, or None if it is none."""
    found = next((verdict for rule in RULES if (verdict := rule(evidence))), None)
    share = evidence.watched_probability()
    if share < NOT_EXCLUDED:
        return found
    if found is None:
        return "medium", f"a watched material cannot be excluded ({share:.0%})"
    severity, reason = found
    raised = SEVERITIES[min(SEVERITIES.index(severity) + 1, len(SEVERITIES) - 1)]
    return raised, f"{reason}; a watched material cannot be excluded ({share:.0%})"
