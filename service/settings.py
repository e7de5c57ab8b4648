"""The service's settings, from environment variables that start with CAGE_."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

from cage_core.pocket import POCKET_DIR
from learner.settings import LearnerSettings

POCKET = "pocket"


class ModelSettings(BaseSettings):
    """Which model and principals are served.

    Attributes:
        model: "pocket" for the bundled model, or the directory of a checkpoint in Hugging Face format.
        principals: directory whose subdirectories are further principals; those beside the model always load.
        device: where torch puts the model, "cpu" or "cuda".
        torch_threads: threads of one forward pass; small models are fastest with one.
        decode_rows: rows of the key-value cache; a request takes one, and one more for each principal.
        context_tokens: cap on the model's context: the cache holds this many tokens for every row.
        decode_queue: requests that may wait for rows.
        prefix_bytes: memory for finished turns, from which the next turns of their conversations start; 0 for none.
    """

    model_config = SettingsConfigDict(env_prefix="CAGE_", frozen=True, extra="ignore")

    model: str = POCKET
    principals: Path = Path(".cage/principals")
    device: str = "cpu"
    torch_threads: PositiveInt = 1
    decode_rows: PositiveInt = 80
    context_tokens: PositiveInt = 4096
    decode_queue: PositiveInt = 64
    prefix_bytes: NonNegativeInt = 256 * 2**20

    @property
    def model_directory(self) -> Path:
        """Directory of the checkpoint."""
        return POCKET_DIR if self.model == POCKET else Path(self.model).expanduser()

    @property
    def model_name(self) -> str:
        """What clients call the model."""
        return "cage-pocket" if self.model == POCKET else self.model_directory.name

    @property
    def principal_directories(self) -> tuple[Path, ...]:
        """Where principals are looked for."""
        return (self.model_directory / "principals", self.principals.expanduser())


class HttpSettings(BaseSettings):
    """How the API listens and answers.

    Attributes:
        host, port: where to listen.
        keep_alive_seconds: pause of an answer after which a comment line keeps a stream open, and after which
            it is noticed that a client has gone.
        drain_notice_seconds: how long `/ready` says on SIGTERM that it drains before connections are refused.
        drain_seconds: how long open answers may go on after SIGTERM.
        arrival_seconds: how long a request's headers, and then its body, may take to arrive.
    """

    model_config = SettingsConfigDict(env_prefix="CAGE_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    largest_body_bytes: PositiveInt = 1_000_000
    arrival_seconds: PositiveFloat = 20.0
    keep_alive_seconds: PositiveFloat = 2.0
    drain_notice_seconds: NonNegativeFloat = 2.0
    drain_seconds: PositiveInt = 30

    @property
    def url(self) -> str:
        """Where clients on this machine find the API."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class LimitSettings(BaseSettings):
    """How much callers may take.

    Attributes:
        default_requests_per_minute, default_tokens_per_minute: of all keys of a tenant together, for tenants that have
            no limit of their own; None for no limit.
        default_user_requests_per_minute, default_user_tokens_per_minute: of each of a tenant's users, likewise.
        limiter_timeout_seconds: how long Redis may take to count a request before the process counts for itself.
        tenant_generations, key_generations: answers that one tenant, or one key, may have running and waiting in a
            process; below `decode_queue`, so that the others find a place. None for no limit.
        largest_prompt_characters: longest conversation that is looked at.
    """

    model_config = SettingsConfigDict(env_prefix="CAGE_", frozen=True, extra="ignore")

    default_requests_per_minute: PositiveInt | None = None
    default_tokens_per_minute: PositiveInt | None = None
    default_user_requests_per_minute: PositiveInt | None = None
    default_user_tokens_per_minute: PositiveInt | None = None
    limiter_timeout_seconds: PositiveFloat = 0.05
    tenant_generations: PositiveInt | None = 48
    key_generations: PositiveInt | None = None
    largest_prompt_characters: PositiveInt = 200_000


class ServiceSettings(HttpSettings, ModelSettings, LimitSettings, LearnerSettings):
    """What one API process needs to know.

    Attributes:
        default_max_tokens: longest answer when the request does not say.
        default_strength, default_mode: steering of new tenants.
    """

    default_max_tokens: PositiveInt = 160
    default_strength: NonNegativeFloat = 3.0
    default_mode: Literal["balanced", "budgeted", "linear", "equilibrium", "base"] = "linear"
