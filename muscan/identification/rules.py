"""Which regions become alerts, and how severe.

A region is no alert by itself: a barrel among boxes stands above its surroundings too. It is one
if a rule of `RULES` fits; the first that fits sets the severity and the reason. A material or a
category on the watch list is an alert as soon as it cannot be excluded, neither by its λ nor by
its mass, and raises the severity of any other rule by one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from muscan.identification.match import Candidates
from muscan.identification.watchlist import WatchRule
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
#: A watched material asks for its severity while it is at least this probable itself.
LEAST_SHARE: Final = 0.02
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
    watched : mapping of str to WatchRule
        Materials on the watch list.
    heaviest_kg : float
        Upper limit of the object's mass.
    """

    scattering_density: float
    relative: float
    kinds: Candidates
    probability: FloatArray
    watched: Mapping[str, WatchRule]
    heaviest_kg: float = float("inf")

    def above(self, limit: float) -> float:
        """Probability that λ is above a limit, taking λ as log-normal."""
        return float(ndtr(np.log(self.scattering_density / limit) / self.relative))

    def of(self, *categories: str) -> float:
        """Probability of the materials of some categories."""
        return float(self.probability[np.isin(self.kinds.categories, categories)].sum())

    def watch_rules(self) -> dict[str, WatchRule]:
        """Return the watched materials that the object is not too light for."""
        return {n: rule for n, rule in self.watched.items() if rule.minimum_kg <= self.heaviest_kg}

    def watched_probability(self) -> float:
        """Probability of the watched materials."""
        return float(self.probability[np.isin(self.kinds.names, list(self.watch_rules()))].sum())

    def least_severity(self) -> Severity:
        """Return the least severity that the watch list asks for what may be there."""
        ranks = [
            SEVERITIES.index(rule.severity)
            for name, rule in self.watch_rules().items()
            if rule.severity and self.probability[self.kinds.names.index(name)] >= LEAST_SHARE
        ]
        return SEVERITIES[max(ranks, default=0)]


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
    why = f"a watched material cannot be excluded ({share:.0%})"
    least = SEVERITIES.index(evidence.least_severity())
    if found is None:
        return SEVERITIES[max(SEVERITIES.index("medium") if not least else 0, least)], why
    severity, reason = found
    raised = min(SEVERITIES.index(severity) + 1, len(SEVERITIES) - 1)
    return SEVERITIES[max(raised, least)], f"{reason}; {why}"
