import numpy as np
import pytest

from muscan.kernels.vectors import add, dot


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_products_and_sums_are_those_of_doubles(kind):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 10_001))
    other = b.astype(kind)
    expected = (a * other.astype(float)).sum()
    assert dot(a, other) == pytest.approx(expected, rel=1e-12)
    assert dot.py_func(a, other) == pytest.approx(expected, rel=1e-12)
    compiled, plain = a.copy(), a.copy()
    add(compiled, -0.3, other)
    add.py_func(plain, -0.3, other)
    np.testing.assert_allclose(compiled, a - 0.3 * other.astype(float), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(plain, compiled, rtol=1e-12, atol=1e-15)


def test_products_of_single_precision_do_not_overflow():
    large = np.full(5, 1e30, np.float32)
    assert dot(large, large) == pytest.approx(5e60, rel=1e-6)
