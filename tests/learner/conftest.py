"""A tenant with four principals, and the means to play its users."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pytest

from learner.parameters import Parameters
from learner.scope import Scope
from learner.store.database import Database
from learner.store.feedback import VoteReceipt, record_vote
from learner.store.generations import add_generation
from learner.store.models import Generation
from learner.store.parameters import effective_parameters
from learner.store.tenants import CatalogueEntry, create_tenant, register_principals

PRINCIPALS = ("detail", "brevity", "caution", "warmth")


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Tenancy:
    """One tenant of a database whose users ask and vote."""

    database: Database
    tenant_id: str
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def scope(self, user: str | None = None) -> Scope:
        return Scope(self.tenant_id, user)

    def answer(self, user: str | None = None, features: tuple[float, ...] | None = None) -> str:
        """Log an answer made with what is in force; random features unless given."""
        generation_id = f"chatcmpl-{self.tenant_id}-{next(self._numbers)}"
        with self.database.session() as session:
            in_force = effective_parameters(session, self.scope(user))
            drawn = tuple(self.random.normal(size=len(in_force.principals)).tolist())
            add_generation(session, self.generation(generation_id, user, in_force, features or drawn))
        return generation_id

    def generation(
        self, generation_id: str, user: str | None, in_force: Parameters, features: tuple[float, ...]
    ) -> Generation:
        return Generation(
            id=generation_id,
            tenant_id=self.tenant_id,
            user_id=user,
            created_at=now(),
            model="pocket",
            mode="equilibrium",
            parameter_version=in_force.version,
            parameter_user_id=in_force.user_id,
            principals=list(in_force.principals),
            theta=list(in_force.theta),
            weights=list(in_force.weights),
            features=list(features),
            prompt_tokens=5,
            completion_tokens=9,
            finish_reason="stop",
        )

    def vote(self, generation_id: str, value: int, user: str | None = None) -> VoteReceipt:
        with self.database.session() as session:
            return record_vote(
                session,
                tenant_id=self.tenant_id,
                generation_id=generation_id,
                user_id=user,
                value=value,
                comment=None,
                tags=(),
                now=now(),
            )

    def votes(self, count: int, user: str | None = None) -> list[VoteReceipt]:
        """So many random votes on as many new answers."""
        return [self.vote(self.answer(user), int(self.random.choice([-1, 1]))) for _ in range(count)]


@pytest.fixture
def make_tenancy(database: Database) -> Callable[[str], Tenancy]:
    """Make a tenant of the given name whose four principals have equal prior weights."""

    def make(name: str) -> Tenancy:
        with database.session() as session:
            register_principals(session, [CatalogueEntry(each, "adapter", "", 1.0) for each in PRINCIPALS])
            tenant = create_tenant(
                session,
                name=name,
                model="pocket",
                principals=dict.fromkeys(PRINCIPALS, 1.0),
                strength=1.0,
                mode="equilibrium",
            )
        return Tenancy(database, tenant.id)

    return make


@pytest.fixture
def tenancy(make_tenancy: Callable[[str], Tenancy]) -> Tenancy:
    return make_tenancy("first")
