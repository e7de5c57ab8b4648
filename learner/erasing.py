"""The use case: erase a user, or a whole tenant, as if it had never been there.

What is gone afterwards: the user's answers with their words, everybody's votes on them, the user's votes, everything
learned of the user, and its part of what was learned of others. The weights of the tenant are then, bit for bit,
those that the remaining votes give: evidence is a sum of integers, so taking a vote away leaves what would be there
without it (`learner.evidence`). Other users' answers stay as they were made, with the parameters that were in force.

Of the tenant's past its weights, reserves and regret stay: statistics over its users. The sums that they were solved
from go, since their differences would give single votes away; and so does the whole past of a tenant that learned
from nobody else. The newest reserves are worked out again on the contexts that are left.

Rows change in one transaction: a process that dies leaves everything or nothing. What is outside PostgreSQL is
cleared after the commit, and cleared again whenever the erasure is repeated.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import redis
from sqlalchemy.orm import Session

from learner import publishing
from learner.allocating import allocate_incentives
from learner.learning import fold, open_state
from learner.messages import discard_messages
from learner.parameters import Parameters
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store import erasure
from learner.store.database import Database
from learner.store.evidence import evidence_of, set_evidence
from learner.store.generations import newest_contexts
from learner.store.learning import lock_state
from learner.store.models import LearnerState
from learner.store.parameters import drop_reserves
from learner.store.shares import share_of
from learner.store.tenants import get_tenant


@dataclass(frozen=True)
class Erasure:
    """What was done to PostgreSQL.

    Attributes:
        forgotten: scopes of which nothing learned is left: the user, users who voted on nothing but the user's
            answers, and the tenant if it learned from nobody else.
        deleted: rows by table.
        refolded: new versions of users who had voted on the user's answers, and of the tenant.
        tenant_version_before, tenant_version_after: 0 for none.
    """

    scope: Scope
    forgotten: tuple[Scope, ...]
    deleted: Counter[str]
    refolded: tuple[Parameters, ...]
    tenant_version_before: int
    tenant_version_after: int


def erase_user(session: Session, scope: Scope, settings: LearnerSettings, now: datetime) -> Erasure:
    """Erase a user's rows and its part of others' states; of a user who is not there, nothing.

    Locks are taken in one order: the user's name, the tenant's state, the user's, its answers, the states of those who
    voted on them. So no answer of the user is logged meanwhile, no learner folds what is being erased, no vote on it
    begins, and learners and this never wait in a circle.

    Raises:
        EvidenceOverflow, SolverStalled: nothing was written.
    """
    erasure.hold_off_answers(session, scope)
    tenant = open_state(session, scope.tenant, settings, now)
    version_before = tenant.version
    deleted = _forget(session, scope, lock_state(session, scope, "", now), tenant)
    shared = deleted["tenant_shares"] > 0
    answers = erasure.locked_answers(session, scope)
    voters = [voter for voter in erasure.others_who_voted(session, scope, answers) if voter.user_id is not None]
    states = {voter: open_state(session, voter, settings, now) for voter in voters}
    gone = [voter for voter in voters if not erasure.has_votes_elsewhere(session, voter, scope)]
    for voter in gone:
        deleted += _forget(session, voter, states.pop(voter), tenant)
    erasure.take_back_votes(session, scope, answers, now)
    refolded: list[Parameters] = []
    for voter, state in states.items():
        refolded += _fold_all(session, voter, state, settings, now)
        erasure.strip_past(session, voter)
    forgotten = [scope, *gone]
    if erasure.has_other_sources(session, scope):
        changed = version_before > 0 and (shared or bool(answers))
        refolded += _fold_all(session, scope.tenant, tenant, settings, now, changed=changed)
        erasure.strip_past(session, scope.tenant)
    else:
        deleted += _forget(session, scope.tenant, tenant, tenant)
        forgotten.append(scope.tenant)
    deleted += erasure.delete_answers(session, answers)
    deleted += erasure.delete_votes_elsewhere(session, scope) + erasure.delete_requests(session, scope)
    if not newest_contexts(session, scope.tenant, 1):
        refolded = [drop_reserves(session, each) if each.user_id is None else each for each in refolded]
    version_after = 0 if scope.tenant in forgotten else tenant.version
    return Erasure(scope, tuple(forgotten), deleted, tuple(refolded), version_before, version_after)


def clear_traces(client: redis.Redis, erased: Erasure, settings: LearnerSettings) -> Counter[str]:
    """After the commit: clear Redis, tell decoders what is gone, and publish what was folded again.

    Returns what was cleared: keys with parameters, messages to workers. Repeating it does no harm.

    Raises:
        redis.RedisError: Redis does not answer; not all of it was cleared, so erase again.
    """
    cleared = Counter(parameters=0, messages=0)
    for scope in erased.forgotten:
        # By now every version of before is committed, so that none of them counts as learned afterwards.
        cleared["parameters"] += publishing.forget(client, scope, datetime.now(UTC))
        if scope.user_id is not None:
            cleared["messages"] += discard_messages(client, settings, scope.tenant_id, scope.user_id)
    for parameters in erased.refolded:
        publishing.publish(client, parameters)
    return cleared


def work_out_reserves_again(
    database: Database, client: redis.Redis, erased: Erasure, settings: LearnerSettings, now: datetime
) -> None:
    """Replace the tenant's reserves, which came from the erased user's contexts too, by those of what is left.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    if settings.incentive_contexts:
        revised = allocate_incentives(database, erased.scope.tenant, settings, now)
        if revised is not None:
            publishing.publish(client, revised)


def delete_tenant(session: Session, tenant_id: str) -> Counter[str]:
    """Delete a tenant with its keys, users and everything learned; its audit entries stay. Rows by table.

    Raises:
        UnknownTenant: there is none of this id.
    """
    get_tenant(session, tenant_id)
    erasure.lock_states(session, tenant_id)
    return erasure.delete_tenant(session, tenant_id)


def clear_tenants_traces(client: redis.Redis, tenant_id: str, settings: LearnerSettings) -> Counter[str]:
    """After the commit: clear Redis of a tenant and its users, and tell decoders. Repeating it does no harm.

    Raises:
        redis.RedisError: Redis does not answer; not all of it was cleared, so delete again.
    """
    keys = publishing.forget_tenant(client, tenant_id)
    return Counter(parameters=keys, messages=discard_messages(client, settings, tenant_id, None))


def _forget(session: Session, scope: Scope, state: LearnerState, tenant: LearnerState) -> Counter[str]:
    """Delete what was learned of a scope, and take a user's share out of its tenant's evidence."""
    if scope.user_id is not None:
        set_evidence(tenant, evidence_of(tenant) - share_of(session, scope))
        session.flush()
    was_there = state.version > 0
    deleted = erasure.delete_learned(session, scope)
    if not was_there:
        # Only made to be locked.
        deleted["learner_states"] -= 1
    return deleted


def _fold_all(
    session: Session,
    scope: Scope,
    state: LearnerState,
    settings: LearnerSettings,
    now: datetime,
    *,
    changed: bool = False,
) -> Iterable[Parameters]:
    """Fold everything that waits for a scope; the newest version that came of it, if any."""
    newest: list[Parameters] = []
    outcome = fold(session, scope, state, settings, now, changed=changed)
    while outcome is not None:
        newest = [outcome.parameters]
        more = max(outcome.folded_votes, outcome.folded_users) >= settings.feedbacks_per_transaction
        outcome = fold(session, scope, state, settings, now) if more else None
    if not state.version:
        session.delete(state)
        session.flush()
    return newest
