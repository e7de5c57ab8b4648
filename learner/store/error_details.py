"""PostgreSQL's errors without the rows that they quote: errors are logged, and rows hold users' ids and words."""

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext


def leave_out_details(engine: Engine) -> None:
    """Cut every error of this engine down to its first message; which constraint was violated stands there."""

    @event.listens_for(engine, "handle_error")
    def cut_down(context: ExceptionContext) -> None:
        error, wrapper = context.original_exception, context.sqlalchemy_exception
        if not isinstance(error, psycopg.Error) or error.diag.message_primary is None:
            return
        kept = error.diag.message_primary
        if wrapper is not None and wrapper.args:
            wrapper.args = (str(wrapper.args[0]).replace(str(error), kept), *wrapper.args[1:])
        error.args = (kept,)
