"""Line fits against dense generalised least squares, closed forms and Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from muscan.kernels import line_fit as lf
from muscan.kernels.frame import transverse_axes

LEVEL = (np.array([1.0, 0, 0]), np.array([0, 1.0, 0]))


def table(
    centres: np.ndarray,
    axes: list[tuple[np.ndarray, np.ndarray]] | None = None,
    layer: float = 0.0,
    medium: float = 0.0,
) -> np.ndarray:
    """A table of large planes, level unless axes are given."""
    planes = np.empty((len(centres), lf.PLANE_COLUMNS))
    for row, centre, (u, v) in zip(planes, centres, axes or [LEVEL] * len(centres), strict=True):
        row[:] = [*centre, *u, *v, *np.cross(u, v), 5000, 5000, layer, medium]
    return planes


def tilted(angles_deg: list[tuple[float, float, float]]) -> list[tuple[np.ndarray, np.ndarray]]:
    turns = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    return [(turn[:, 0], turn[:, 1]) for turn in turns]


def crossings(planes: np.ndarray, point: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Where a line meets planes, along u and v, shape (n, 2)."""
    centre, u, v, normal = (planes[:, i : i + 3] for i in (0, 3, 6, 9))
    t = np.einsum("ni,ni->n", normal, centre - point) / (normal @ direction)
    met = point + t[:, None] * direction - centre
    return np.column_stack([np.einsum("ni,ni->n", u, met), np.einsum("ni,ni->n", v, met)])


def fit(planes: np.ndarray, uv: np.ndarray, sigma: np.ndarray, scale: float = 1.0):
    """The kernel's χ², point, direction and full covariance."""
    hits = np.concatenate([np.where(sigma < np.inf, uv, np.nan), sigma], axis=1)[:, None, :]
    chosen = np.zeros(len(planes), dtype=np.int64)
    chi2, line, packed = lf.fit_line(
        planes, np.ascontiguousarray(hits), chosen, 0, len(planes), scale
    )
    cov = np.zeros((4, 4))
    cov[np.triu_indices(4)] = packed
    cov = cov + np.triu(cov, 1).T
    return chi2, np.array(line[:3]), np.array(line[3:]), cov


def dense_fit(
    planes: np.ndarray,
    uv: np.ndarray,
    sigma: np.ndarray,
    point: np.ndarray,
    direction: np.ndarray,
    scale: float = 1.0,
):
    """Generalised least squares about a line at the last plane, with every scatter as an unknown.

    Returns χ², offsets and angles in the line's frame at the last plane, and their covariance,
    the scattering in the last panel included. The unknowns are the four of the line before the
    first panel and two kinks in each panel, each kink with its own prior variance.
    """
    e = np.array(transverse_axes(*direction)).reshape(2, 3)
    centre, u, v, normal = (planes[:, i : i + 3] for i in (0, 3, 6, 9))
    cosine = normal @ direction
    t = np.einsum("ni,ni->n", normal, centre - point) / cosine
    n = len(planes)
    expected = crossings(planes, point, direction)
    kink = planes[:, lf.LAYER] * scale / np.abs(cosine)
    rows, values = [], []
    for k in range(n):
        # Offset across the line at plane k, as a linear function of all unknowns.
        offset = np.zeros((2, 4 + 2 * n))
        offset[:, :2] = np.eye(2)
        offset[:, 2:4] = (t[k] - t[0]) * np.eye(2)
        for j in range(k):
            offset[:, 4 + 2 * j : 6 + 2 * j] = (t[k] - t[j]) * np.eye(2)
        for i, axis in enumerate((u[k], v[k])):
            if sigma[k, i] < np.inf:
                across = e @ (axis - normal[k] * (axis @ direction) / cosine[k])
                rows.append(across @ offset / sigma[k, i])
                values.append((uv[k, i] - expected[k, i]) / sigma[k, i])
    for j in range(n):
        for i in range(2):
            row = np.zeros(4 + 2 * n)
            row[4 + 2 * j + i] = 1 / np.sqrt(max(kink[j], 1e-24))
            rows.append(row)
            values.append(0.0)
    matrix, values = np.array(rows), np.array(values)
    cov = np.linalg.inv(matrix.T @ matrix)
    best = cov @ matrix.T @ values
    chi2 = float(((values - matrix @ best) ** 2).sum())
    end = np.zeros((4, 4 + 2 * n))
    end[:2, :2] = end[2:, 2:4] = np.eye(2)
    end[:2, 2:4] = (t[-1] - t[0]) * np.eye(2)
    for j in range(n):
        end[:2, 4 + 2 * j : 6 + 2 * j] = (t[-1] - t[j]) * np.eye(2)
        end[2:, 4 + 2 * j : 6 + 2 * j] = np.eye(2)
    return chi2, end @ best, end @ cov @ end.T


