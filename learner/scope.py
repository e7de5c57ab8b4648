"""Whose preferences: a tenant's, or one user's of a tenant."""

from dataclasses import dataclass
from typing import Self

WHOLE_TENANT = ""
"""What the user columns hold for the tenant itself; no user may be called this."""


@dataclass(frozen=True, order=True)
class Scope:
    """A tenant and one of its users; `user_id` None stands for the tenant itself."""

    tenant_id: str
    user_id: str | None = None

    def __post_init__(self) -> None:
        if not self.tenant_id or self.user_id == WHOLE_TENANT:
            raise ValueError("a scope's ids are not empty; use user_id=None for the tenant itself")

    @property
    def user_key(self) -> str:
        """The user id as the user columns hold it."""
        return WHOLE_TENANT if self.user_id is None else self.user_id

    @property
    def tenant(self) -> Self:
        """The scope of the tenant itself."""
        return type(self)(self.tenant_id)

    @classmethod
    def of_key(cls, tenant_id: str, user_key: str) -> Self:
        """The scope whose user column holds `user_key`."""
        return cls(tenant_id, user_key or None)
