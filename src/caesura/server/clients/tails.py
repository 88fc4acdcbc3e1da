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
        if _is_in_frame(template, transcript.tokens):
            return None
        return await tail_of_cut(template, transcript.calls, prompt, new)
    end = transcript.tokens[-1]
    if template.control_text(end) == Marker.TRAP.value:
        # The turn waits, perhaps for calls of an earlier answer.
        results = await _in_the_turn(template, transcript.calls or _answered(new), prompt, new)
        if results is not None:
            return await template.tokens(Marker.END.value + results)
    behind = await _behind_answer(template, transcript.calls, prompt, new)
    return None if behind is None else await _after_end(template, end, *behind)


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
    results = await _in_the_turn(template, calls or _answered(new), prompt, new)
    if results is not None:
        return await template.tokens(results)
    if calls:
        return None  # how the template closes a turn that ends behind its calls is not known
    behind = await _behind_answer(template, (), prompt, new)
    if behind is None:
        return None
    closing, added = behind
    tokens = await template.tokens(closing + added)
    # Only a control token splits the text in the same way whatever is before it.
    return tokens if tokens and template.control_text(tokens[0]) is not None else None


async def _in_the_turn(
    template: Template,
    calls: Sequence[ClientCall],
    prompt: Sequence[Message],
    new: Sequence[Message],
) -> str | None:
    """The new messages, if they are results of these calls that stand in the turn that has made
    them, as in CML."""
    behind = await _behind_answer(template, calls, prompt, new) if calls else None
    return behind[1] if behind is not None and behind[1].startswith(Marker.INTR.value) else None


def _answered(new: Sequence[Message]) -> tuple[ClientCall, ...]:
    """The calls whose results are all that is new; none if anything else is."""
    ids = [message.get("tool_call_id") for message in new if message.get("role") == "tool"]
    return tuple(ClientCall(str(each), "tool") for each in ids if len(ids) == len(new))


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
