"""The use case: solve what was learned again when a tenant's principals or prior weights have changed.

The evidence stays: it is a sum over votes and knows nothing of priors. A tenant is solved again at once, its users
when they are next asked for or vote: nobody decodes with weights of an older configuration (`ParameterCache`).
"""

from datetime import datetime

from sqlalchemy.orm import Session

from learner.learning import solve_parameters
from learner.parameters import Parameters
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.evidence import evidence_of
from learner.store.learning import find_locked_state, save_state
from learner.store.parameters import add_parameters, configured_parameters, load_parameters


def relearn(database: Database, scope: Scope, settings: LearnerSettings, now: datetime) -> Parameters | None:
    """The scope's parameters under the present configuration, committed but not published.

    None when nothing was learned of it. Parameters that follow the configuration already are left as they are.

    Raises:
        UnknownTenant: there is no such tenant.
        SolverStalled: nothing was written.
    """
    with database.session(scope.tenant_id) as session:
        return relearn_in(session, scope, settings, now)


def relearn_in(session: Session, scope: Scope, settings: LearnerSettings, now: datetime) -> Parameters | None:
    """`relearn` as part of a transaction."""
    state = find_locked_state(session, scope)
    before = load_parameters(session, scope)
    if state is None or before is None:
        return None
    if before.follows(configured_parameters(session, scope.tenant_id)):
        return before
    evidence, is_shared = evidence_of(state), state.shared_version == state.version
    save_state(session, state, evidence, now)
    if is_shared:
        # The same evidence under another version: the tenant has nothing to take over.
        state.shared_version = state.version
    parameters = solve_parameters(session, scope, settings, evidence, state.version, now)
    add_parameters(session, parameters)
    return parameters
