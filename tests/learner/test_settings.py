"""Settings and scopes refuse what cannot be right, with the reason."""

import pytest
from pydantic import ValidationError

from learner.scope import Scope
from learner.settings import LearnerSettings, normalised_database_url


@pytest.mark.parametrize(
    "given", ["postgresql://u:p%40ss@h/d", "postgres://u:p%40ss@h/d", "postgresql+psycopg://u:p%40ss@h/d"]
)
def test_every_way_to_name_postgresql_ends_in_one(given: str) -> None:
    assert normalised_database_url(given) == "postgresql+psycopg://u:p%40ss@h/d"


@pytest.mark.parametrize("given", ["sqlite://", "mysql://h/d", "nonsense", ""])
def test_other_databases_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match="database"):
        normalised_database_url(given)


def test_missing_addresses_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CAGE_DATABASE_URL", "CAGE_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValidationError, match=r"(?s)database_url.*redis_url"):
        LearnerSettings.from_environment()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAGE_DATABASE_URL", "postgresql://h/d")
    monkeypatch.setenv("CAGE_REDIS_URL", "redis://h")
    monkeypatch.setenv("CAGE_PRIOR_PRECISION", "3")
    assert LearnerSettings.from_environment().constants.prior_precision == 3.0
    monkeypatch.setenv("CAGE_COEFFICIENT_LIMIT", "0.5")
    with pytest.raises(ValidationError, match="coefficient_limit"):
        LearnerSettings.from_environment()


@pytest.mark.parametrize(("tenant", "user"), [("", "u"), ("t", "")])
def test_empty_ids_are_no_scope(tenant: str, user: str) -> None:
    with pytest.raises(ValueError, match="not empty"):
        Scope(tenant, user)
