"""The compiled kernels give what their Python says: numba may not change a number."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCAN = Path(__file__).with_name("small_scan.py")
#: Of the largest value of a volume: NumPy keeps products of 32-bit columns in 32 bits, compiled
#: code does not, and the methods iterate.
CLOSE = 0.01
#: What is counted, drawn or fitted once.
EXACT = ("u", "panel", "amplitude", "imported_u", "imported_sigma", "recorded_u", "recorded_time")
EXACT += ("slopes", "cov")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The numbers of the scan without numba."""
    path = tmp_path_factory.mktemp("plain") / "numbers.npz"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run(
        [sys.executable, str(SCAN), str(path)],
        env=environment,
        check=True,
        timeout=600,
    )
    with np.load(path) as numbers:
        return dict(numbers)


def test_a_scan_is_the_same_without_numba(plain: dict[str, np.ndarray], tmp_path: Path) -> None:
    compiled = runpy.run_path(str(SCAN))["run"](tmp_path)
    assert compiled.keys() == plain.keys()
    assert len(plain["u"]) > 1000
    for name in EXACT:
        np.testing.assert_allclose(compiled[name], plain[name], rtol=1e-5, atol=1e-6, err_msg=name)
    for name in plain.keys() - {*EXACT, "materials"}:
        known = np.isfinite(plain[name])
        np.testing.assert_array_equal(np.isfinite(compiled[name]), known, err_msg=name)
        values = plain[name][known]
        within = CLOSE * np.abs(values).max(initial=0)
        np.testing.assert_allclose(compiled[name][known], values, rtol=0, atol=within, err_msg=name)
    assert np.mean(compiled["materials"] == plain["materials"]) > 0.95
