"""Requests that clients may send again: by which headers they are recognised."""

import json
import re
from hashlib import sha256
from typing import Annotated
from uuid import UUID

from fastapi import Header, Request
from pydantic import BaseModel

from caesura.server.errors import ApiError
from caesura.session.store import RequestKey

_KEY = r"^[\x20-\x7e]{1,255}$"

IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=_KEY,
        description="The same request with the same key is carried out once within 24 hours.",
    ),
]
SessionId = Annotated[
    UUID | None,
    Header(
        alias="X-Session-ID",
        description="A new UUID: the session has it as its id (`sess_` and its 32 digits), and is "
        "made once.",
    ),
]


def idempotency_key_of(request: Request) -> str | None:
    """The key of a request outside of FastAPI's routes.

    Raises:
        ApiError: it is none.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and re.fullmatch(_KEY, key) is None:
        raise ApiError(400, "Idempotency-Key: 1 to 255 printable characters of ASCII")
    return key


def request_keys(
    path: str, body: BaseModel, idempotency_key: str | None, session_id: UUID | None = None
) -> list[RequestKey]:
    """The names of a request, if its client has given any.

    Args:
        path: its path.
        body: its body, unchanged.
        idempotency_key: its header of that name.
        session_id: its `X-Session-ID`.
    """
    if idempotency_key is None and session_id is None:
        return []
    asked = json.dumps([path, body.model_dump(mode="json")], sort_keys=True)
    digest = sha256(asked.encode()).hexdigest()
    keys = []
    if idempotency_key is not None:
        keys.append(RequestKey(f"Idempotency-Key {idempotency_key}", digest))
    if session_id is not None:
        keys.append(RequestKey(f"X-Session-ID {session_id}", digest, lasts=True))
    return keys
