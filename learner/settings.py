"""The learner's settings, from environment variables that start with CAGE_."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from learner.surrogate import LearningConstants

PLACEHOLDERS = frozenset(
    {"", "change-me", "changeme", "change_me", "password", "secret", "postgres", "redis", "cage", "example", "todo"}
)
_THIS_MACHINE = frozenset({None, "", "localhost", "127.0.0.1", "::1"})


def with_real_password(url: str) -> str:
    """The same address, whose password nobody can guess from an example; on this machine it may be anything.

    Raises:
        ValueError: the password is empty or a placeholder.
    """
    parts = urlsplit(url)
    guessable = parts.password is not None and parts.password.lower() in PLACEHOLDERS
    if guessable and parts.hostname not in _THIS_MACHINE:
        raise ValueError(f"the password for {parts.hostname} is empty or a placeholder; set one of your own")
    return url


def normalised_database_url(url: str) -> str:
    """The same PostgreSQL address, with the driver this code uses named in it.

    Raises:
        ValueError: the address is not PostgreSQL's.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError("the database address should look like postgresql://user@host/name") from error
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError(f"the database must be PostgreSQL, not {parsed.get_backend_name()}")
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def _as_vote(given: Any) -> Any:
    """What an environment variable can say of a vote."""
    return {"": None, "none": None, "up": 1, "down": -1, "1": 1, "+1": 1, "-1": -1}.get(given, given)


DefaultVote = Annotated[Literal[-1, 1] | None, BeforeValidator(_as_vote)]


class LearnerSettings(BaseSettings):
    """Where the servers are and how learning goes; docs/decisions/0002 has the reasons for the numbers.

    Attributes:
        feedbacks_per_user_in_tenant: most votes that one user, or all votes without a user, weigh in the tenant.
        window_feedbacks: newest votes of a scope that count; None for all.
        learning_queues: queues that scopes are spread over; the same on every machine.
        retry_first_seconds, retry_longest_seconds: pause after a scope's first failure, doubled with each further
            one up to the longest.
        incentive_contexts: newest token contexts of a scope that incentives are worked out on; 0 for no incentives.
        context_retention_days: token contexts older than this are deleted.
        default_vote: vote that an answer without one is taken for; None for none.
        default_vote_wait_seconds: how long an answer may wait for a vote of its own before that.
    """

    model_config = SettingsConfigDict(env_prefix="CAGE_", frozen=True, extra="ignore")

    database_url: Annotated[str, AfterValidator(with_real_password), AfterValidator(normalised_database_url)]
    redis_url: Annotated[str, AfterValidator(with_real_password)]

    prior_precision: PositiveFloat = 1.0
    bias_prior_precision: PositiveFloat = 1.0
    coefficient_limit: float = Field(default=1.5, ge=1.0)
    bias_limit: PositiveFloat = 1.0
    feature_limit: PositiveFloat = 3.0

    feedbacks_per_user_in_tenant: PositiveInt = 50
    window_feedbacks: PositiveInt | None = None

    feedbacks_per_transaction: PositiveInt = 1000
    regret_feedbacks: PositiveInt = 5000
    sweep_interval_seconds: PositiveFloat = 3.0
    learning_queues: PositiveInt = 8
    retry_first_seconds: PositiveFloat = 5.0
    retry_longest_seconds: PositiveFloat = 3600.0

    incentive_contexts: NonNegativeInt = 1000
    context_retention_days: PositiveFloat = 30.0

    default_vote: DefaultVote = None
    default_vote_wait_seconds: PositiveFloat = 24 * 3600.0

    database_pool_size: PositiveInt = 5
    cached_scopes: PositiveInt = 10_000
    version_check_seconds: PositiveFloat = 2.0

    @classmethod
    def from_environment(cls) -> Self:
        """The settings that the environment gives.

        Raises:
            pydantic.ValidationError: a variable is missing or makes no sense; the message names it.
        """
        return cls()  # type: ignore[call-arg]

    @property
    def constants(self) -> LearningConstants:
        """The numbers that the mathematics needs."""
        return LearningConstants(
            prior_precision=self.prior_precision,
            bias_prior_precision=self.bias_prior_precision,
            coefficient_limit=self.coefficient_limit,
            bias_limit=self.bias_limit,
            feature_limit=self.feature_limit,
        )
