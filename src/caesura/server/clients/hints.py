"""What clients say of their conversations: in headers, and in fields of their requests.

Each of the agents and frameworks has names of its own for two things: which conversation a
request belongs to, and for how long its context is worth keeping.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers

SESSION_HEADERS = (
    "x-session-id",
    "thread-id",
    "session-id",
    "session_id",
    "x-dynamo-session-id",
    "x-claude-code-session-id",
)
"""Headers that name a conversation; the first that is there counts."""
LONGEST_ID = 256
"""Characters of an id: a longer one is none."""
_RETENTIONS_SECONDS = {"30m": 1800.0, "12h": 12 * 3600.0, "24h": 24 * 3600.0}


@dataclass(frozen=True, slots=True)
class Hints:
    """What a request says of its conversation.

    Attributes:
        session_id: which one it is.
        keep_seconds: for how long its context is worth keeping.
    """

    session_id: str | None = None
    keep_seconds: float | None = None


def session_of(headers: Headers) -> str | None:
    """The conversation that the headers name."""
    return next(filter(None, (_id(headers.get(name)) for name in SESSION_HEADERS)), None)


def hints_of(request: Any, clock: Callable[[], float] = time.time) -> Hints:
    """What the fields of a request say.

    Args:
        request: one of vLLM's requests, which has fields that vLLM does not know, too.
        clock: wall-clock seconds.
    """
    options = _mapping(getattr(request, "prompt_cache_options", None))
    transfer = _mapping(getattr(request, "kv_transfer_params", None))
    hint = _mapping(transfer.get("agent_hint"))
    retention = options.get("ttl") or getattr(request, "prompt_cache_retention", None)
    keep_seconds = _RETENTIONS_SECONDS.get(retention) if isinstance(retention, str) else None
    if isinstance(until := hint.get("lease_until"), int | float):
        keep_seconds = until - clock()
    agent = _mapping(_mapping(getattr(request, "nvext", None)).get("agent_hints"))
    if keep_seconds is None and agent.get("speculative_prefill") is True:
        keep_seconds = _RETENTIONS_SECONDS["30m"]
    key = getattr(request, "prompt_cache_key", None)
    return Hints(_id(hint.get("trajectory_id")) or _id(key), keep_seconds)


def without_hint(transfer: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Parameters of a transfer without the hint, which is for nobody else; None for no others."""
    return {name: value for name, value in (transfer or {}).items() if name != "agent_hint"} or None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_ID else None
