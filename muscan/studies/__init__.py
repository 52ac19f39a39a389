"""Studies: how often muscan is right, over many random scenes.

Simulated truth is read here, beside the simulation itself, and nowhere else.
"""

from muscan.studies.kinds import KINDS
from muscan.studies.run import Study, plan, study

__all__ = ["KINDS", "Study", "plan", "study"]
