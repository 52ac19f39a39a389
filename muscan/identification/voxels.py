"""The material of every voxel.

A voxel's scattering density is first averaged with those neighbours that agree with it, then
matched with the database. Materials whose ranges of λ nearly coincide cannot be told apart voxel
by voxel; they form a group, named after its most probable member, and the probability of a label
is that of its group. The posterior is tabulated over (λ, σ) once, so that a volume costs one
look-up a voxel, whatever the size of the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from muscan.identification.match import Candidates, candidates, posterior
from muscan.identification.segment import known_voxels
from muscan.model.material import MaterialDatabase
from muscan.model.volume import MaterialMap, Volume

FloatArray = NDArray[np.float64]

#: Two ranges of λ belong to one group if their common part is this fraction of what both cover.
OVERLAP: Final = 0.4
#: Neighbours count as much as exp(−d²/2), d their difference in standard deviations; those
#: further apart than this many standard deviations are another material and do not count.
AGREEMENT: Final = 2.5

_SIGMA_BINS: Final = 30
_VALUE_BINS: Final = 1500
_SIGMA_RANGE: Final = (1e-3, 50.0)
_VALUE_RANGE: Final = (-2.0, 200.0)
#: Bins of λ are even in asinh(λ / this): linear about zero, logarithmic above [mrad²/cm].
_LINEAR_BELOW: Final = 0.05


def classify_voxels(
    volume: Volume, materials: MaterialDatabase, *, prior: Mapping[str, float] | None = None
) -> MaterialMap:
    """Return the most probable material, or group of materials, of every voxel.

    Parameters
    ----------
    volume : Volume
        Scattering density with its uncertainty.
    materials : MaterialDatabase
        What the scan may contain.
    prior : mapping of str to float, optional
        See `muscan.identification.match.candidates`.

    Returns
    -------
    MaterialMap
        Label 0 (``unknown``) with probability 0 where nothing is known. A label stands for all
        materials of its group, see `group_members`.

    Raises
    ------
    InputError
        If no voxel of the volume is known.
    """
    known = known_voxels(volume)
    kinds = candidates(materials, prior)
    group = groups(kinds)
    labels_of, probability_of = _table(kinds, group)
    values, sigma = _agreeing_mean(volume, known)
    cell = _sigma_bin(sigma), _value_bin(values)
    labels = np.where(known, labels_of[cell], np.uint16(0))
    probability = np.where(known, probability_of[cell], np.float32(0.0))
    leaders = np.flatnonzero(group == np.arange(len(kinds)))
    position = np.zeros(len(kinds), dtype=np.uint16)
    position[leaders] = np.arange(len(leaders))
    return MaterialMap(
        labels=position[labels],
        probability=probability,
        names=tuple(kinds.names[index] for index in leaders),
        grid=volume.grid,
        materials_version=kinds.version,
    )


def group_members(
    materials: MaterialDatabase, prior: Mapping[str, float] | None = None
) -> dict[str, list[str]]:
    """Return, for each name that a voxel's label can have, the materials for which it stands."""
    kinds = candidates(materials, prior)
    members: dict[str, list[str]] = {}
    for name, leader in zip(kinds.names, groups(kinds), strict=True):
        members.setdefault(kinds.names[leader], []).append(name)
    return members


def groups(kinds: Candidates) -> NDArray[np.int64]:
    """Return the index of the leader of each candidate's group, shape (k,).

    The candidate of the highest prior probability leads, and takes in all whose range of ln λ
    overlaps its own; then the next one that is left. ``unknown`` and ``air`` stay alone.
    """
    low = np.log(np.maximum(kinds.low, 1e-4)) - 0.03
    high = np.log(np.maximum(kinds.high, 1e-4)) + 0.03
    leader = np.full(len(kinds), -1, dtype=np.int64)
    leader[:2] = 0, 1
    for index in np.argsort(-kinds.prior, kind="stable"):
        if leader[index] >= 0:
            continue
        common = np.minimum(high, high[index]) - np.maximum(low, low[index])
        covered = np.maximum(high, high[index]) - np.minimum(low, low[index])
        leader[(leader < 0) & (common >= OVERLAP * covered)] = index
    return leader


def _table(
    kinds: Candidates, group: NDArray[np.int64]
) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Tabulate label (index of the group's leader) and probability over (σ, λ)."""
    sigmas = np.geomspace(*_SIGMA_RANGE, _SIGMA_BINS)
    low, high = np.arcsinh(np.array(_VALUE_RANGE) / _LINEAR_BELOW)
    values = _LINEAR_BELOW * np.sinh(np.linspace(low, high, _VALUE_BINS))
    labels = np.empty((_SIGMA_BINS, _VALUE_BINS), dtype=np.uint16)
    best = np.empty((_SIGMA_BINS, _VALUE_BINS), dtype=np.float32)
    by_group = np.argsort(group, kind="stable")
    leaders, starts = np.unique(group[by_group], return_index=True)
    for row, sigma in enumerate(sigmas):
        single = posterior(kinds, values, np.full(_VALUE_BINS, sigma))
        probability = np.add.reduceat(single[:, by_group], starts, axis=1)
        labels[row] = leaders[probability.argmax(axis=1)]
        best[row] = probability.max(axis=1)
    return labels, best


def _sigma_bin(sigma: NDArray[np.float32]) -> NDArray[np.intp]:
    low, high = np.log(_SIGMA_RANGE)
    position = (np.log(np.clip(sigma, *_SIGMA_RANGE)) - low) * (_SIGMA_BINS - 1) / (high - low)
    return np.asarray(np.rint(position), dtype=np.intp)


def _value_bin(values: NDArray[np.float32]) -> NDArray[np.intp]:
    low, high = np.arcsinh(np.array(_VALUE_RANGE) / _LINEAR_BELOW)
    place = np.arcsinh(np.clip(values, *_VALUE_RANGE) / np.float32(_LINEAR_BELOW))
    return np.asarray(np.rint((place - low) * (_VALUE_BINS - 1) / (high - low)), dtype=np.intp)


def _agreeing_mean(
    volume: Volume, known: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Average each voxel with its face neighbours that agree with it within their errors.

    Weights are the inverse variances times exp(−d²/2), with d the difference in standard
    deviations of the difference: a boundary between materials is kept where it is significant.
    """
    values = np.where(known, volume.values, 0.0).astype(np.float32)
    sigma = np.where(known, np.maximum(volume.uncertainty, 1e-6), 1e6).astype(np.float32)
    variance = np.square(sigma)
    weight = np.where(known, 1 / variance, 0.0).astype(np.float32)
    total, total_weight = values * weight, weight.copy()
    noise = weight.copy()
    for axis, shift in product(range(3), (-1, 1)):
        here, there = _shifted(axis, shift)
        spread = variance[here] + variance[there]
        distance = np.square(values[here] - values[there]) / spread
        share = weight[there] * np.exp(-distance / 2) * (distance < AGREEMENT**2)
        total[here] += share * values[there]
        total_weight[here] += share
        noise[here] += np.square(share) * variance[there]
    safe = np.where(known, total_weight, 1.0)
    mean = np.where(known, total / safe, 0.0)
    return mean, np.where(known, np.sqrt(noise) / safe, 1.0)


def _shifted(axis: int, shift: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    here, there = [slice(None)] * 3, [slice(None)] * 3
    here[axis] = slice(0, -1) if shift > 0 else slice(1, None)
    there[axis] = slice(1, None) if shift > 0 else slice(0, -1)
    return tuple(here), tuple(there)
