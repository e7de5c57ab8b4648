"""How Alembic reaches the database: over a connection handed in, or the one CAGE_DATABASE_URL names."""

import os

from alembic import context
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from learner.settings import normalised_database_url
from learner.store.models import Base


def migrate(connection: Connection) -> None:
    """Run what was asked for, all in one transaction."""
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


handed_in: Connection | None = context.config.attributes.get("connection")
if handed_in is not None:
    migrate(handed_in)
else:
    engine = create_engine(normalised_database_url(os.environ["CAGE_DATABASE_URL"]), poolclass=NullPool)
    with engine.connect() as own:
        migrate(own)
