"""Which of several engines a conversation runs on: always the one that keeps its context."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import takewhile

from caesura.server.clients.history import MessageDigest


def home(
    engines: int,
    owner: str,
    session_id: str | None,
    messages: Sequence[MessageDigest] | None,
) -> int | None:
    """The engine of a request; None where any is as good.

    vLLM gives a request to the engine with the least to do, and the next one of the same
    conversation to another. A conversation is known by the id that its client gives, else by what
    it begins with.

    Args:
        engines: how many there are.
        owner: whose request it is.
        session_id: of the client.
        messages: digests of the conversation's; None if they are not known.
    """
    if engines < 2:
        return None
    if session_id is not None:
        name = session_id.encode()
    elif messages:
        name = b"".join(m.body for m in takewhile(lambda m: not m.of_assistant, messages))
    else:
        return None
    return int.from_bytes(sha256(owner.encode() + b"\0" + name).digest()[:8]) % engines
