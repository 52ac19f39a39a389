"""Where the panels are, from straight tracks.

A panel has six parameters: its shift along u, v and its normal n [mm], and its rotation about
them [rad]. A shift δ and a rotation ω about its centre change a predicted coordinate by
-w·(δ + ω × ρ), with ρ from the centre to the crossing and w as in `muscan.calibration.lines`. All
parameters of all panels are fitted at once to the residuals of all tracks, whose own parameters
are eliminated track by track, as Millepede does (V. Blobel, hep-ex/0208021). Residuals follow a
mixture over momentum classes (`muscan.calibration.mixture`): the fit is a maximum of its
likelihood, so that a fast muon counts for more than a slow one although no momentum is known.

Straight tracks leave *weak modes* undetermined: shifts and turns of everything together, and for
panels that are all horizontal also shears and the scale of z. They are held where the layout has
them, together with what no panel measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from muscan.calibration.clean import FloatArray, IntArray, Pattern, find_patterns
from muscan.calibration.lines import fit
from muscan.calibration.mixture import (
    POWERS,
    Whitened,
    measured_columns,
    posterior,
    whiten,
)
from muscan.calibration.modes import affine_modes, difference, moved, weak_subspace
from muscan.errors import InputError
from muscan.model.detector import Detector
from muscan.model.events import Hits

#: Names of a panel's parameters, in order.
PARAMETERS = ("shift u", "shift v", "shift n", "turn u", "turn v", "turn n")
#: What the panels are known to beforehand: [mm] and [rad]. A mode that the data tell less well
#: than this is held.
PRIOR_MM, PRIOR_RAD = 10.0, 10e-3
#: Tracks in a chunk of work, so that memory stays small.
CHUNK = 2048
_BLOCK = 16
#: Tracks for the first steps, in which the hits' errors are widened to the misalignment.
FEW_TRACKS = 10_000
#: A widening below this part of a resolution is none.
LEAST_WIDENING = 0.1
#: Chance that a sound track is thrown out.
REJECTED = 1e-4
MAX_STEPS = 12
#: Tracks without which there is no alignment, and the least part of all that must fit.
LEAST_TRACKS, LEAST_PART = 100, 0.5
#: A step below this part of each standard deviation is the last.
CONVERGED = 0.05


@dataclass(frozen=True)
class Alignment:
    """Where the panels were found.

    Attributes
    ----------
    detector : Detector
        The corrected layout.
    correction, error : (p, 6) float64
        Change of each panel's `PARAMETERS` and its standard deviation [mm, rad]; the error is
        without the weak modes, and NaN where nothing is measured.
    weak : (6 p, w) float64
        Orthonormal basis of what was held, in units of ``PRIOR_MM`` and ``PRIOR_RAD``.
    held : tuple of str
        The global modes among them.
    n_tracks, n_rejected : int
        Tracks in the fit, and those thrown out.
    spread_before_mm, spread_after_mm : float
        Robust standard deviation of the residuals about plain straight lines [mm], with all the
        scattering in them.
    steps : int
        Iterations.
    converged : bool
    """

    detector: Detector
    correction: FloatArray
    error: FloatArray
    weak: FloatArray
    held: tuple[str, ...]
    n_tracks: int
    n_rejected: int
    spread_before_mm: float
    spread_after_mm: float
    steps: int
    converged: bool

    def determined(self, parameters: FloatArray) -> FloatArray:
        """Return parameters (p, 6) [mm, rad] without the weak modes."""
        scale = np.tile([PRIOR_MM] * 3 + [PRIOR_RAD] * 3, len(parameters))
        whole = parameters.ravel() / scale
        return np.asarray(((whole - self.weak @ (self.weak.T @ whole)) * scale).reshape(-1, 6))


@dataclass
class _Sums:
    """What the tracks say in sum.

    ``first`` is the expected curvature of the EM step, ``exact`` that of the likelihood,
    ``scores`` the sum of the tracks' g gᵀ; ``classes`` counts the tracks by momentum.
    """

    first: FloatArray
    exact: FloatArray
    scores: FloatArray
    gradient: FloatArray
    classes: FloatArray
    used: int = 0
    rejected: int = 0

    @classmethod
    def empty(cls, n: int) -> _Sums:
        first, exact, scores = np.zeros((3, n, n))
        return cls(first, exact, scores, np.zeros(n), np.zeros(len(POWERS)))


def find_alignment(
    hits: Hits,
    *,
    detector: Detector | None = None,
    reference: Sequence[str] = (),
    max_tracks: int = 50_000,
    tell: Callable[[float], None] | None = None,
) -> Alignment:
    """Find the panels' shifts and rotations from events of straight tracks.

    Parameters
    ----------
    hits : Hits
        Of an empty scan, or one with little in it.
    detector : Detector, optional
        The layout to start from; that of the hits unless given.
    reference : sequence of str
        Panels to hold where they are.
    max_tracks : int
        At most about so many tracks are used, evenly from all of the scan.
    tell : callable, optional
        Called with the fraction done.

    Raises
    ------
    InputError
        If a reference panel is not one, or too few events determine a track.
    """
    layout = hits.detector if detector is None else detector
    n = len(layout.panels)
    held = {layout.panel_index(name) for name in reference}
    free = np.repeat([panel not in held for panel in range(n)], 6)
    scale = np.tile([PRIOR_MM] * 3 + [PRIOR_RAD] * 3, n)
    patterns = _usable(find_patterns(hits)[0], max_tracks)
    total = sum(len(pattern) for pattern in patterns)
    if total < LEAST_TRACKS:
        raise InputError(
            layout.name,
            f"only {total} events have a track that its hits over-determine",
            "align with more data, or with a layout nearer to the truth",
        )
    few = _usable(patterns, FEW_TRACKS)
    spread = widening = _residual_spread(layout, few)
    classes = np.full(len(POWERS), 1 / len(POWERS))
    threshold = LEAST_WIDENING * float(np.min(layout.sigmas))
    found, settled, step = layout, False, 0
    while not settled and step < MAX_STEPS:
        step += 1
        final = widening < threshold
        widening = 0.0 if final else widening
        sums = _accumulate(found, patterns if final else few, widening, classes)
        classes = (sums.classes + 1) / (sums.classes + 1).sum()
        change, error, weak = _solve(sums, free, scale, final)
        found = moved(found, change)
        settled = final and not (np.abs(change) > CONVERGED * error).any()
        widening /= 6
        if tell is not None:
            tell(step / MAX_STEPS)
    if sums.used < max(LEAST_TRACKS, LEAST_PART * (sums.used + sums.rejected)):
        raise InputError(
            layout.name,
            f"only {sums.used} of {sums.used + sums.rejected} tracks fit any place of the panels",
            "align an empty scan, from a layout that is within centimetres",
        )
    return Alignment(
        detector=found,
        correction=difference(layout, found),
        error=error,
        weak=weak,
        held=_held_modes(layout, weak, scale),
        n_tracks=sums.used,
        n_rejected=sums.rejected,
        spread_before_mm=spread,
        spread_after_mm=_residual_spread(found, few),
        steps=step,
        converged=settled,
    )


def _usable(patterns: Sequence[Pattern], most: int) -> list[Pattern]:
    """Return the patterns that over-determine a line, thinned to at most that many tracks."""
    good = [p for p in patterns if len(measured_columns(p)) > 4 and len(p.panels) > 2]
    total = sum(len(pattern) for pattern in good)
    stride = max(1, -(-total // most))
    return [p.take(slice(None, None, stride)) for p in good]


def _residual_spread(detector: Detector, patterns: Sequence[Pattern]) -> float:
    """Return the spread of the residuals about unweighted lines [mm]."""
    found = []
    for pattern in patterns:
        lines = fit(detector, pattern)
        some = pattern.take(lines.sound)
        if len(some):
            seen = whiten(detector, some, lines.take(lines.sound), 1e4)
            found.append(np.abs(seen.y).ravel() * 1e4)
    spread = np.concatenate(found) if found else np.zeros(1)
    return 1.4826 * float(np.median(spread))


def _accumulate(
    detector: Detector,
    patterns: Sequence[Pattern],
    widening: float,
    prior: FloatArray,
) -> _Sums:
    pieces = [piece for pattern in patterns for piece in pattern.chunks(CHUNK)]
    sums = _Sums.empty(6 * len(detector.panels))
    for piece in pieces:
        part = _one_chunk(detector, piece, widening, prior)
        if part is None:
            continue
        own = (6 * piece.panels[:, None] + np.arange(6)).ravel()
        square = np.ix_(own, own)
        sums.first[square] += part.first
        sums.exact[square] += part.exact
        sums.scores[square] += part.scores
        sums.gradient[own] += part.gradient
        sums.classes += part.classes
        sums.used += part.used
        sums.rejected += part.rejected
    return sums


def _one_chunk(
    detector: Detector, pattern: Pattern, widening: float, prior: FloatArray
) -> _Sums | None:
    """Return what tracks of one pattern say about its panels."""
    lines = fit(detector, pattern)
    good = lines.sound
    if not good.any():
        return None
    seen = whiten(detector, pattern.take(good), lines.take(good), widening)
    slowest = (seen.y**2 / (1 + seen.power * POWERS[0])).sum(axis=1)
    kept = slowest < chdtri(seen.y.shape[1], REJECTED)
    lever = _panel_derivatives(detector, pattern.panels, seen)
    y, power = seen.y[kept], seen.power[kept]
    design = (seen.turn @ lever)[kept]
    chance = posterior(y, power, prior)
    inverse = 1 / (1 + power[:, None] * POWERS[:, None])
    weight = np.einsum("nc,ncq->nq", chance, inverse)
    score = np.einsum("nqp,nq->np", design, weight * y)
    first = _gram(design * np.sqrt(weight)[..., None])
    # Curvature of the mixture's likelihood: what not knowing the class takes away.
    per_class = np.einsum("nqp,ncq->ncp", design, inverse * y[:, None]) * np.sqrt(chance)[..., None]
    scores = _gram(score)
    exact = first - _gram(per_class) + scores
    return _Sums(
        first, exact, scores, score.sum(axis=0), chance.sum(axis=0),
        int(kept.sum()), int(len(kept) - kept.sum()),
    )  # fmt: skip


def _gram(rows: FloatArray) -> FloatArray:
    """Return the sum of the rows' outer products."""
    flat = rows.reshape(-1, rows.shape[-1])
    # In blocks so small that no BLAS starts threads for them: those wait for each other longer
    # than they work.
    padded = np.zeros((-(-len(flat) // _BLOCK) * _BLOCK, flat.shape[1]))
    padded[: len(flat)] = flat
    blocks = padded.reshape(-1, _BLOCK, flat.shape[1])
    return np.asarray((np.swapaxes(blocks, 1, 2) @ blocks).sum(axis=0))


def _panel_derivatives(detector: Detector, panels: IntArray, seen: Whitened) -> FloatArray:
    """Return d(coordinate)/d(panel parameters), shape (n, m, 6 k); see the module."""
    n, k = seen.spot.shape[:2]
    full = np.zeros((n, k, 2, k, 6))
    axes = detector.axes[panels]
    for i in range(k):
        turned = np.cross(axes[i][None], seen.spot[:, i, None])
        full[:, i, :, i, :3] = -np.einsum("nax,jx->naj", seen.slope[:, i], axes[i])
        full[:, i, :, i, 3:] = -np.einsum("nax,njx->naj", seen.slope[:, i], turned)
    return full.reshape(n, 2 * k, 6 * k)[:, seen.columns]


def _solve(
    sums: _Sums, free: NDArray[np.bool_], scale: FloatArray, final: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the change of the parameters, their errors, and the basis of what is held."""
    prior = scale[:, None] * scale
    weak, known = weak_subspace(sums.first * prior, free)
    gradient = known.T @ (sums.gradient * scale)
    first, exact, scores = (
        known.T @ (matrix * prior) @ known for matrix in (sums.first, sums.exact, sums.scores)
    )
    curvature = exact if final and np.linalg.eigvalsh(exact)[0] > 0 else first
    change = known @ np.linalg.solve(curvature, gradient)
    inverse = np.linalg.inv(curvature)
    spread = known @ inverse @ scores @ inverse @ known.T
    error = np.sqrt(np.diagonal(spread)) * scale
    silent = np.einsum("ij,ij->i", known, known) < 1e-9
    error[silent] = np.nan
    return (change * scale).reshape(-1, 6), error.reshape(-1, 6), weak


def _held_modes(detector: Detector, weak: FloatArray, scale: FloatArray) -> tuple[str, ...]:
    """Return the global modes that lie in what was held."""
    names = []
    for name, mode in affine_modes(detector).items():
        whole = mode.ravel() / scale
        if np.linalg.norm(weak.T @ whole) > 0.999 * np.linalg.norm(whole):
            names.append(name)
    return tuple(names)
