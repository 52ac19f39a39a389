"""Muons drawn from the model of the region tests itself, and what their statistics must give.

A momentum class is drawn by its weight, then angle and offset in both planes from the class's
normal distribution. The likelihood of such muons has a Fisher information I, the mean square of
the score, and 1/√(N I) is the least spread that an unbiased estimate of ln λ can have.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from muscan.kernels import region as kernel
from muscan.kernels import ways as way_kernel
from muscan.model.spectrum import sea_level_spectrum
from muscan.model.volume import Volume, VoxelGrid
from muscan.reconstruction.common import kernel_grid
from muscan.reconstruction.region import RegionTester
from muscan.reconstruction.ways import least_loss
from muscan.units import MM_PER_CM


def volume_of(values, grid):
    empty = np.zeros(grid.shape)
    return Volume(values.astype("f4"), grid, "test", empty.astype("f4"), empty.astype("u4"))


def log_densities(tests, rows, moments, density, background):
    """Log density of each muon with a region of a density [mrad²/cm]."""
    values = np.array([density, background]) / MM_PER_CM
    loss = least_loss(values)
    steps = values[0] - values[1], loss[0] - loss[1]
    muons = tests._muons
    return np.array([
        kernel.region_density(
            muons.ways, tests._bins, muons.momenta, rows[i : i + 1], moments[i : i + 1], *steps
        )
        for i in range(len(rows))
    ])  # fmt: skip


def draw(tests, moments, density, background, rng):
    """Give the muons data as a region of a density would make, class by class."""
    muons = tests._muons
    values = np.array([density, background]) / MM_PER_CM
    loss = least_loss(values)
    k = muons.momenta.reach.shape[1]
    work = kernel.new_work()
    s, after = work[: 3 * k].reshape(3, k), work[kernel.AFTER : kernel.AFTER + k]
    for n in range(len(muons)):
        more = (values[0] - values[1]) * moments[n, 0]
        scale = kernel.highland((tests._bins[n, :, 0].sum() + more) / 25)
        row = kernel.classes(
            muons.momenta, muons.ways.row[n], tests._bins[n], muons.ways.panels[n], scale,
            moments[n, 3], (loss[0] - loss[1]) * moments[n, 0], work,
        )  # fmt: skip
        c = rng.choice(k, p=muons.momenta.weight[row] / muons.momenta.weight[row].sum())
        box = scale * (values[0] - values[1]) * moments[n, :3]
        aa, ab, bb = s[:, c] + after[c] * box
        for plane in (0, 1):
            naa, nab, nbb = muons.ways.noise[n, 3 * plane : 3 * plane + 3].astype(float)
            cov = np.array([[naa + aa, nab + ab], [nab + ab, nbb + bb]])
            drawn = np.linalg.cholesky(cov) @ rng.normal(size=2)
            muons.ways.data[n, 2 * plane : 2 * plane + 2] = drawn
    tests._fill()


def mask_moments(tests, mask):
    muons = tests._muons
    moments = np.empty((len(muons), 4))
    way_kernel.mask_crossings(
        kernel_grid(tests.grid), np.ascontiguousarray(mask.ravel()), muons.ways, 0, len(muons),
        moments,
    )  # fmt: skip
    return moments


def statistics(toy, momentum, seeds, n=300, density=5.0):
    """Return errors of ln λ, their claimed widths, and the least spread that is possible."""
    grid = VoxelGrid(np.zeros(3), np.array([400.0, 400.0, 200.0]), (1, 1, 1))
    spectrum = sea_level_spectrum()
    mask = np.ones(grid.shape, bool)
    background = 8e-4
    air = volume_of(np.full(grid.shape, background), grid)
    errors, widths, information = [], [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        muons = toy.straight(n, 300, 600, 0.05, rng, sigma=0.1)
        if momentum == "measured":
            known = spectrum.quantile(1.0, rng.uniform(0.08, 1, n)).astype("f4")
            muons = replace(muons, momentum=known, sigma=0.01 * known)
        tests = RegionTester(muons, air, spectrum=spectrum, momentum=momentum, workers=1)
        moments = mask_moments(tests, mask)
        draw(tests, moments, density, background, rng)
        fit = tests.fit(mask)
        errors.append(np.log(fit.density / density))
        widths.append(np.log(fit.high / fit.low) / 2)
        rows = np.flatnonzero(moments[:, 0] > 0)
        up, down = (
            log_densities(tests, rows, moments[rows], density * factor, background)
            for factor in (1.02, 1 / 1.02)
        )
        score = (up - down) / (2 * np.log(1.02))
        information.append((score**2).sum())
    return np.array(errors), np.array(widths), 1 / np.sqrt(np.mean(information))
