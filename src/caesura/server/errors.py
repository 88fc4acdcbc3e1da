"""Errors of the HTTP API, in OpenAI's format."""

import logging

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse

from caesura.session.errors import (
    ContextFull,
    DuplicateSession,
    QuotaExceeded,
    RequestConflict,
    SessionClosed,
    SessionError,
    StoreUnavailable,
    TooManySessions,
    UnknownResponse,
    UnknownSession,
)

logger = logging.getLogger(__name__)


class ErrorDetails(BaseModel):
    """What went wrong: for people, and for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """An error as OpenAI's API writes it."""

    error: ErrorDetails


class ApiError(HTTPException):
    """An error that a client gets.

    Args:
        status: HTTP status.
        message: what is wrong and what to do.
        param: the field of the request that it is about.
        code: for programs.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(status, message)
        self.param = param
        self.code = code


def error_body(error: Exception) -> tuple[int, ErrorBody]:
    """Status and body of an error for its client; one that nobody expected is logged."""
    match error:
        case ApiError():
            return _body(error.status_code, error.detail, error.param, error.code)
        case RequestValidationError():
            return _body(400, *_described(error))
        case StarletteHTTPException():
            return _body(error.status_code, str(error.detail))
        case UnknownSession() | UnknownResponse():
            return _body(404, str(error), code="not_found")
        case SessionClosed():
            return _body(409, str(error), code="session_over")
        case DuplicateSession():
            return _body(409, str(error), code="session_exists")
        case RequestConflict():
            return _body(422, str(error), code="idempotency_key_reused")
        case ContextFull():
            return _body(400, str(error), "messages", "context_length_exceeded")
        case TooManySessions():
            return _body(429, str(error), code="too_many_sessions")
        case QuotaExceeded():
            return _body(429, str(error), code="quota_exceeded")
        case StoreUnavailable():
            return _body(503, str(error), code="store_unavailable")
        case SessionError():
            return _body(500, str(error), code="session_failed")
    logger.error("a request failed", exc_info=error)
    return _body(500, f"internal error ({type(error).__name__})")


def error_response(error: Exception) -> JSONResponse:
    """The same as a response."""
    status, body = error_body(error)
    return JSONResponse(body.model_dump(), status, _retry_header(error))


def _retry_header(error: Exception) -> dict[str, str] | None:
    match error:
        case StoreUnavailable():
            return {"Retry-After": "5"}
        case QuotaExceeded(retry_seconds=float(seconds)):
            return {"Retry-After": f"{seconds:.0f}"}
    return None


_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


def _body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> tuple[int, ErrorBody]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return status, ErrorBody(error=ErrorDetails(message=message, type=kind, param=param, code=code))


_LONGEST_PATH = 200  # names of fields are the client's


def _described(error: RequestValidationError) -> tuple[str, str | None]:
    """Message and field of the first thing that is wrong with a request."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"the body is not JSON: {first.get('ctx', {}).get('error', '')}", None
    # pydantic names the alternatives of a union in its paths, too: `list[...]`.
    path = ".".join(str(key) for key in first["loc"][1:] if "[" not in str(key))
    path = path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}..."
    message = first["msg"].removeprefix("Value error, ")
    return (f"{path}: {message}" if path else message), path or None
