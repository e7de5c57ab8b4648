"""The use case: everything that is stored about a user, as one JSON document, piece by piece."""

import json
from collections.abc import Iterator
from datetime import datetime

from learner.scope import Scope
from learner.store.database import Database
from learner.store.users import everything_of


def export_user(database: Database, scope: Scope, now: datetime) -> Iterator[str]:
    """Pieces of the document, each ready to be sent; all from one snapshot.

    What others said of the user's answers is theirs, and not in it.
    """
    with database.session(scope.tenant_id, snapshot=True) as session:
        yield f'{{"user":{json.dumps(scope.user_id)},"exported_at":{json.dumps(now.isoformat())}'
        for name, rows in everything_of(session, scope):
            yield f",{json.dumps(name)}:["
            for place, row in enumerate(rows):
                yield ("," if place else "") + json.dumps(row, default=datetime.isoformat, ensure_ascii=False)
            yield "]"
        yield "}"
