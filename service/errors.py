"""Every error an answer can carry, and the one form they all have."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError as DatabaseOperationalError
from sqlalchemy.exc import TimeoutError as DatabaseTimeoutError
from starlette.exceptions import HTTPException

from cage_core.errors import CageError, DeadlineExceeded, EngineFull, EngineStopped, InvalidDecodeRequest
from learner.errors import InvalidInput, LearnerError, NotFound

logger = logging.getLogger(__name__)

RETRY_AFTER = {"Retry-After": "1"}
_LONGEST_CHARACTERS = 400
OUTAGES = (DatabaseOperationalError, DatabaseTimeoutError, RedisError)


class ErrorDetail(BaseModel):
    """What went wrong and what to do."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class ServiceError(Exception):
    """Root of the errors that this package raises on purpose; a subclass fixes status, type and code."""

    status = 500
    type = "api_error"
    code: str | None = None
    retry_after_seconds: int | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidKey(ServiceError):
    """The request carries no key, or none that is in force."""

    status, type, code = 401, "authentication_error", "invalid_api_key"


class MissingScope(ServiceError):
    """The key is in force but may not do this."""

    status, type, code = 403, "permission_error", "missing_scope"


class OperatorOnly(ServiceError):
    """A tenant's key, and only operators may do this."""

    status, type, code = 403, "permission_error", "operator_only"


class TenantNotNamed(ServiceError):
    """An operator's key, and nothing says which tenant it acts for."""

    status, type, code = 422, "invalid_request_error", "tenant_not_named"


class UnknownModel(ServiceError):
    """The request names a model that is not served."""

    status, type, code = 404, "invalid_request_error", "model_not_found"


class PrincipalNotLoaded(ServiceError):
    """The tenant's principals are not those of this server: the operator's fault, not the caller's."""

    status, type, code = 503, "api_error", "principal_not_loaded"


class DecoderEnded(ServiceError):
    """The decode loop has ended by a fault; nothing but a restart helps."""

    status, type, code = 503, "api_error", "decoder_ended"


class InvalidBody(ServiceError):
    """The body cannot be right."""

    status, type = 422, "invalid_request_error"


class BodyTooLarge(ServiceError):
    """The body is longer than the service reads."""

    status, type, code = 413, "invalid_request_error", "body_too_large"


class BodyTooSlow(ServiceError):
    """The body did not arrive in time."""

    status, type, code = 408, "invalid_request_error", "body_too_slow"


class PromptTooLong(InvalidBody):
    """The conversation is longer than the service looks at."""

    code = "prompt_too_long"


class RateLimited(ServiceError):
    """A limit of requests or tokens per minute is reached."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TooManyGenerations(ServiceError):
    """A tenant or a key has as many answers under way as its share allows."""

    status, type, code = 429, "rate_limit_error", "too_many_generations"
    retry_after_seconds = 1


class TooManyStreams(ServiceError):
    """A key has as many streams of events open as it may."""

    status, type, code = 429, "rate_limit_error", "too_many_streams"
    retry_after_seconds = 5


class IdempotencyKeyReused(ServiceError):
    """An `Idempotency-Key` came with another request than the first time."""

    status, type, code = 422, "invalid_request_error", "idempotency_key_reused"


class RequestUnderWay(ServiceError):
    """The first request under an `Idempotency-Key` is not answered yet."""

    status, type, code = 409, "invalid_request_error", "request_under_way"
    retry_after_seconds = 1


def error_body(message: str, type_: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The one error form, as JSON."""
    param = None if param is None else _shortened(param)
    return ErrorBody(error=ErrorDetail(message=_shortened(message), type=type_, param=param, code=code)).model_dump()


def _shortened(text: str) -> str:
    """What is wrong may be quoted, but not by the megabyte."""
    return text if len(text) <= _LONGEST_CHARACTERS else text[:_LONGEST_CHARACTERS] + "…"


def response(
    status: int,
    message: str,
    type_: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An answer in the one error form."""
    return JSONResponse(error_body(message, type_, param, code), status, headers=dict(headers or {}))


def describe(error: Exception) -> tuple[int, str, str | None]:
    """(status, type, code) of an error of any package."""
    if isinstance(error, ServiceError):
        return error.status, error.type, error.code
    if isinstance(error, InvalidDecodeRequest | InvalidInput):
        return 422, "invalid_request_error", "invalid_value"
    if isinstance(error, NotFound):
        return 404, "invalid_request_error", "not_found"
    if isinstance(error, EngineFull):
        return 503, "overloaded_error", "queue_full"
    if isinstance(error, EngineStopped):
        return 503, "overloaded_error", "shutting_down"
    if isinstance(error, DeadlineExceeded):
        return 504, "api_error", "deadline_exceeded"
    if isinstance(error, OUTAGES):
        return 503, "overloaded_error", "store_unavailable"
    return 500, "api_error", "internal_error"


def public_message(error: Exception) -> str:
    """What a caller may read: the error's own words if it was raised on purpose, else where to look."""
    if isinstance(error, OUTAGES):
        return "a store behind this service does not answer; try again soon"
    if isinstance(error, ServiceError | CageError | LearnerError):
        return str(error)
    return "internal error; the server's log has the cause"


def _claims_json(request: Request) -> bool:
    """Whether the content type is one that is read as JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def install(app: FastAPI) -> None:
    """Render every error of every route in the one form."""

    async def on_own_error(request: Request, error: Exception) -> JSONResponse:
        status, type_, code = describe(error)
        headers = dict(RETRY_AFTER) if status == 503 else {}
        if (seconds := getattr(error, "retry_after_seconds", None)) is not None:
            headers["Retry-After"] = str(seconds)
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, OUTAGES):
            logger.error("a store does not answer: %s", error)
        param = getattr(error, "param", None)
        return response(status, public_message(error), type_, param=param, code=code, headers=headers)

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        details = error.errors() if isinstance(error, RequestValidationError) else []
        first = details[0] if details else {"loc": (), "msg": "invalid request", "type": ""}
        if first["loc"] == ("body",) and first["type"] != "missing" and not _claims_json(request):
            message = "the body must be JSON; send it with 'Content-Type: application/json'"
            return response(415, message, "invalid_request_error", code="unsupported_media_type")
        path = ".".join(str(part) for part in first["loc"][1:] if not isinstance(part, int) or len(first["loc"]) > 2)
        if first["type"] == "json_invalid":
            return response(422, f"the body is not JSON: {first['msg']}", "invalid_request_error", code="invalid_json")
        message = f"{path}: {first['msg']}" if path else str(first["msg"])
        return response(422, message, "invalid_request_error", param=path or None, code="invalid_value")

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        # FastAPI turns whatever goes wrong while it reads a body into a 400 with that error as its cause.
        if isinstance(error.__cause__, ServiceError):
            return await on_own_error(request, error.__cause__)
        if isinstance(error.__cause__, RecursionError | ValueError):
            return response(422, "the body is not JSON that can be read", "invalid_request_error", code="invalid_json")
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = str(error.detail) if isinstance(error, HTTPException) else "internal error"
        return response(status, detail, "invalid_request_error", headers=getattr(error, "headers", None))

    for known in (ServiceError, CageError, LearnerError, *OUTAGES):
        app.add_exception_handler(known, on_own_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