def test_three_level_planes_have_the_closed_form_covariance() -> None:
    z = np.array([600.0, 300.0, 0.0])
    planes = table(np.column_stack([np.zeros((3, 2)), z]))
    sigma = np.full((3, 2), 0.3)
    chi2, point, direction, cov = fit(planes, np.zeros((3, 2)), sigma)
    lever = ((z - z.mean()) ** 2).sum()
    assert chi2 == pytest.approx(0, abs=1e-12)
    assert direction == pytest.approx([0, 0, -1])
    assert point == pytest.approx([0, 0, 0], abs=1e-9)
    assert cov[2, 2] == pytest.approx(0.09 / lever, rel=1e-6)
    assert cov[0, 0] == pytest.approx(0.09 * (1 / 3 + z.mean() ** 2 / lever), rel=1e-6)
    # Further down the offset grows with the angle.
    assert cov[0, 2] == pytest.approx(0.09 * z.mean() / lever, rel=1e-6)
    assert cov[0, 1] == pytest.approx(0, abs=1e-9)


POSES = {
    "level": (
        [(0, 0, 900), (20, -10, 600), (0, 0, 250)],
        [(0, 0, 0)] * 3,
        (0.3, -0.4, -1),
    ),
    "wall": (
        [(900, 0, 0), (700, 0, 30), (500, -40, 0)],
        [(0, 90, 0)] * 3,
        (-1, 0.25, -0.15),
    ),
    "each its own": (
        [(0, 0, 900), (0, 0, 500), (50, 0, 100), (0, 30, -100)],
        [(10, 0, 5), (0, -20, 40), (35, 10, 0), (-5, 5, 80)],
        (0.2, 0.35, -1),
    ),
}


