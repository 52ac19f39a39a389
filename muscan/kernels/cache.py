"""Where numba keeps what it compiled: beside the package, or in the user's cache folder.

A service's account may have neither, and numba then compiles nothing that is to be kept.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import warnings
from typing import Any

import numba
from numba import njit


def provide() -> None:
    """Give numba a folder of this process, and those that it starts, where it has no other.

    Not one that outlives the process: numba executes what it finds in its cache, and a folder under
    a known name where all may write can be another's.

    Warns
    -----
    UserWarning
        If it had none.
    """
    try:
        njit(cache=True)(_nothing)
    except RuntimeError:
        folder = tempfile.mkdtemp(prefix="muscan-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        config: Any = numba.config
        os.environ["NUMBA_CACHE_DIR"] = config.CACHE_DIR = folder
        warnings.warn(
            "compiled kernels cannot be kept, so every run compiles, for a minute; set "
            "NUMBA_CACHE_DIR to a folder that can be written",
            stacklevel=2,
        )


def _nothing() -> None:
    """Do nothing."""
