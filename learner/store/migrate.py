"""Bring a database to the schema of this code."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

import learner
from learner.errors import MigrationsMissing
from learner.settings import normalised_database_url

MIGRATION_LOCK = 0x63616765
"""PostgreSQL advisory lock that a migrating process holds."""


def upgrade(database_url: str, revision: str = "head") -> None:
    """Migrate up to a revision; processes that start together wait for one another.

    Raises:
        MigrationsMissing: this installation has no migration scripts.
    """
    _run(command.upgrade, database_url, revision)


def downgrade(database_url: str, revision: str) -> None:
    """Migrate down to a revision; "base" removes everything.

    Raises:
        MigrationsMissing: this installation has no migration scripts.
    """
    _run(command.downgrade, database_url, revision)


def configuration() -> Config:
    """Alembic's configuration, with the scripts found beside the package.

    Raises:
        MigrationsMissing: this installation has no migration scripts.
    """
    scripts = Path(learner.__file__).resolve().parents[1] / "migrations"
    if not (scripts / "env.py").is_file():
        raise MigrationsMissing(f"no migrations at {scripts}; install from a checkout (pip install -e .)")
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _run(direction: Callable[[Config, str], None], database_url: str, revision: str) -> None:
    config = configuration()
    engine = create_engine(normalised_database_url(database_url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        direction(config, revision)
    engine.dispose()
