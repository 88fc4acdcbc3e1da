"""The tokens that follow a transcript when its conversation goes on.

A chat template may render history in another way than it was generated: without reasoning, with
other white space. Only what it renders *after* the last answer is needed. To find that, a mark
is put in the answer's place, and the conversation is rendered up to there and as a whole: what
the two have after the mark is how the template closes a turn; the rest is new.
"""

import secrets
from collections.abc import Sequence
from typing import Protocol

from caesura.cml.markers import Marker
from caesura.server.clients.history import Message
from caesura.server.clients.transcripts import ClientCall, ClientTranscript

_MARKERS = frozenset(marker.value for marker in Marker)
MARK = f"caesura{secrets.token_hex(12)}"  # in no message: nobody knows it


class Template(Protocol):
    """A chat template and its tokenizer, with everything but the messages fixed."""

    async def text(self, messages: Sequence[Message], *, generation_prompt: bool) -> str | None:
        """The rendered conversation; None where the template refuses it."""
        ...

    async def tokens(self, text: str) -> list[int]:
        """Token ids of a text, with nothing added."""
        ...

    def control_text(self, token: int) -> str | None:
        """The text of a control token; None when the token is none."""
        ...


async def tail(
    template: Template,
    transcript: ClientTranscript,
    prompt: Sequence[Message],
    new: Sequence[Message],
) -> list[int] | None:
    """The tokens after the transcript's, or None where the template leaves any doubt.

    Args:
        template: renders.
        transcript: what is continued.
        prompt: the messages that its prompt was rendered from.
        new: the messages after its answer.
    """
    if not transcript.ended_turn:
        if transcript.calls and _is_in_frame(template, transcript.tokens):
            return None
        return await tail_of_cut(template, transcript.calls, prompt, new)
    behind = await _behind_answer(template, transcript.calls, prompt, new)
    if behind is None:
        return None
    return await _after_end(template, transcript.tokens[-1], *behind)


async def tail_of_cut(
    template: Template,
    calls: Sequence[ClientCall],
    prompt: Sequence[Message],
    new: Sequence[Message],
) -> list[int] | None:
    """The tokens after an answer that ends anywhere; None where the template leaves any doubt.

    Args:
        template: renders.
        calls: those in the answer, which are whole.
        prompt: the messages before it.
        new: the messages after it.
    """
    behind = await _behind_answer(template, calls, prompt, new)
    if behind is None:
        return None
    closing, added = behind
    if calls:
        # Results may stand in the turn itself. Else how the template closes a turn that ends
        # behind its calls, or within one, is not known.
        return await template.tokens(added) if added.startswith(Marker.INTR.value) else None
    tokens = await template.tokens(closing + added)
    # Only a control token splits the text in the same way whatever is before it.
    return tokens if tokens and template.control_text(tokens[0]) is not None else None


async def _behind_answer(
    template: Template,
    calls: Sequence[ClientCall],
    prompt: Sequence[Message],
    new: Sequence[Message],
) -> tuple[str, str] | None:
    """How the template closes the answer's turn, and what it has behind that."""
    marked = [*prompt, _marked_answer(calls)]
    closing = _after_mark(await template.text(marked, generation_prompt=False))
    rest = _after_mark(await template.text([*marked, *new], generation_prompt=True))
    if closing is None or rest is None or not rest.startswith(closing):
        return None
    return closing, rest[len(closing) :]


def _is_in_frame(template: Template, tokens: Sequence[int]) -> bool:
    """Whether tokens end within a frame of CML."""
    for token in reversed(tokens):
        text = template.control_text(token)
        if text in _MARKERS:
            return text != Marker.END.value
    return False


async def _after_end(template: Template, end: int, closing: str, added: str) -> list[int] | None:
    """What follows the token that ended the turn: it closes the turn, or it is the one that the
    next message begins with."""
    end_text = template.control_text(end)
    if not end_text:
        return None
    text = closing + added
    if end_text in closing:
        text = end_text + closing.rpartition(end_text)[2] + added
    tokens = await template.tokens(text)
    return tokens[1:] if tokens[:1] == [end] else None


def _after_mark(text: str | None) -> str | None:
    if text is None or MARK not in text:
        return None
    return text.rpartition(MARK)[2]


def _marked_answer(calls: Sequence[ClientCall]) -> Message:
    """An assistant's message with the mark; in its calls too, since some templates leave out the
    text beside calls. The ids and names stay: results refer to them."""
    answer: dict[str, object] = {"role": "assistant", "content": MARK}
    if calls:
        answer["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": f'{{"mark": "{MARK}"}}'},
            }
            for call in calls
        ]
    return answer
