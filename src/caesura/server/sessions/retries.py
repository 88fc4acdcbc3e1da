"""Requests that clients may send again: by which headers they are recognised."""

import json
from hashlib import sha256
from typing import Annotated
from uuid import UUID

from fastapi import Header
from pydantic import BaseModel

from caesura.session.store import RequestKey

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
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


def request_keys(
    path: str, body: BaseModel, idempotency_key: str | None, session_id: UUID | None = None
) -> list[RequestKey]:
    """The names of a request, if its client has given any.

    Args:
        path: what it is about.
        body: as it was read.
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
