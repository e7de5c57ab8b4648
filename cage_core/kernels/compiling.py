"""The one decorator that turns a scalar loop into machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

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


def compiled(function: Function) -> Function:
    """Machine code for a function of arrays and numbers, kept on disk between runs; unchanged without Numba.

    IEEE semantics are kept (no fastmath), so compiled and interpreted answers agree to rounding of libm.
    """
    if not COMPILED:
        return function
    machine_code: Function = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return machine_code
