"""How many answers each tenant and key has under way in this process: nobody takes all the places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import InvalidBody, TooManyGenerations
from service.settings import LimitSettings


class Shares:
    """Counts answers that run or wait; used from the event loop only."""

    def __init__(self, settings: LimitSettings) -> None:
        self._largest = {"tenant": settings.tenant_generations, "key": settings.key_generations}
        self._held: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def held(self, tenant_id: str, key_id: str, count: int) -> Iterator[None]:
        """Hold `count` places of a tenant and of a key.

        Raises:
            TooManyGenerations: one of them has no place left now.
            InvalidBody: one of them never has so many.
        """
        holders = (("tenant", tenant_id), ("key", key_id))
        for holder in holders:
            self._check(holder, count)
        self._held.update(dict.fromkeys(holders, count))
        try:
            yield
        finally:
            for holder in holders:
                self._held[holder] -= count
                if not self._held[holder]:
                    del self._held[holder]

    def _check(self, holder: tuple[str, str], count: int) -> None:
        kind, largest = holder[0], self._largest[holder[0]]
        if largest is None:
            return
        if count > largest:
            raise InvalidBody(f"a {kind} may have {largest} answers under way, this asks for {count}; lower n", "n")
        if self._held[holder] + count > largest:
            raise TooManyGenerations(
                f"this {kind} has {self._held[holder]} of {largest} answers under way; try again when some have ended"
            )
