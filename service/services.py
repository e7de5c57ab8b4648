"""The long-lived parts of one API process: started together, stopped together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import redis
import torch

from cage_core.engine import Engine, EngineLimits, LanguageModel
from learner.parameter_cache import ParameterCache
from learner.redis_connection import connect
from learner.relearning import relearn
from learner.store.database import Database
from service.access.caller_cache import CallerCache
from service.access.limits import Limits
from service.access.shares import Shares
from service.announcer import Announcer
from service.registration import registered
from service.settings import ServiceSettings
from service.telemetry.installation_metrics import InstallationMetrics
from service.telemetry.metrics import Metrics


@dataclass(frozen=True)
class Services:
    """What endpoints work with."""

    settings: ServiceSettings
    database: Database
    redis: redis.Redis
    parameters: ParameterCache
    engine: Engine
    metrics: Metrics
    limits: Limits
    shares: Shares
    callers: CallerCache
    announcer: Announcer

    @classmethod
    def start(cls, settings: ServiceSettings) -> Self:
        """Load the model, connect, and begin to decode and to follow parameters.

        Raises:
            InvalidModel: the model or a principal cannot be served.
            sqlalchemy.exc.SQLAlchemyError: PostgreSQL does not answer, or is not migrated.
        """
        torch.set_num_threads(settings.torch_threads)
        database = Database(settings.database_url, pool_size=settings.database_pool_size)
        with database.session() as session:
            principals = registered(session, settings)
        model = LanguageModel(
            settings.model_directory,
            principals,
            name=settings.model_name,
            device=settings.device,
            longest_tokens=settings.context_tokens,
        )
        metrics = Metrics(model.name)
        client = connect(settings.redis_url)
        metrics.registry.register(InstallationMetrics(database, client))
        engine = Engine(model, EngineLimits(settings.decode_rows, settings.decode_queue, settings.prefix_bytes))
        parameters = ParameterCache(
            database,
            client,
            capacity_scopes=settings.cached_scopes,
            version_check_seconds=settings.version_check_seconds,
            on_update=metrics.on_update,
            on_forget=lambda scope: engine.prefixes.forget((scope.tenant_id, scope.user_id)),
            renew=lambda scope: relearn(database, scope, settings, datetime.now(UTC)),
        )
        parameters.start()
        engine.start()
        limits = Limits(settings, settings.redis_url, metrics.registry)
        return cls(
            settings,
            database,
            client,
            parameters,
            engine,
            metrics,
            limits,
            Shares(settings),
            CallerCache(),
            Announcer(),
        )

    def stop(self) -> None:
        """Stop decoding and following; close every connection."""
        self.engine.stop()
        self.announcer.stop()
        self.parameters.stop()
        self.limits.close()
        self.redis.close()
        self.database.dispose()
