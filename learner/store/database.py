"""A pool of connections to PostgreSQL and the transactions on it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from learner.settings import normalised_database_url

CONNECT_TIMEOUT_SECONDS = 3
STATEMENT_TIMEOUT_MILLISECONDS = 15_000
IDLE_TRANSACTION_TIMEOUT_MILLISECONDS = 30_000


# Both last until the end of the transaction.
_AS_TENANT = text("SELECT set_config('cage.tenant_id', :tenant_id, true), set_config('role', 'cage_tenant', true)")


class Database:
    """One process's access to PostgreSQL; safe to share between threads, not across a fork."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        timeouts = (
            f"-c statement_timeout={STATEMENT_TIMEOUT_MILLISECONDS}"
            f" -c idle_in_transaction_session_timeout={IDLE_TRANSACTION_TIMEOUT_MILLISECONDS}"
        )
        self.engine: Engine = create_engine(
            normalised_database_url(url),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=5,
            pool_pre_ping=True,
            # Errors are logged, and parameters carry users' ids and words.
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "options": timeouts},
        )
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def session(self, tenant_id: str | None = None) -> Iterator[Session]:
        """One transaction: committed on a clean exit, rolled back on an exception.

        With a tenant it runs as `cage_tenant`, a role for which row-level security hides every other tenant's rows:
        a second wall behind the queries' own conditions.
        """
        with self._sessions.begin() as session:
            if tenant_id is not None:
                session.execute(_AS_TENANT, {"tenant_id": tenant_id})
            yield session

    def ping(self) -> None:
        """One round trip.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database does not answer.
        """
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()
