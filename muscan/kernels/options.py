"""How kernels are compiled that allocate nothing and must keep NaN and infinity apart."""

from __future__ import annotations

from typing import Any, Final

#: A division by zero gives inf instead of being tested for, and arrays are not reference-counted
#: (``_nrt``), which costs more than the arithmetic where small functions hand them on. No function
#: compiled with this may allocate or slice an array. Not ``fastmath``: a NaN must stay one, and the
#: last bits would depend on what else the compiler had at hand, and so the hits of a seed.
KERNEL: Final[dict[str, Any]] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
}
#: For parts of a kernel, which are compiled into it.
PART: Final[dict[str, Any]] = {**KERNEL, "forceinline": True}