@pytest.mark.parametrize("pose", POSES)
def test_fit_is_that_of_nonlinear_least_squares(pose: str, rng: np.random.Generator) -> None:
    centres, angles, direction = POSES[pose]
    planes = table(np.array(centres, float), tilted(angles))
    true = np.array(direction) / np.linalg.norm(direction)
    sigma = rng.uniform(0.2, 0.6, (len(planes), 2))
    start = planes[-1, :3] + 5.0
    uv = crossings(planes, start, true) + rng.normal(0, sigma)
    chi2, point, found, _ = fit(planes, uv, sigma)

    e = np.array(transverse_axes(*true)).reshape(2, 3)

    def residuals(q: np.ndarray) -> np.ndarray:
        line = crossings(planes, start + q[:2] @ e, true + q[2:] @ e / 1000)
        return ((uv - line) / sigma).ravel()

    best = least_squares(residuals, np.zeros(4), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    assert chi2 == pytest.approx(2 * best.cost, rel=1e-3, abs=1e-4)
    expected = true + best.x[2:] @ e / 1000
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(found, expected, atol=2e-7)
    across = start + best.x[:2] @ e - point
    across -= across @ expected * expected
    np.testing.assert_allclose(across, 0, atol=2e-3)


@pytest.mark.parametrize("pose", POSES)
def test_scattering_in_the_panels_is_that_of_dense_least_squares(
    pose: str, rng: np.random.Generator
) -> None:
    centres, angles, direction = POSES[pose]
    planes = table(np.array(centres, float), tilted(angles), layer=2e-6)
    true = np.array(direction) / np.linalg.norm(direction)
    sigma = rng.uniform(0.2, 0.6, (len(planes), 2))
    uv = crossings(planes, planes[-1, :3] + 5.0, true) + rng.normal(0, sigma)
    for scale in (1.0, 9.0):
        chi2, point, found, cov = fit(planes, uv, sigma, scale)
        dense_chi2, state, dense_cov = dense_fit(planes, uv, sigma, point, found, scale)
        # χ² is reckoned about a line a few mrad away, where the scattering differs by as much.
        assert chi2 == pytest.approx(dense_chi2, rel=5e-3, abs=1e-4)
        np.testing.assert_allclose(state / np.sqrt(np.diag(dense_cov)), 0, atol=2e-3)
        spread = np.sqrt(np.diag(dense_cov))
        np.testing.assert_allclose(
            cov / np.outer(spread, spread), dense_cov / np.outer(spread, spread), atol=2e-3
        )


def test_scattering_in_the_medium_adds_its_closed_form() -> None:
    """Two exact planes: the angle at the second is off by the medium's, ∫ (x/L)² dθ² = q L/3."""
    planes = table(np.array([[0, 0, 400.0], [0, 0, 0]]), medium=1e-9)
    *_, cov = fit(planes, np.zeros((2, 2)), np.full((2, 2), 1e-4))
    assert cov[2, 2] == pytest.approx(1e-9 * 400 / 3, rel=1e-3)


def test_planes_of_one_coordinate_make_a_line(rng: np.random.Generator) -> None:
    z = np.arange(800.0, 0.0, -100.0)
    planes = table(np.column_stack([np.zeros((8, 2)), z]))
    sigma = np.full((8, 2), np.inf)
    sigma[::2, 0] = sigma[1::2, 1] = 0.4
    true = np.array([0.4, -0.7, -1]) / np.linalg.norm([0.4, -0.7, -1])
    uv = crossings(planes, np.array([30.0, 40, 0]), true)
    chi2, point, direction, cov = fit(planes, uv, sigma)
    assert chi2 == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(direction, true, atol=1e-7)
    np.testing.assert_allclose(crossings(planes, point, direction), uv, atol=1e-4)
    noisy = uv + rng.normal(0, 0.4, uv.shape)
    chi2, point, direction, cov = fit(planes, noisy, sigma)
    dense_chi2, _, dense_cov = dense_fit(planes, noisy, sigma, point, direction)
    assert chi2 == pytest.approx(dense_chi2, rel=1e-3)
    np.testing.assert_allclose(cov, dense_cov, rtol=2e-3, atol=1e-9)


def test_hits_that_determine_no_line_are_told() -> None:
    planes = table(np.array([[0, 0, 300.0], [0, 0, 200], [0, 0, 100]]))
    only_u = np.column_stack([np.full(3, 0.3), np.full(3, np.inf)])
    assert fit(planes, np.zeros((3, 2)), only_u)[0] == lf.UNDETERMINED
    three = np.full((3, 2), 0.3)
    three[2] = three[1, 1] = np.inf
    assert fit(planes, np.zeros((3, 2)), three)[0] == lf.UNDETERMINED


def test_far_off_hits_do_not_turn_the_line_until_they_fit() -> None:
    """Three hits of no line, a metre off: a line along the panels would scatter enough to fit."""
    planes = table(np.array([[0, 0, 600.0], [0, 0, 300], [0, 0, 0]]), layer=6e-7)
    uv = np.array([[-475.0, 16], [-254, -79], [-1787, 625]])
    chi2, *_ = fit(planes, uv, np.full((3, 2), 0.3))
    assert chi2 == lf.UNDETERMINED or chi2 > 1e4


def simulate(planes: np.ndarray, n: int, rng: np.random.Generator):
    """Muons through level planes with scattering in each: measured uv, true end state."""
    z = planes[:, 2]
    slope = rng.normal(0, 0.3, (n, 2))
    at = rng.uniform(-200, 200, (n, 2))
    uv = np.empty((n, len(z), 2))
    for k in range(len(z)):
        if k:
            at = at + slope * (z[k - 1] - z[k])
        uv[:, k] = at
        # The projected angles across the track become slopes with these factors.
        direction = np.column_stack([slope, -np.ones(n)])
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        theta = np.sqrt(planes[k, lf.LAYER] / -direction[:, 2])
        for e in (
            np.array([transverse_axes(*d) for d in direction]).reshape(n, 2, 3).transpose(1, 0, 2)
        ):
            direction = direction + e * (theta * rng.normal(size=n))[:, None]
        slope = direction[:, :2] / -direction[:, 2:]
    direction = np.column_stack([slope, -np.ones(n)])
    end = np.column_stack([at, np.full(n, z[-1])])
    return uv, end, direction / np.linalg.norm(direction, axis=1, keepdims=True)


def test_pulls_and_chi2_have_their_distributions(rng: np.random.Generator) -> None:
    planes = table(np.array([[0, 0, 600.0], [0, 0, 300], [0, 0, 0]]), layer=1e-6)
    n = 4000
    uv, end, true = simulate(planes, n, rng)
    uv += rng.normal(0, 0.3, uv.shape)
    sigma = np.full((3, 2), 0.3)
    pulls, chi2 = np.empty((n, 4)), np.empty(n)
    for i in range(n):
        chi2[i], point, direction, cov = fit(planes, uv[i], sigma)
        e = np.array(transverse_axes(*direction)).reshape(2, 3)
        offset = e @ (end[i] - point)
        angle = e @ (true[i] - direction)
        # With the whole covariance, so that correlations count too.
        pulls[i] = np.linalg.solve(np.linalg.cholesky(cov), [*offset, *angle])
    np.testing.assert_allclose(pulls.std(axis=0), 1, atol=0.05)
    np.testing.assert_allclose(pulls.mean(axis=0), 0, atol=5 / np.sqrt(n))
    assert stats.kstest(chi2, stats.chi2(2).cdf).pvalue > 1e-3


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(-25, 25)] * 2, st.floats(-180, 180)),
    st.tuples(*[st.floats(-3000, 3000)] * 3),
    st.integers(0, 1000),
)
def test_fit_moves_with_the_planes(turn: tuple, shift: tuple, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0, 700.0], [30, 0, 400], [0, 10, 0]])
    axes = tilted([(5, 0, 0), (0, 12, 30), (-8, 3, 0)])
    true = np.array([0.2, -0.3, -1])
    planes = table(centres, axes, layer=1e-6)
    uv = crossings(planes, np.array([10.0, 20, 0]), true / np.linalg.norm(true))
    uv += rng.normal(0, 0.3, uv.shape)
    sigma = np.full((3, 2), 0.3)
    chi2, point, direction, cov = fit(planes, uv, sigma)
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    moved = table(
        centres @ rotation.T + shift, [(rotation @ u, rotation @ v) for u, v in axes], layer=1e-6
    )
    chi2_moved, point_moved, direction_moved, cov_moved = fit(moved, uv, sigma)
    assert chi2_moved == pytest.approx(chi2, rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(direction_moved, rotation @ direction, atol=1e-8)
    np.testing.assert_allclose(point_moved, rotation @ point + shift, atol=1e-4)
    # The frame turns about the direction too, but what does not depend on it stays.
    for block in (slice(0, 2), slice(2, 4)):
        assert np.trace(cov_moved[block, block]) == pytest.approx(
            np.trace(cov[block, block]), rel=1e-4
        )
