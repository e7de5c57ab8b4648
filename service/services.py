"""The long-lived parts of one API process: started together, stopped together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import redis
import torch

from cage_core.engine import Engine, EngineLimits, LanguageModel
from cage_core.principals.catalogue import Principal, find_principals
from learner.parameter_cache import ParameterCache
from learner.redis_connection import connect
from learner.store.database import Database
from learner.store.tenants import CatalogueEntry, register_principals
from service.metrics import Metrics
from service.settings import ServiceSettings


@dataclass(frozen=True)
class Services:
    """What endpoints work with."""

    settings: ServiceSettings
    database: Database
    redis: redis.Redis
    parameters: ParameterCache
    engine: Engine
    metrics: Metrics

    @classmethod
    def start(cls, settings: ServiceSettings) -> Self:
        """Load the model, connect, and begin to decode and to follow parameters.

        Raises:
            InvalidModel: the model or a principal cannot be served.
            sqlalchemy.exc.SQLAlchemyError: PostgreSQL does not answer, or is not migrated.
        """
        torch.set_num_threads(settings.torch_threads)
        principals = find_principals(*settings.principal_directories)
        model = LanguageModel(settings.model_directory, principals, name=settings.model_name, device=settings.device)
        database = Database(settings.database_url, pool_size=settings.database_pool_size)
        with database.session() as session:
            register_principals(session, catalogue(principals))
        metrics = Metrics()
        client = connect(settings.redis_url)
        parameters = ParameterCache(
            database,
            client,
            capacity_scopes=settings.cached_scopes,
            version_check_seconds=settings.version_check_seconds,
            on_update=metrics.on_update,
        )
        engine = Engine(model, EngineLimits(settings.decode_rows, settings.decode_queue))
        parameters.start()
        engine.start()
        return cls(settings, database, client, parameters, engine, metrics)

    def stop(self) -> None:
        """Stop decoding and following; close every connection."""
        self.engine.stop()
        self.parameters.stop()
        self.redis.close()
        self.database.dispose()


def catalogue(principals: Sequence[Principal]) -> list[CatalogueEntry]:
    """Loaded principals as the store registers them."""
    return [CatalogueEntry(p.name, p.kind, p.description, p.feature_scale) for p in principals]
