"""Stopping density: the likelihood against plain NumPy, and blocks that muons really stop in."""

from dataclasses import replace

import numpy as np
import pytest

from muscan.errors import InputError
from muscan.kernels import stopping as kernel
from muscan.kernels.paths import Paths
from muscan.model.detector import parse_detector
from muscan.model.events import Tracks
from muscan.model.material import load_materials
from muscan.model.scene import parse_scene
from muscan.model.spectrum import MomentumSpectrum, sea_level_spectrum
from muscan.model.survival import (
    THICKNESSES,
    Survival,
    continued,
    csda_range,
    cutoff_momentum,
    stopping_density,
)
from muscan.model.volume import VoxelGrid
from muscan.reconstruction.arrivals import expect_all
from muscan.reconstruction.stopping import StoppingImage, stopping, with_stopping
from muscan.simulation import Simulation
from muscan.tracking import find_tracks

SPECTRUM = sea_level_spectrum()

LAYOUT = """
name = "wide"
[inspection]
min_mm = [-900, -900, -600]
max_mm = [900, 900, 600]
[technology.plane]
size_mm = [3000, 3000]
resolution_mm = [0.3, 0.3]
efficiency = 0.95
"""
for _group, _sign in (("upper", 1), ("lower", -1)):
    for _number, _z in enumerate((700, 900, 1100)):
        LAYOUT += f"""
[[panel]]
name = "{_group}{_number}"
group = "{_group}"
technology = "plane"
centre_mm = [0, 0, {_sign * _z}]
"""
# Of one scattering density and size: water, and iron packed so loosely.
SCENE = """
name = "equal"
[[material]]
name = "iron-wool"
elements = { Fe = 1.0 }
density_g_cm3 = 0.382
[[body]]
name = "water"
shape = "box"
material = "water"
size_mm = [600, 600, 800]
centre_mm = [-400, 0, 0]
[[body]]
name = "wool"
shape = "box"
material = "iron-wool"
size_mm = [600, 600, 800]
centre_mm = [400, 0, 0]
"""
GRID = VoxelGrid.from_bounds([[-900, -900, -600], [900, 900, 600]], 50)


def box(centre, half):
    index = np.meshgrid(*(GRID.centres(axis) for axis in range(3)), indexing="ij")
    inside = [np.abs(x - c) < h for x, c, h in zip(index, centre, half, strict=True)]
    return inside[0] & inside[1] & inside[2]


WATER, WOOL = (box((x, 0, 0), (300, 300, 400)) for x in (-400, 400))
AIR = box((0, 600, 0), (200, 200, 400))


def simulated(scene, minutes, seed=5, layout=LAYOUT, **options):
    detector = parse_detector(layout, "wide")
    simulation = Simulation(
        parse_scene(scene, "scene"), detector, minutes=minutes, seed=seed, **options
    )
    return Tracks.join([find_tracks(hits) for hits, _ in simulation.chunks()])


# --- ranges and survival -----------------------------------------------------------------------


def test_ranges_match_the_tables():
    # Groom, Mokhov and Striganov (2001), tables of water, iron and lead: CSDA range [g/cm²] of
    # muons of 286.8 MeV/c (T = 200 MeV) and 1101 MeV/c (T = 1 GeV).
    known = load_materials()
    for name, low, high in (("water", 78.9, 474.4), ("iron", 110.2, 644.4), ("lead", 146.7, 824.8)):
        found = csda_range(known[name], [0.28679, 1.10083])
        assert found == pytest.approx([low, high], rel=0.02)


def test_stopping_densities():
    known = load_materials()
    assert stopping_density(known["water"]) == pytest.approx(1.0)
    ratio = {
        name: known[name].scattering_density / stopping_density(known[name])
        for name in ("paraffin", "water", "aluminium", "iron", "lead", "uranium")
    }
    assert list(ratio.values()) == sorted(ratio.values())
    assert ratio["lead"] > 9 * ratio["water"]


def test_survival_is_the_spectrum_above_the_cutoff():
    survival = Survival(SPECTRUM)
    row = survival.table[-1]
    for thickness in (30.0, 100.0, 1000.0):
        momentum = float(cutoff_momentum(thickness))
        expected = 1 - SPECTRUM.probability(1.0, momentum)
        assert np.interp(thickness, THICKNESSES, row) == pytest.approx(expected, abs=2e-4)
    assert row[0] == 1.0
    assert (np.diff(survival.table, axis=1) <= 0).all()


