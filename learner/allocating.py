"""The use case: work out the incentives under a scope's newest weights and add them to that version."""

from datetime import datetime

from learner.incentives import allocate
from learner.parameters import Parameters
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.generations import newest_contexts
from learner.store.incentives import add_allocation
from learner.store.parameters import add_reserves, load_parameters
from learner.store.tenants import get_tenant


def allocate_incentives(
    database: Database, scope: Scope, settings: LearnerSettings, now: datetime
) -> Parameters | None:
    """The scope's newest version with its reserves, as its next revision, committed but not published.

    None when that version has them already, when there is no context to work on, or when a newer version
    appeared meanwhile: then that one gets its own. No lock is held while it computes.
    """
    with database.session(scope.tenant_id) as session:
        parameters = load_parameters(session, scope)
        if parameters is None or parameters.revision:
            return None
        strength = get_tenant(session, scope.tenant_id).strength
        contexts = newest_contexts(session, scope, settings.incentive_contexts)
    weights = dict(zip(parameters.principals, parameters.weights, strict=True))
    allocation = allocate(contexts, weights, strength, seed=parameters.version)
    if allocation is None:
        return None
    with database.session(scope.tenant_id) as session:
        revised = add_reserves(session, parameters, allocation.reserves)
        if revised is not None:
            add_allocation(session, scope, revised.version, allocation, now)
    return revised
