"""The use case: keep the regret of a scope on record, at a cost per vote that does not grow."""

from datetime import datetime

from learner.regret import Regret, measure
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.learning import learned_observations
from learner.store.parameters import is_on_record
from learner.store.regret import add_regret, versions_learned_and_measured
from learner.store.tenants import tenant_principals

ALWAYS_UP_TO_VERSION = 64
GROWTH = 1.05


def measure_regret(database: Database, scope: Scope, settings: LearnerSettings, now: datetime) -> Regret | None:
    """Measure after the current version, if that is due; None when it is not.

    The best parameters in hindsight need all votes again, so a long history is measured each time that it
    has grown by a twentieth: the work per vote stays constant. A tenant's regret compares the parameters
    that each user had with the best single ones for all of its users, so it may be negative.
    """
    with database.session(scope.tenant_id) as session:
        version, measured = versions_learned_and_measured(session, scope)
        if version == measured or (version > ALWAYS_UP_TO_VERSION and version < GROWTH * measured):
            return None
        observations = learned_observations(session, scope, settings.regret_feedbacks)
        if not observations:
            return None
        principals = tenant_principals(session, scope.tenant_id)
        regret = measure(observations, {each.name: each.prior_weight for each in principals}, settings.constants)
        if is_on_record(session, scope, version):
            add_regret(session, scope, version, regret, now)
    return regret