def test_a_spectrum_goes_on_below_its_lowest_momentum():
    longer = continued(SPECTRUM)
    # Above, every ratio is as it was.
    at = np.array([0.1, 0.3, 1.0, 5.0])
    for cosine in (0.5, 1.0):
        ends = [longer.probability(cosine, p) for p in (0.1, 2000.0)]
        for p in at:
            share = (longer.probability(cosine, p) - ends[0]) / (ends[1] - ends[0])
            assert share == pytest.approx(SPECTRUM.probability(cosine, p), abs=1e-6)
        # Below, as many a GeV of energy as at the end of the flux model.
        energy = [np.hypot(p, 0.105658) for p in (0.03, 0.05, 0.1)]
        below = [longer.probability(cosine, p) for p in (0.03, 0.05, 0.1)]
        rate = np.diff(below) / np.diff(energy)
        assert rate[0] == pytest.approx(rate[1], rel=0.02)
    first = (SPECTRUM.probability(1.0, 0.104) - 0) / (np.hypot(0.104, 0.105658) - energy[2])
    assert rate[1] == pytest.approx(first * (1 - longer.probability(1.0, 0.1)), rel=0.05)
    beam = MomentumSpectrum.single(1.0)
    assert continued(beam) is beam


# --- kernels -----------------------------------------------------------------------------------


@pytest.fixture
def few(rng):
    """Thirty muons with random voxels on their paths, a third of them lost."""
    n, voxels = 30, 20
    counts = rng.integers(1, 8, n)
    first = np.concatenate([[0], np.cumsum(counts)])
    paths = Paths(
        first,
        rng.integers(0, voxels, first[-1]).astype(np.int32),
        rng.uniform(5, 60, first[-1]).astype(np.float32),
        np.zeros(n, np.float32),
    )
    arrivals = kernel.Arrivals(
        rng.random(n) < 0.67,
        rng.uniform(0.9, 0.999, n).astype(np.float32),
        rng.integers(0, 3, n).astype(np.int32),
        Survival(SPECTRUM, before=3.0).table[[5, 20, 36]].copy(),
        THICKNESSES,
    )
    return paths, arrivals, rng.uniform(0.02, 0.4, voxels)


def plain(paths, arrivals, density, n):
    """Log probability of what a muon did, by NumPy's interpolation."""
    own = slice(paths.first[n], paths.first[n + 1])
    crossed = float((paths.length[own].astype(float) * density[paths.voxel[own]]).sum())
    through = np.interp(crossed, arrivals.thickness, arrivals.table[arrivals.row[n]])
    seen = float(arrivals.chance[n]) * through
    return np.log(seen if arrivals.passed[n] else 1 - seen)


def test_likelihood_matches_numpy(few):
    paths, arrivals, density = few
    found = kernel.likelihood(paths, arrivals, density, 0, 30, 0, 1, np.zeros(20))
    assert found == pytest.approx(sum(plain(paths, arrivals, density, n) for n in range(30)))
    parts = [
        kernel.likelihood(paths, arrivals, density, first, last, parity, 2, np.zeros(20))
        for first, last in ((0, 13), (13, 30))
        for parity in (0, 1)
    ]
    assert sum(parts) == pytest.approx(found)
    even = sum(plain(paths, arrivals, density, n) for n in range(0, 30, 2))
    assert parts[0] + parts[2] == pytest.approx(even)


def test_gradient_and_profile_match_the_likelihood(few):
    paths, arrivals, density = few
    gradient = np.zeros(20)
    kernel.likelihood(paths, arrivals, density, 0, 30, 0, 1, gradient)

    def value(changed):
        return kernel.likelihood(paths, arrivals, changed, 0, 30, 0, 1, np.zeros(20))

    for voxel in range(20):
        step = np.where(np.arange(20) == voxel, 1e-6, 0.0)
        slope = (value(density + step) - value(density - step)) / 2e-6
        assert gradient[voxel] == pytest.approx(slope, rel=1e-3, abs=1e-2)
    outside = np.array([
        (paths.length[a:b].astype(float) * density[paths.voxel[a:b]]).sum()
        for a, b in zip(paths.first[:-1], paths.first[1:], strict=True)
    ])  # fmt: skip
    found = kernel.profile(arrivals, np.arange(30), outside, np.zeros(30), 1.0)
    assert found == pytest.approx(value(density))


# --- who should come out -----------------------------------------------------------------------


