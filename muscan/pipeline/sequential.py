"""When a running scan may decide: looks at its data, and the error that each may make.

A scan that is looked at often gets more chances to be wrong. Decisions are therefore made only at
muon numbers that grow by `GROWTH`, and each such look spends a part of the probability of a false
alarm: half of it over all looks before the end, 6/π²/(k + 1)² of that half at the k-th, and half
at the end. The parts sum to the whole for any number of looks (a union bound, so it holds
whatever the looks have in common).
"""

from __future__ import annotations

import math
from typing import Final

#: Muons with both tracks at the first decision.
FIRST_MUONS: Final = 2000
#: By which their number grows from decision to decision.
GROWTH: Final = 1.25


def look_number(muons: int) -> int:
    """Return the number of the last decision that is due at a number of muons, −1 before any."""
    if muons < FIRST_MUONS:
        return -1
    return int(math.log(muons / FIRST_MUONS) / math.log(GROWTH) + 1e-9)


def share_of_look(number: int, false_alarm: float) -> float:
    """Return the false alarms a scan that a decision before the end may make."""
    return false_alarm / 2 * 6 / math.pi**2 / (number + 1) ** 2


def share_of_end(false_alarm: float) -> float:
    """Return the false alarms a scan that the decision at the end may make."""
    return false_alarm / 2
