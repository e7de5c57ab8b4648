"""The error tree of the learner. Every message says what was wrong and what to do."""


class LearnerError(Exception):
    """Root of everything the learner raises on purpose."""


class InvalidInput(LearnerError):
    """Something that was handed in cannot be right; nothing was written."""


class InvalidPrincipals(InvalidInput):
    """A tenant's principals or their prior weights cannot be used."""


class InvalidExploration(InvalidInput):
    """There is no exploration of this name."""


class InvalidGeneration(InvalidInput):
    """A generation's features or parameters cannot be learned from."""


class InvalidVote(InvalidInput):
    """A vote is neither +1 nor -1."""


class InvalidKeyScopes(InvalidInput):
    """A key would have no scope, or one that there is not."""


class NameTaken(InvalidInput):
    """Another tenant is called this already."""


class NotFound(LearnerError):
    """What was asked for does not exist, or is another tenant's."""


class UnknownTenant(NotFound):
    """No tenant has this id."""


class UnknownPrincipal(NotFound):
    """The catalogue has no principal of this name."""


class UnknownApiKey(NotFound):
    """No key of this tenant has this id."""


class UnknownUser(NotFound):
    """Nothing is stored of a user of this id."""


class UnknownGeneration(NotFound):
    """No generation of this tenant has this id."""


class UnknownFeedback(NotFound):
    """No feedback of this tenant has this id."""


class EvidenceOverflow(LearnerError):
    """A scope's evidence no longer fits its fixed-point range."""


class SolverStalled(LearnerError):
    """The box program met no optimum within its iteration limit."""


class MigrationsMissing(LearnerError):
    """The migration scripts are not where this installation should have them."""


class TracingUnavailable(LearnerError):
    """Traces are asked for, but what sends them is not installed."""