def test_muons_that_aim_past_the_panels_are_not_expected(bench, tracks):
    whole, layout = expect_all(tracks)
    assert layout is bench
    assert whole.passed.all()
    assert 0 < len(whole) < len(tracks) // 2
    incoming = tracks.take(tracks.side == 0)
    # The plane at z = -700, 1000 mm wide, met by straight lines.
    way = (-700 - incoming.position[:, 2]) / incoming.direction[:, 2]
    at = incoming.position + way[:, None] * incoming.direction
    nearer = incoming.position + ((way - 200 / -incoming.direction[:, 2])[:, None]) * (
        incoming.direction
    )
    aimed = (np.abs(at[:, :2]) < 500).all(axis=1) & (np.abs(nearer[:, :2]) < 500).all(axis=1)
    assert len(whole) == aimed.sum()
    assert (whole.edges > 0).all()
    lonely, _ = expect_all(incoming)
    assert not lonely.passed.any()
    halves = [tracks.take(slice(0, 300)), tracks.take(slice(300, None))]
    joined, _ = expect_all(iter(halves))
    assert np.array_equal(joined.end, whole.end)
    assert joined.counts == whole.counts


def test_input_is_checked(bench, tracks):
    with pytest.raises(InputError, match="have no layout"):
        stopping(replace(tracks, detector=None), GRID)
    with pytest.raises(InputError, match="no muon aims through the grid"):
        stopping(tracks, VoxelGrid.from_bounds([[5e3] * 3, [6e3] * 3], 100))
    with pytest.raises(InputError, match="not positive"):
        stopping(tracks, GRID, smoothing=-1.0)
    image = StoppingImage(tracks, VoxelGrid.from_bounds(bench.bounds, 100), smoothing=1.0)
    with pytest.raises(InputError, match="mask of shape"):
        image.region(np.zeros((2, 2, 2), bool))
    with pytest.raises(InputError, match="no muon aims through it"):
        image.region(np.zeros(image.grid.shape, bool))


# --- physics -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def equal():
    return simulated(SCENE, 2.0)


@pytest.mark.slow
def test_stopping_separates_what_scatters_alike(equal):
    image = StoppingImage(equal, GRID)
    # The simulation has no muon below 0.1 GeV, and the panels miss 0.7 %: the data say both.
    assert image.problem.spectra[image.problem.low_end].momentum[0] == pytest.approx(0.1)
    assert 0.003 < image.attributes()["stopping_missed_fraction"] < 0.012
    water, wool, air = (image.region(mask) for mask in (WATER, WOOL, AIR))
    # 0.382 g/cm³ of iron stops as much as 0.275 of water, and scatters as much as 1.0.
    for fit, true in ((water, 1.0), (wool, 0.275), (air, 0.0)):
        assert fit.low <= fit.statistical[0] <= fit.density <= fit.statistical[1] <= fit.high
        side = fit.high - fit.density if true > fit.density else fit.density - fit.low
        assert abs(fit.density - true) < 2.5 * side + 1e-3
        assert fit.high - fit.low < 0.25
    assert wool.high < water.low
    assert water.log_ratio > 50
    assert air.low < 0.01
    values = image.channels()["stopping"]
    assert np.nanmean(values[WATER]) > 2 * np.nanmean(values[WOOL])


@pytest.mark.slow
def test_nothing_stops_where_nothing_is():
    volume = stopping(simulated('name = "empty"', 1.0), GRID)
    seen = volume.n_muons > 100
    assert (volume.values[seen] < 2 * volume.uncertainty[seen]).all()
    assert volume.values[seen].mean() < 0.03
    assert volume.units == "g/cm3"
    assert volume.quantity == "stopping_density"


@pytest.mark.slow
def test_slow_muons_are_there_if_they_are():
    # Panels that miss next to nothing: where they miss much, that could be it as well.
    good = LAYOUT.replace("efficiency = 0.95", "efficiency = 0.995")
    tracks = simulated(SCENE, 2.0, layout=good, momentum_range=(0.05, 1e4))
    problem = StoppingImage(tracks, GRID, smoothing=1.0).problem
    assert problem.spectra[problem.low_end].momentum[0] < 0.05


@pytest.mark.slow
def test_a_volume_gets_the_channel(equal):
    bare = stopping(equal, GRID, smoothing=0.3)
    scattering = np.where(WATER | WOOL, 0.69, 8e-4).astype(np.float32)
    volume = with_stopping(replace(bare, values=scattering, units="mrad2/cm"), equal)
    assert volume.channel_units["stopping"] == "g/cm3"
    both = volume.channels["stopping"]
    assert both.shape == GRID.shape
    # The scattering leads to expect 1.0 in both; the muons that stop say otherwise.
    assert np.nanmean(both[WATER]) > 1.5 * np.nanmean(both[WOOL])
    assert np.nanmean(both[AIR]) < 0.05
    one, three = (StoppingImage(equal, GRID, workers=w, smoothing=1.0).channels() for w in (1, 3))
    assert np.array_equal(one["stopping"], three["stopping"], equal_nan=True)
