"""Agents that run their own tools: each turn is a request with the whole conversation."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from openai.types.chat import ChatCompletionMessageParam

from caesura.lab.bench.http.server import ChatServer
from caesura.lab.bench.http.words import Texts
from caesura.lab.bench.replay import RealTimePlayer, RunningTurn
from caesura.lab.bench.workload import Segment, WorkloadSession


@dataclass(frozen=True, slots=True)
class TemplateTokens:
    """Tokens that a chat template puts around texts.

    Attributes:
        first: of the first request: tools, and what is around a user's message.
        later: of each further turn: around an assistant's message and a tool's.
    """

    first: int
    later: int


@dataclass(slots=True)
class Agent(RealTimePlayer):
    """Plays one session against a server.

    Attributes:
        server: where it runs.
        number: of the session in its run.
        texts: what it appends.
        template: these tokens are part of what a turn appends.
        session_id: sent with each request; None for a client that has none.
        messages: the conversation so far.
    """

    server: ChatServer
    number: int
    texts: Texts
    template: TemplateTokens
    session_id: str | None = None
    messages: list[ChatCompletionMessageParam] = field(default_factory=list, init=False)

    async def take_turn(self, turn: RunningTurn) -> float:
        """See `RealTimePlayer`."""
        self._append(turn.segment)
        answer = await self.server.chat(self.messages, turn, self.session_id)
        now = time.perf_counter()
        self.messages.append({"role": "assistant", "content": answer.text})
        self.end_turn(now, f"{self.server.url}: outputs must have the trace's lengths")
        return now

    def _append(self, segment: Segment) -> None:
        """What the user says first, and later what a tool gave."""
        turn = len(self.turns) - 1
        around = self.template.later if turn else self.template.first
        text = self.texts.of(self.number, turn, segment.append_tokens - around)
        if turn:
            call_id = f"call_{turn}"
            self.messages.append({"role": "tool", "tool_call_id": call_id, "content": text})
        else:
            self.messages.append({"role": "user", "content": text})


def with_template(spec: WorkloadSession, templates: Iterable[TemplateTokens]) -> WorkloadSession:
    """The session with room in what each turn appends for what templates put around it, and for a
    word."""
    first, later = (
        max(tokens) + 1 for tokens in zip(*((t.first, t.later) for t in templates), strict=True)
    )
    segments = [
        replace(segment, append_tokens=max(segment.append_tokens, later if number else first))
        for number, segment in enumerate(spec.segments)
    ]
    return replace(spec, segments=tuple(segments))


async def measure_template(server: ChatServer, words: Sequence[str]) -> TemplateTokens:
    """Ask for two turns of one word each, and see how long the prompts are."""
    segment = Segment(1, 1)
    texts = Texts(tuple(words), "template")
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": texts.of(0, 0, 1)}]
    first = await server.chat(messages, RunningTurn(segment, time.perf_counter()))
    messages.append({"role": "assistant", "content": first.text})
    messages.append({"role": "tool", "tool_call_id": "call_1", "content": texts.of(0, 1, 1)})
    second = await server.chat(messages, RunningTurn(segment, time.perf_counter()))
    return TemplateTokens(
        first=first.prompt_tokens - 1, later=max(0, second.prompt_tokens - first.prompt_tokens - 2)
    )
