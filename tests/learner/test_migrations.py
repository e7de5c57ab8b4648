"""Migrations make exactly the tables of the models, forwards and backwards."""

from concurrent.futures import ThreadPoolExecutor

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from learner.store import migrate


def tables(database_url: str) -> set[str]:
    engine = create_engine(migrate.normalised_database_url(database_url))
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def test_models_and_migrations_agree(database_url: str) -> None:
    configuration = migrate.configuration()
    engine = create_engine(migrate.normalised_database_url(database_url))
    with engine.connect() as connection:
        configuration.attributes["connection"] = connection
        command.check(configuration)
    engine.dispose()


def test_every_step_down_can_be_taken_up_again(database_url: str) -> None:
    full = tables(database_url)
    for script in ScriptDirectory.from_config(migrate.configuration()).walk_revisions():
        migrate.downgrade(database_url, script.down_revision or "base")
    assert tables(database_url) == {"alembic_version"}
    migrate.upgrade(database_url)
    assert tables(database_url) == full


def test_processes_that_migrate_together_wait_for_one_another(database_url: str) -> None:
    migrate.downgrade(database_url, "base")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: migrate.upgrade(database_url), range(4)))
    assert "feedback" in tables(database_url)
