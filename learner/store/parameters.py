"""Parameter versions: what was learned, and what holds while nothing was."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

from sqlalchemy import ARRAY, BigInteger, Text, and_, cast, func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from learner.errors import UnknownTenant
from learner.parameters import Parameters
from learner.posterior import Posterior
from learner.scope import Scope
from learner.store.models import LearnerState, ParameterVersion, TenantPrincipal

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
    found = configurations(session, [tenant_id])
    if not found:
        raise UnknownTenant(f"no tenant has the id {tenant_id!r}")
    return found[tenant_id]


def configurations(session: Session, tenant_ids: Iterable[str]) -> dict[str, Parameters]:
    """Version 0 of each of these tenants that exists."""
    weights: dict[str, dict[str, float]] = defaultdict(dict)
    rows = session.execute(
        select(TenantPrincipal.tenant_id, TenantPrincipal.principal_name, TenantPrincipal.prior_weight)
        .where(TenantPrincipal.tenant_id.in_(list(tenant_ids)))
        .order_by(TenantPrincipal.position)
    )
    for tenant_id, name, weight in rows:
        weights[tenant_id][name] = weight
    return {
        tenant_id: Parameters(
            tenant_id=tenant_id,
            user_id=None,
            version=0,
            principals=tuple(named),
            theta=(*named.values(), 0.0),
            weights=tuple(named.values()),
            feedback_count=0,
            learned_at=NEVER,
            oldest_feedback_at=None,
        )
        for tenant_id, named in weights.items()
    }


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


def vanished_scopes(session: Session, held: Mapping[Scope, tuple[int, int]]) -> list[Scope]:
    """Those scopes of which a version is held that is not on record any more, because it was erased."""
    ours = (
        func.unnest(
            cast([scope.tenant_id for scope in held], ARRAY(Text)),
            cast([scope.user_key for scope in held], ARRAY(Text)),
            cast([version for version, _ in held.values()], ARRAY(BigInteger)),
        )
        .table_valued("tenant_id", "user_id", "version", name="ours")
        .render_derived()
    )
    own = and_(LearnerState.tenant_id == ours.c.tenant_id, LearnerState.user_id == ours.c.user_id)
    rows = session.execute(
        select(ours.c.tenant_id, ours.c.user_id)
        .select_from(ours)
        .join(LearnerState, own, isouter=True)
        .where(ours.c.version > func.coalesce(LearnerState.version, 0))
    )
    return [Scope.of_key(tenant_id, user_key) for tenant_id, user_key in rows]


def is_on_record(session: Session, scope: Scope, version: int) -> bool:
    """Whether a version was not erased; it is not before the transaction ends."""
    found = session.scalar(
        select(ParameterVersion.version)
        .where(
            ParameterVersion.tenant_id == scope.tenant_id,
            ParameterVersion.user_id == scope.user_key,
            ParameterVersion.version == version,
        )
        .with_for_update(read=True, key_share=True)
    )
    return found is not None


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


def drop_reserves(session: Session, parameters: Parameters) -> Parameters:
    """Take the reserves off a version that nobody has seen yet."""
    scope = parameters.scope
    session.execute(
        update(ParameterVersion)
        .where(
            ParameterVersion.tenant_id == scope.tenant_id,
            ParameterVersion.user_id == scope.user_key,
            ParameterVersion.version == parameters.version,
        )
        .values(reserves=None)
        .execution_options(synchronize_session=False)
    )
    return replace(parameters, reserves=None)


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
