"""The decorators that turn scalar loops into machine code."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

try:
    import numba
except ImportError:
    COMPILED = False
else:
    COMPILED = True


def _cache_directory() -> str | None:
    """Where machine code is kept between runs: one folder per state of this package's sources.

    Numba's own check looks at the file of the function asked for and not at those it calls, so it would run
    stale code after a change. None where nothing can be written: then every process compiles for itself.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for source in sorted(here.glob("*.py")):
        digest.update(source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cage"
    for parent in (here / "__pycache__", user_cache):
        try:
            (parent / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(parent / name, os.W_OK):
            return str(parent / name)
    return None


def _compile(function: Function, fastmath: set[str]) -> Function:
    # Numba sets its configuration from the environment when it is imported; its types do not list it.
    config: Any = numba.config
    directory = _CACHE_DIRECTORY
    previous = config.CACHE_DIR
    if directory is not None:
        config.CACHE_DIR = directory
    try:
        machine_code: Any = numba.njit(cache=directory is not None, nogil=True, error_model="numpy", fastmath=fastmath)(
            function
        )
    finally:
        config.CACHE_DIR = previous
    return cast(Function, machine_code)


def compiled(function: Function) -> Function:
    """Machine code for a function of arrays and numbers, in strict IEEE arithmetic; unchanged without Numba."""
    return _compile(function, set()) if COMPILED else function


def vectorised(function: Function) -> Function:
    """Machine code for a loop over finite numbers, whose sums may be taken in any order."""
    return _compile(function, {"reassoc", "contract", "nsz", "nnan"}) if COMPILED else function


_CACHE_DIRECTORY = _cache_directory() if COMPILED else None
