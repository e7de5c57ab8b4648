"""Rebuild everything that was learned from the feedback table alone, and compare it with what is stored.

What a state holds is, bit for bit, a function of the votes marked as learned and of the tenant's other users.
Anything else is a fault. Votes that wait to be learned, and users whom their tenant has not taken over yet,
are no difference: both sides leave them out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from learner.evidence import Evidence, accumulate
from learner.learning import evidence_fingerprint
from learner.observations import Observation
from learner.parameters import Parameters
from learner.posterior import posterior_of
from learner.preferences import decoder_weights, solve_theta
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.evidence import evidence_of
from learner.store.learning import every_learned_observation
from learner.store.models import LearnerState
from learner.store.parameters import load_parameters
from learner.store.replay import known_scopes, shared_users
from learner.store.shares import anonymous_evidence

EVIDENCE = "its evidence is not that of its votes"
ANONYMOUS = "the evidence of its votes without a user is not that of these votes"
SHARES = "the share of user {user!r} is not what the cap leaves of that user's votes"
WEIGHTS = "the weights in use do not follow from its evidence"
MISSING = "it has learned votes but no state"
OTHER_CONSTANTS = "learned with other settings; the next vote rebuilds it"
BATCH = 2000


@dataclass(frozen=True)
class Finding:
    """What is wrong with a scope, or why it could not be compared."""

    scope: Scope
    what: str


@dataclass(frozen=True)
class ReplayReport:
    """Result of a replay.

    Attributes:
        compared: scopes whose rebuilt state was compared.
        votes: learned votes folded again.
        differences: scopes whose stored state is not what their votes give.
        skipped: scopes that were learned with other settings than this process has.
    """

    compared: int
    votes: int
    differences: tuple[Finding, ...]
    skipped: tuple[Finding, ...]


def replay(database: Database, settings: LearnerSettings, progress: Callable[[int, int], None]) -> ReplayReport:
    """Compare every scope; each in a snapshot of its own, so that learning may go on meanwhile.

    Args:
        progress: told the number of scopes done and of all scopes.
    """
    with database.session() as session:
        scopes = known_scopes(session)
    differences: list[Finding] = []
    skipped: list[Finding] = []
    votes = 0
    for done, scope in enumerate(scopes):
        progress(done, len(scopes))
        with database.session() as session:
            session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            state = session.get(LearnerState, (scope.tenant_id, scope.user_key))
            if state is not None and state.constants != evidence_fingerprint(scope, settings):
                skipped.append(Finding(scope, OTHER_CONSTANTS))
                continue
            own = _own_evidence(session, scope, settings)
            votes += own.feedback_count
            differences += [Finding(scope, what) for what in _compare(session, scope, settings, state, own)]
    progress(len(scopes), len(scopes))
    return ReplayReport(len(scopes) - len(skipped), votes, tuple(differences), tuple(skipped))


def _own_evidence(session: Session, scope: Scope, settings: LearnerSettings) -> Evidence:
    """Evidence of the scope's own votes as far as they are learned; of a tenant, those without a user."""
    total, batch = Evidence.none(), list[Observation]()
    for observation in every_learned_observation(session, scope):
        batch.append(observation)
        if len(batch) == BATCH:
            total, batch = total + accumulate(batch, settings.constants), []
    return total + accumulate(batch, settings.constants)


def _compare(
    session: Session, scope: Scope, settings: LearnerSettings, state: LearnerState | None, own: Evidence
) -> Iterator[str]:
    if state is None:
        if own.feedback_count:
            yield MISSING
        return
    expected = own
    if scope.user_id is None:
        if not _same(anonymous_evidence(session, scope.tenant_id), own):
            yield ANONYMOUS
        cap = settings.feedbacks_per_user_in_tenant
        expected = own.capped(cap)
        for user in shared_users(session, scope.tenant_id):
            expected = expected + user.share
            if user.up_to_date and not _same(user.share, user.evidence.capped(cap)):
                yield SHARES.format(user=user.user_id)
    if not _same(evidence_of(state), expected):
        yield EVIDENCE
    parameters = load_parameters(session, scope)
    if parameters is None or parameters.version != state.version or not _follows(parameters, expected, settings):
        yield WEIGHTS


def _same(left: Evidence, right: Evidence) -> bool:
    """Bitwise; principals without evidence on either side do not matter."""
    union = {*left.principals, *right.principals}
    return left.over(union) == right.over(union)


def _follows(parameters: Parameters, evidence: Evidence, settings: LearnerSettings) -> bool:
    """Whether evidence and the prior on record give exactly these parameters."""
    on_record = parameters.posterior
    if on_record is None:
        return False
    names = parameters.principals
    prior = dict(zip(names, on_record.prior[:-1], strict=True))
    theta, bias = solve_theta(evidence, prior, on_record.prior[-1], settings.constants)
    coefficients = tuple(theta[name] for name in names)
    return (
        parameters.theta == (*coefficients, bias)
        and parameters.weights == decoder_weights(coefficients, on_record.prior_weights)
        and on_record == posterior_of(evidence, names, on_record.prior, on_record.prior_weights, settings.constants)
    )
