"""The learner's settings, from environment variables that start with CAGE_."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from learner.surrogate import LearningConstants


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


class LearnerSettings(BaseSettings):
    """Where the servers are and how learning goes; docs/decisions/0002 has the reasons for the numbers."""

    model_config = SettingsConfigDict(env_prefix="CAGE_", frozen=True, extra="ignore")

    database_url: Annotated[str, AfterValidator(normalised_database_url)]
    redis_url: str

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
