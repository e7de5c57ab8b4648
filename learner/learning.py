"""The use case: fold what users said since the last time into a new version of a scope's parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from learner.evidence import Evidence, accumulate
from learner.parameters import Parameters
from learner.posterior import posterior_of
from learner.preferences import decoder_weights, solve_theta
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.evidence import evidence_of, set_evidence
from learner.store.feedback import expire_votes
from learner.store.learning import (
    UnlearnedVote,
    forget_learned,
    has_news,
    lock_state,
    mark_learned,
    save_state,
    unlearned_votes,
)
from learner.store.models import LearnerState
from learner.store.parameters import add_parameters, load_parameters
from learner.store.shares import (
    anonymous_evidence,
    evidence_of_others,
    forget_shares,
    save_anonymous_evidence,
    save_shares,
    unshared_users,
)
from learner.store.tenants import tenant_principals


@dataclass(frozen=True)
class LearnOutcome:
    """A new version, and how many changes of votes and of users it came from."""

    parameters: Parameters
    folded_votes: int
    folded_users: int


def learn(database: Database, scope: Scope, settings: LearnerSettings, now: datetime) -> LearnOutcome | None:
    """Learn everything that waits for this scope; None when nothing does.

    Each batch is one transaction under the lock of the scope's state row: evidence, version and the marks
    on the votes are written together or not at all. So it may run twice, at once or never finish, and
    every vote is still counted exactly once. The result is committed but not published.

    Raises:
        UnknownTenant: there is no such tenant.
        EvidenceOverflow, SolverStalled: nothing of the failing batch was written.
    """
    outcome = None
    while True:
        with database.session(scope.tenant_id) as session:
            step = _learn_batch(session, scope, settings, now)
        if step is None:
            return outcome
        outcome = step
        if max(step.folded_votes, step.folded_users) < settings.feedbacks_per_transaction:
            return outcome


def _learn_batch(session: Session, scope: Scope, settings: LearnerSettings, now: datetime) -> LearnOutcome | None:
    if not has_news(session, scope):
        return None
    state = open_state(session, scope, settings, now)
    outcome = fold(session, scope, state, settings, now)
    if outcome is None and not state.version:
        # Whoever held the lock took away what there was to learn: leave no empty state behind.
        session.delete(state)
    return outcome


def open_state(session: Session, scope: Scope, settings: LearnerSettings, now: datetime) -> LearnerState:
    """The state row of a scope, locked; emptied first if its evidence was computed with other constants."""
    fingerprint = evidence_fingerprint(scope, settings)
    state = lock_state(session, scope, fingerprint, now)
    if state.constants != fingerprint:
        _start_over(session, scope, state, fingerprint)
    return state


def fold(
    session: Session,
    scope: Scope,
    state: LearnerState,
    settings: LearnerSettings,
    now: datetime,
    *,
    changed: bool = False,
) -> LearnOutcome | None:
    """Fold one batch of what waits for a scope into its locked state, as the next version.

    Args:
        changed: whether something else changed, so that there is a new version even if nothing waits.
    """
    if settings.window_feedbacks is not None:
        expire_votes(session, scope, now, keep_newest=settings.window_feedbacks)
    votes = unlearned_votes(session, scope, settings.feedbacks_per_transaction)
    change, users = _change(votes, settings), 0
    if scope.user_id is None:
        from_anonymous = _take_over_anonymous(session, scope, settings, change)
        from_users, users = _take_over_users(session, scope, settings)
        change = from_anonymous + from_users
    evidence = evidence_of(state) + change
    if not (votes or users or changed):
        return None
    save_state(session, state, evidence, now)
    if votes:
        mark_learned(session, votes, state.version, now)
    parameters = solve_parameters(session, scope, settings, evidence, state.version, now, votes)
    add_parameters(session, parameters)
    return LearnOutcome(parameters, len(votes), users)


def _change(votes: list[UnlearnedVote], settings: LearnerSettings) -> Evidence:
    """What folding these votes adds: what each should count for, less what is already in."""
    signed = [(vote.learned, -1) for vote in votes] + [(vote.counted, +1) for vote in votes]
    observations, signs = [], []
    for observation, sign in signed:
        if observation is not None:
            observations.append(observation)
            signs.append(sign)
    return accumulate(observations, settings.constants, signs)


def evidence_fingerprint(scope: Scope, settings: LearnerSettings) -> str:
    """Names the settings that a scope's evidence depends on; a tenant's also on the cap."""
    fingerprint = settings.constants.evidence_fingerprint
    return fingerprint if scope.user_id is not None else f"{fingerprint} {settings.feedbacks_per_user_in_tenant}"


def _take_over_anonymous(session: Session, scope: Scope, settings: LearnerSettings, change: Evidence) -> Evidence:
    """What the tenant gains from votes without a user: leaving the name out must not get round the cap."""
    before = anonymous_evidence(session, scope.tenant_id)
    after = before + change
    save_anonymous_evidence(session, scope.tenant_id, after)
    cap = settings.feedbacks_per_user_in_tenant
    return after.capped(cap) - before.capped(cap)


def _take_over_users(session: Session, scope: Scope, settings: LearnerSettings) -> tuple[Evidence, int]:
    """What the tenant gains from users who learned, each with no more than its share of influence."""
    users = unshared_users(session, scope.tenant_id, settings.feedbacks_per_transaction)
    if not users:
        return Evidence.none(), 0
    shares = [user.evidence.capped(settings.feedbacks_per_user_in_tenant) for user in users]
    gain = Evidence.none()
    for user, share in zip(users, shares, strict=True):
        gain = gain + (share - user.share)
    save_shares(session, scope.tenant_id, users, shares)
    return gain, len(users)


def solve_parameters(
    session: Session,
    scope: Scope,
    settings: LearnerSettings,
    evidence: Evidence,
    version: int,
    now: datetime,
    votes: Sequence[UnlearnedVote] = (),
) -> Parameters:
    """The parameters that follow from a scope's evidence under the tenant's configuration as it is now.

    Args:
        votes: those that made this version.
    """
    principals = tenant_principals(session, scope.tenant_id)
    weights = {principal.name: principal.prior_weight for principal in principals}
    names = tuple(weights)
    prior, bias = weights, 0.0
    if scope.user_id is not None:
        # A user's own votes are in the tenant's evidence too; left in the prior they would count twice.
        others = evidence_of_others(session, scope)
        prior, bias = solve_theta(others, weights, 0.0, settings.constants)
    before = load_parameters(session, scope)
    start = (*(prior[name] for name in names), bias)
    posterior = posterior_of(evidence, names, start, tuple(weights.values()), settings.constants)
    theta, bias = solve_theta(evidence, prior, bias, settings.constants)
    coefficients = tuple(theta[name] for name in names)
    return Parameters(
        tenant_id=scope.tenant_id,
        user_id=scope.user_id,
        version=version,
        principals=names,
        theta=(*coefficients, bias),
        weights=decoder_weights(coefficients, posterior.prior_weights),
        feedback_count=evidence.feedback_count,
        learned_at=now,
        oldest_feedback_at=min((vote.changed_at for vote in votes), default=None),
        posterior=posterior,
        # Until the incentives are worked out under these weights, those under the last ones are the best guess.
        reserves=before.reserves if before is not None and before.principals == names else None,
    )


def _start_over(session: Session, scope: Scope, state: LearnerState, fingerprint: str) -> None:
    """Empty evidence that was computed with other constants; what it held waits to be learned again."""
    set_evidence(state, Evidence.none())
    state.constants = fingerprint
    session.flush()
    forget_learned(session, scope)
    if scope.user_id is None:
        forget_shares(session, scope.tenant_id)
