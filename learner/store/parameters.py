"""Parameter versions: what was learned, and what holds while nothing was."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

from sqlalchemy import ARRAY, BigInteger, Text, and_, cast, func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from learner.parameters import Parameters
from learner.posterior import Posterior
from learner.scope import Scope
from learner.store.models import LearnerState, ParameterVersion
from learner.store.tenants import tenant_principals

NEVER = datetime.fromtimestamp(0, UTC)


def load_parameters(session: Session, scope: Scope) -> Parameters | None:
    """The newest version that was learned for exactly this scope."""
    newest = session.scalar(
        select(ParameterVersion)
        .where(ParameterVersion.tenant_id == scope.tenant_id, ParameterVersion.user_id == scope.user_key)
        .order_by(ParameterVersion.version.desc())
        .limit(1)
    )
    return None if newest is None else _parameters(newest)


def configured_parameters(session: Session, tenant_id: str) -> Parameters:
    """Version 0 of a tenant: its prior weights.

    Raises:
        UnknownTenant: there is none of this id.
    """
    principals = tenant_principals(session, tenant_id)
    weights = tuple(principal.prior_weight for principal in principals)
    return Parameters(
        tenant_id=tenant_id,
        user_id=None,
        version=0,
        principals=tuple(principal.name for principal in principals),
        theta=(*weights, 0.0),
        weights=weights,
        feedback_count=0,
        learned_at=NEVER,
        oldest_feedback_at=None,
    )


def effective_parameters(session: Session, scope: Scope) -> Parameters:
    """What holds for a scope: its own parameters, else its tenant's, else the configured prior.

    Raises:
        UnknownTenant: there is none of this id.
    """
    return (
        load_parameters(session, scope)
        or load_parameters(session, scope.tenant)
        or configured_parameters(session, scope.tenant_id)
    )


def newer_parameters(session: Session, held: Mapping[Scope, tuple[int, int]]) -> list[Parameters]:
    """The current parameters of those scopes whose version and revision are above those held."""
    ours = (
        func.unnest(
            cast([scope.tenant_id for scope in held], ARRAY(Text)),
            cast([scope.user_key for scope in held], ARRAY(Text)),
            cast([version for version, _ in held.values()], ARRAY(BigInteger)),
            cast([revision for _, revision in held.values()], ARRAY(BigInteger)),
        )
        .table_valued("tenant_id", "user_id", "version", "revision", name="ours")
        .render_derived()
    )
    rows = session.scalars(
        select(ParameterVersion)
        .join(
            LearnerState,
            and_(
                LearnerState.tenant_id == ParameterVersion.tenant_id,
                LearnerState.user_id == ParameterVersion.user_id,
                LearnerState.version == ParameterVersion.version,
            ),
        )
        .join(
            ours,
            and_(
                ours.c.tenant_id == LearnerState.tenant_id,
                ours.c.user_id == LearnerState.user_id,
                tuple_(ours.c.version, ours.c.revision) < tuple_(ParameterVersion.version, ParameterVersion.revision),
            ),
        )
    )
    return list(map(_parameters, rows))


def add_parameters(session: Session, parameters: Parameters) -> None:
    """Record a new version."""
    session.execute(
        insert(ParameterVersion).values(
            tenant_id=parameters.tenant_id,
            user_id=parameters.scope.user_key,
            version=parameters.version,
            principals=list(parameters.principals),
            theta=list(parameters.theta),
            weights=list(parameters.weights),
            feedback_count=parameters.feedback_count,
            learned_at=parameters.learned_at,
            oldest_feedback_at=parameters.oldest_feedback_at,
            revision=parameters.revision,
            reserves=None if parameters.reserves is None else list(parameters.reserves),
            posterior=None if parameters.posterior is None else asdict(parameters.posterior),
        )
    )


def add_reserves(session: Session, parameters: Parameters, reserves: Sequence[float]) -> Parameters | None:
    """Add reserves to a version, as its next revision; None when the version is no longer the scope's newest."""
    scope = parameters.scope
    newest = (
        select(LearnerState.version)
        .where(LearnerState.tenant_id == scope.tenant_id, LearnerState.user_id == scope.user_key)
        .scalar_subquery()
    )
    revision = session.scalar(
        update(ParameterVersion)
        .where(
            ParameterVersion.tenant_id == scope.tenant_id,
            ParameterVersion.user_id == scope.user_key,
            ParameterVersion.version == parameters.version,
            ParameterVersion.version == newest,
        )
        .values(reserves=list(reserves), revision=ParameterVersion.revision + 1)
        .returning(ParameterVersion.revision)
    )
    return None if revision is None else replace(parameters, revision=revision, reserves=tuple(reserves))


def _parameters(row: ParameterVersion) -> Parameters:
    return Parameters(
        tenant_id=row.tenant_id,
        user_id=row.user_id or None,
        version=row.version,
        principals=tuple(row.principals),
        theta=tuple(row.theta),
        weights=tuple(row.weights),
        feedback_count=row.feedback_count,
        learned_at=row.learned_at,
        oldest_feedback_at=row.oldest_feedback_at,
        posterior=None if row.posterior is None else Posterior.from_fields(row.posterior),
        revision=row.revision,
        reserves=None if row.reserves is None else tuple(row.reserves),
    )
