"""Kernels compile also where there is no folder to keep them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

RUN = """
import os, warnings
with warnings.catch_warnings(record=True) as notes:
    warnings.simplefilter("always")
    from muscan.kernels.frame import transverse_axes
print(sum("NUMBA_CACHE_DIR" in str(note.message) for note in notes))
print(os.environ["NUMBA_CACHE_DIR"])
print(*transverse_axes(0.0, 0.0, -1.0))
"""


@pytest.mark.skipif(
    not hasattr(numba.config, "CACHE_LOCATOR_CLASSES"), reason="this numba always looks everywhere"
)
@pytest.mark.parametrize("given", [False, True])
def test_a_process_without_a_cache_has_one_of_its_own(given: bool, tmp_path: Path) -> None:
    # As under an account that may write neither beside the package nor into a home.
    own = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "TMPDIR": str(tmp_path)}
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | own
    if given:
        environment["NUMBA_CACHE_DIR"] = str(tmp_path / "kept")
    done = subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=True
    )
    notes, folder, axes = done.stdout.splitlines()
    assert [float(word) for word in axes.split()] == [1, 0, 0, 0, 1, 0]
    assert notes == ("0" if given else "1")
    assert Path(folder).parent == tmp_path
    assert Path(folder).exists() == given  # the process's own goes with it
