"""Clients that do random things: sessions in place, and conversations with their own tools."""

import itertools
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from vllm.v1.engine import EngineCoreOutput, FinishReason
from vllm.v1.request import Request

from caesura.engine.protocol import DETACHED, INTERRUPTED
from engine.virtual.harness import Client, Harness, Transcript


@dataclass(frozen=True, slots=True)
class Habits:
    """What clients do. Times are in virtual seconds, rates between 0 and 1.

    Attributes:
        stop_tokens: tokens that end a turn: about `len(stop_tokens) / 64` of all.
        most_appended: tokens appended by a tool, at most.
        priorities: how many there are.
    """

    max_tokens: int = 24
    stop_tokens: tuple[int, ...] = (1, 2, 3)
    most_appended: int = 40
    think_seconds: float = 0.5
    interrupt_rate: float = 0.3
    abort_rate: float = 0.05
    close_early_rate: float = 0.1
    fork_rate: float = 0.15
    diverge_rate: float = 0.15
    session_id_rate: float = 0.5
    endpoint_rate: float = 0.6
    priorities: int = 1


class SessionClient(Client):
    """A session in place: opened once, extended while parked or in the middle of a turn."""

    def __init__(
        self,
        harness: Harness,
        name: str,
        prompt: Sequence[int],
        turns: int,
        habits: Habits,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.request_id = name
        self.transcript = Transcript(prompt)
        self.appended = 1
        self.finished = 0
        self.stop_reasons: list[int | str | None] = []
        self._harness = harness
        self._turns = turns
        self._interrupts = 2 * turns
        self._habits = habits
        self._rng = rng
        self._pending: deque[list[int]] = deque()
        self._generating = True
        self._closing = False
        self._priority = rng.randrange(habits.priorities)
        self._send(prompt)
        if rng.random() < habits.abort_rate:
            harness.after(rng.uniform(0, 4 * habits.think_seconds + 0.2), self.abort)

    def extend(self, tokens: Sequence[int]) -> None:
        """Append tokens, whatever the session is doing."""
        assert not self.done
        self.appended += 1
        if self._generating:
            self._pending.append(list(tokens))
        else:
            self.transcript.append(tokens)
            self._generating = True
        if self.request_id not in self._harness.clients:  # it was detached: open it again
            self.request_id += "'"
            tokens = self.transcript.tokens
            if len(tokens) >= self._harness.engine.shape.max_model_len:
                self._end()
                return
        self._send(tokens)

    def close(self) -> None:
        """No more tokens will come."""
        if self.done or self._closing:
            return
        self._closing = True
        if self.request_id not in self._harness.clients:
            self._end()
            return
        self._harness.engine.scheduler.add_request(self._request((), resumable=False))
        if not self._generating:
            self._end()

    def abort(self) -> None:
        """Go away at any moment."""
        if not self.done:
            self.done = True
            if self.request_id in self._harness.clients:
                self._harness.abort(self.request_id, mid_step=self._rng.random() < 0.5)

    def receive(self, output: EngineCoreOutput) -> None:
        if output.stop_reason == DETACHED:
            full = len(self.transcript.tokens) >= self._harness.engine.shape.max_model_len
            assert full or not self._generating, f"{self.name} was detached while it generates"
            if self._generating:
                self._end()
            self._harness.clients.pop(self.request_id, None)
            return
        assert self._generating, f"{self.name} generates without being asked"
        self.transcript.take(self.name, output.new_token_ids)
        if output.finish_reason is None:
            return
        self.finished += 1
        self.stop_reasons.append(output.stop_reason)
        assert (output.stop_reason == INTERRUPTED) <= bool(self._pending)
        assert output.finish_reason is not FinishReason.ERROR, f"{self.name} failed"
        if self._pending:
            self.transcript.append(self._pending.popleft())
            return
        self._generating = False
        assert self.finished == self.appended, f"{self.name}: one end for each appended piece"
        if self._closing:
            self._end()
            return
        self._turns -= 1
        if self._turns > 0:
            self._think()
        else:
            self._harness.after(0, self.close)

    def _think(self) -> None:
        seconds = self._rng.expovariate(1 / self._habits.think_seconds)
        if self._rng.random() < self._habits.close_early_rate:
            self._harness.after(seconds, self.close)
        self._harness.after(seconds, self._tool_returns)

    def _tool_returns(self) -> None:
        if not self.done and not self._closing:
            self.extend(self._words())

    def _interrupt(self) -> None:
        if not self.done and not self._closing and self._generating:
            self.extend(self._words())

    def _words(self) -> list[int]:
        count = self._rng.randint(1, self._habits.most_appended)
        return [self._rng.randrange(64) for _ in range(count)]

    def _send(self, tokens: Sequence[int]) -> None:
        self._harness.send(self, self._request(tokens, resumable=True))
        for _ in range(2):
            if self._interrupts > 0 and self._rng.random() < self._habits.interrupt_rate:
                self._interrupts -= 1
                self._harness.after(self._rng.uniform(0, 0.3), self._interrupt)

    def _request(self, tokens: Sequence[int], *, resumable: bool) -> Request:
        return self._harness.engine.request(
            self.request_id,
            tokens,
            max_tokens=self._rng.randint(1, self._habits.max_tokens),
            stop_tokens=self._habits.stop_tokens,
            resumable=resumable,
            priority=self._priority,
        )

    def _end(self) -> None:
        self.done = True
        assert self.finished <= self.appended
        self._harness.clients.pop(self.request_id, None)


class ConversationClient(Client):
    """A client that runs its own tools: each turn is a request that extends the last one."""

    _ids = itertools.count()

    def __init__(
        self,
        harness: Harness,
        name: str,
        prompt: Sequence[int],
        turns: int,
        habits: Habits,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.transcript = Transcript(prompt)
        self.forks: list[ConversationClient] = []
        self._harness = harness
        self._turns = turns
        self._habits = habits
        self._rng = rng
        self._session_id = name if rng.random() < habits.session_id_rate else None
        self._priority = rng.randrange(habits.priorities)
        self._requests = 0
        self._request_id = ""
        self._submit()

    def receive(self, output: EngineCoreOutput) -> None:
        assert output.request_id == self._request_id, f"{output.request_id} was answered before"
        self.transcript.take(output.request_id, output.new_token_ids)
        if output.finish_reason is None:
            return
        assert output.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
        del self._harness.clients[self._request_id]
        self._next_turn()

    def _next_turn(self) -> None:
        self._turns -= 1
        if self._turns <= 0:
            self.done = True
            return
        seconds = self._rng.expovariate(1 / self._habits.think_seconds)
        self._harness.after(seconds, self._continue)
        if self._rng.random() < self._habits.fork_rate:
            self._harness.after(seconds * self._rng.choice((0.5, 1.0, 2.0)), self._fork)

    def _continue(self) -> None:
        tokens = self.transcript.tokens
        if self._rng.random() < self._habits.diverge_rate:
            # The client renders the history differently from some token on.
            self.transcript = Transcript(tokens[: self._rng.randint(1, len(tokens))])
        count = self._rng.randint(1, self._habits.most_appended)
        self.transcript.append([self._rng.randrange(64) for _ in range(count)])
        self._submit()

    def _fork(self) -> None:
        tokens = [*self.transcript.tokens, self._rng.randrange(64)]
        if len(tokens) < self._harness.engine.shape.max_model_len:
            name = f"{self.name}+{len(self.forks)}"
            self.forks.append(
                ConversationClient(self._harness, name, tokens, 1, self._habits, self._rng)
            )

    def _submit(self) -> None:
        if len(self.transcript.tokens) >= self._harness.engine.shape.max_model_len:
            self.done = True  # a front end refuses such a prompt
            return
        self._request_id = f"{self.name}.{self._requests}"
        self._requests += 1
        endpoint = self._rng.choice(("search", "python", "human"))
        request = self._harness.engine.request(
            self._request_id,
            self.transcript.tokens,
            max_tokens=self._rng.randint(1, self._habits.max_tokens),
            stop_tokens=self._habits.stop_tokens,
            session_id=self._session_id,
            endpoint=endpoint if self._rng.random() < self._habits.endpoint_rate else None,
            priority=self._priority,
        )
        self._harness.send(self, request)
        if self._rng.random() < self._habits.abort_rate:
            request_id = self._request_id
            self._harness.after(self._rng.uniform(0, 1.0), lambda: self._abort(request_id))

    def _abort(self, request_id: str) -> None:
        if self.done or request_id not in self._harness.clients:
            return
        self._harness.abort(request_id, mid_step=self._rng.random() < 0.5)
        self._request_id = ""
        self._next_turn()
