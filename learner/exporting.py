"""The use case: everything that is stored about a user, as one JSON document, piece by piece."""

import json
from collections.abc import Generator
from contextlib import closing
from datetime import datetime

from learner.scope import Scope
from learner.store.database import Database
from learner.store.users import everything_of


def export_user(database: Database, scope: Scope, now: datetime) -> Generator[str]:
    """Pieces of the document, each ready to be sent; all from one snapshot.

    What others said of the user's answers is theirs, and not in it. Closed early, it gives its connection back.
    """
    with database.session(scope.tenant_id, snapshot=True) as session:
        yield f'{{"user":{json.dumps(scope.user_id)},"exported_at":{json.dumps(now.isoformat())}'
        for name, rows in everything_of(session, scope):
            yield f",{json.dumps(name)}:["
            with closing(rows):
                for place, row in enumerate(rows):
                    yield ("," if place else "") + json.dumps(row, default=datetime.isoformat, ensure_ascii=False)
            yield "]"
        yield "}"
