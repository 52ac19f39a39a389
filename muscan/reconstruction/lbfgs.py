"""Limited-memory quasi-Newton minimisation with a diagonal preconditioner.

Nocedal and Wright, *Numerical Optimization* (2006), algorithms 7.4 and 7.5. A solver of its own
because the preconditioner (the information of each voxel) is what makes it converge in tens of
steps, and scipy's takes none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muscan.kernels.vectors import add, dot

FloatArray = NDArray[np.float64]
Objective = Callable[[FloatArray], tuple[float, FloatArray]]
SingleArray = NDArray[np.float32]
#: Steps, changes of the gradient and the inverses of their products, oldest first. They only tell
#: the curvature, and are read from memory twice a step: single precision does.
History = deque[tuple[SingleArray, SingleArray, float]]

#: Pairs of steps and gradient changes that are kept.
MEMORY = 8
#: Largest change of a component in one step. Only the components that would change more are held
#: back: what tells nothing may go far, and must not keep the others from moving.
MAX_CHANGE = 2.0
#: A step must gain this part of what the slope promises.
SUFFICIENT = 1e-4


@dataclass(frozen=True)
class Step:
    """Where a minimisation stands.

    Attributes
    ----------
    point, gradient : ndarray
    value : float
    gain : float
        By how much the last step lowered the objective.
    promise : float
        Half of gᵀHg with H the current inverse curvature: what a quadratic would still gain.
    """

    point: FloatArray
    gradient: FloatArray
    value: float
    gain: float
    promise: float


def minimise(
    objective: Objective,
    start: FloatArray,
    curvature: FloatArray,
    history: History | None = None,
) -> Iterator[Step]:
    """Yield the points of a minimisation until no step helps any more.

    Parameters
    ----------
    objective : callable
        Returns value and gradient.
    start : ndarray
        Where to begin.
    curvature : ndarray
        Positive estimate of the diagonal of the Hessian.
    history : deque, optional
        Pairs of a run on nearly the same objective, to go on with; receives those of this run.
    """
    pairs: History = deque(maxlen=MEMORY) if history is None else history
    point, (value, gradient) = start, objective(start)
    yield Step(point, gradient, value, np.inf, np.inf)
    while True:
        direction = -_inverse_times(gradient, pairs, curvature)
        np.clip(direction, -MAX_CHANGE, MAX_CHANGE, out=direction)
        slope = dot(gradient, direction)
        if slope >= 0:
            if not pairs:
                return
            pairs.clear()
            continue
        size = 1.0
        for _ in range(12):
            trial = point + size * direction
            trial_value, trial_gradient = objective(trial)
            if trial_value <= value + SUFFICIENT * size * slope:
                break
            # The minimum of the parabola through what is known, kept off both ends.
            bend = 2 * (trial_value - value - size * slope)
            size *= float(np.clip(-slope * size / bend, 0.1, 0.5))
        else:
            if not pairs:
                return
            pairs.clear()
            continue
        step = (trial - point).astype(np.float32)
        change = (trial_gradient - gradient).astype(np.float32)
        product = dot(step, change)
        if product > 1e-10 * np.sqrt(dot(step, step) * dot(change, change)):
            pairs.append((step, change, 1.0 / product))
        gain = value - trial_value
        point, value, gradient = trial, trial_value, trial_gradient
        yield Step(point, gradient, value, gain, -0.5 * slope)


def _inverse_times(
    gradient: FloatArray,
    pairs: History,
    curvature: FloatArray,
) -> FloatArray:
    """Return the inverse Hessian times the gradient by the two-loop recursion."""
    rest = gradient.copy()
    factors = []
    for step, change, inverse in reversed(pairs):
        factor = inverse * dot(step, rest)
        factors.append(factor)
        add(rest, -factor, change)
    if pairs:
        step, change, inverse = pairs[-1]
        rest *= 1.0 / (inverse * dot(change, change / curvature))
    rest /= curvature
    for (step, change, inverse), factor in zip(pairs, reversed(factors), strict=True):
        add(rest, factor - inverse * dot(change, rest), step)
    return rest
