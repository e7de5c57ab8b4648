"""A pool of connections to PostgreSQL and the transactions on it."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from learner.settings import normalised_database_url
from learner.store.error_details import leave_out_details

CONNECT_TIMEOUT_SECONDS = 3
STATEMENT_TIMEOUT_MILLISECONDS = 15_000
IDLE_TRANSACTION_TIMEOUT_MILLISECONDS = 30_000
IDLE_SECONDS = 1.0


def _ping_idle_connections(engine: Engine) -> None:
    """Try connections before they are used again, but only idle ones: `pool_pre_ping` costs each use a round trip."""

    @event.listens_for(engine, "checkin")
    def note_time(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["used_seconds"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def try_idle(connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: object) -> None:
        if time.monotonic() - record.info.get("used_seconds", math.inf) > IDLE_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError from error  # the pool connects anew


# Both last until the end of the transaction.
_AS_TENANT = text("SELECT set_config('cage.tenant_id', :tenant_id, true), set_config('role', 'cage_tenant', true)")


def _become_tenant(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    """Whatever transaction a tenant's session begins: its first statement is this one."""
    if (tenant_id := session.info["tenant_id"]) is not None:
        connection.execute(_AS_TENANT, {"tenant_id": tenant_id})


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
            # Errors are logged, and parameters carry users' ids and words.
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "options": timeouts},
        )
        leave_out_details(self.engine)
        _ping_idle_connections(self.engine)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        event.listen(self._sessions, "after_begin", _become_tenant)
        self._reading_sessions = sessionmaker(
            self.engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False
        )

    @contextmanager
    def session(self, tenant_id: str | None = None, *, snapshot: bool = False) -> Iterator[Session]:
        """One transaction: committed on a clean exit, rolled back on an exception.

        With a tenant it runs as `cage_tenant`, a role for which row-level security hides every other tenant's rows:
        a second wall behind the queries' own conditions. As a snapshot it sees nothing that is committed meanwhile.

        It takes a connection with its first statement, not before.
        """
        with self._sessions(info={"tenant_id": tenant_id}) as session, session.begin():
            if snapshot:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """For a single query on behalf of no tenant: one round trip, where a transaction takes three."""
        with self._reading_sessions() as session:
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
