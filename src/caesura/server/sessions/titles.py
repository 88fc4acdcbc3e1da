"""What a session was asked for, in short: for lists, and for whoever answers its questions."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from caesura.session.records import EventType, Message, SessionRecord, SessionSpec
from caesura.session.store import Store

LONGEST_TITLE = 80
LONGEST_TEXT = 2000
_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class AskedFor:
    """What a session was asked for.

    Attributes:
        title: see `title_of`.
        user_message: the latest message of its user, at most `LONGEST_TEXT` characters.
    """

    title: str | None = None
    user_message: str | None = None


def title_of(spec: SessionSpec) -> str | None:
    """The title of a session: the client's (`metadata.title`), or the first line of the user's
    first message, cut at a word. None if the user has not said anything."""
    given = spec.metadata.get("title") or spec.metadata.get("name")
    texts = _user_texts(spec.messages)
    if given or not texts:
        return given or None
    line = texts[0].splitlines()[0]
    short = textwrap.shorten(line, LONGEST_TITLE, placeholder=_ELLIPSIS)
    # `shorten` leaves out a word that is too long, and so a whole text without spaces.
    return short if short != _ELLIPSIS else _cut(line, LONGEST_TITLE)


async def asked_for(store: Store, record: SessionRecord) -> AskedFor:
    """What a session was asked for, as of now."""
    added = await store.last_event(record.id, EventType.MESSAGE)
    texts = [str(added.data["content"])] if added is not None else _user_texts(record.spec.messages)
    return AskedFor(title_of(record.spec), _cut(texts[-1], LONGEST_TEXT) if texts else None)


def _user_texts(messages: Sequence[Message]) -> list[str]:
    """What the user says in messages, where they say anything."""
    texts = [_text(message.get("content")) for message in messages if message.get("role") == "user"]
    return [text.strip() for text in texts if text.strip()]


def _text(content: JsonValue) -> str:
    parts = content if isinstance(content, list) else [{"text": content}]
    return "\n".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + _ELLIPSIS
