"""Callers that were recognised a moment ago."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from cachetools import TTLCache

if TYPE_CHECKING:
    from service.access.security import Caller

LIFE_SECONDS = 0.5
"""How long a revoked key, or a tenant's old settings, may still be used at another server: under a second."""
_CAPACITY = 10_000


class CallerCache:
    """What keys stood for half a second ago at most: a busy product does not ask PostgreSQL with every request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callers: TTLCache[tuple[bytes, str | None], Caller] = TTLCache(_CAPACITY, LIFE_SECONDS)

    def find(self, key: str, named_tenant: str | None) -> Caller | None:
        """The caller with this key who names this tenant, if it was looked up lately."""
        with self._lock:
            return self._callers.get((_digest(key), named_tenant))

    def keep(self, key: str, named_tenant: str | None, caller: Caller) -> None:
        """Remember what was looked up."""
        with self._lock:
            self._callers[_digest(key), named_tenant] = caller

    def forget(self) -> None:
        """Look everything up anew: keys or tenants were changed here."""
        with self._lock:
            self._callers.clear()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
