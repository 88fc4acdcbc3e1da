"""The innocent client: it streams answers, uses a session with a tool, and asks for the health."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from abuse.server import INNOCENT_KEY, STOCK

_QUESTIONS = ("What is the stock of K4821?", "Tell me the price of B1203.", "Hello there.")
_TOKENS = 160
_SESSION = {
    "messages": [{"role": "user", "content": _QUESTIONS[0]}],
    "temperature": 0,
    "tools": ["stock"],
    "keep_open": False,
    "stream": True,
    "max_tokens": 200,
}
_PATIENCE_SECONDS = 60.0
_HEALTH_SECONDS = 0.05
_AFTER_ERROR_SECONDS = 0.2


@dataclass
class Noticed:
    """What the client noticed in one phase.

    Attributes:
        token_gaps: seconds between two chunks of a stream.
        first_tokens: seconds from a request to its first chunk.
        session_seconds: from a session's request to its end.
        health_seconds: how long each `/health` took.
        errors: what went wrong, by kind.
    """

    token_gaps: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    session_seconds: list[float] = field(default_factory=list)
    health_seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


class Wrong(Exception):
    """An answer that is not the one that was to be expected."""


class Innocent:
    """Does the same all the time; `noticed` is replaced from phase to phase."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=url,
            timeout=_PATIENCE_SECONDS,
            headers={"Authorization": f"Bearer {INNOCENT_KEY}"},
            trust_env=False,
        )
        self._texts: dict[str, str] = {}
        self._since: dict[str, float] = {}
        self.noticed = Noticed()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Work in the background; what is under way in the end is given up."""
        work = (self._stream, self._use_session, self._ask_health)
        tasks = [asyncio.create_task(self._again_and_again(each)) for each in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._since.clear()

    def begin(self) -> Noticed:
        """Begin a phase: what is noticed from now on."""
        self.noticed = Noticed()
        return self.noticed

    def note_waits(self) -> None:
        """Count waits that have not ended, at the end of a phase."""
        now = time.perf_counter()
        waits = {
            self._stream.__name__: self.noticed.token_gaps,
            self._ask_health.__name__: self.noticed.health_seconds,
        }
        for name, seconds in waits.items():
            if name in self._since:
                seconds.append(now - self._since[name])

    async def _again_and_again(self, work: Callable[[], Awaitable[None]]) -> None:
        number = 0
        while True:
            number += 1
            try:
                await work()
            except (httpx.HTTPError, Wrong, ValueError, KeyError) as error:
                self.noticed.errors[f"{work.__name__.strip('_')}: {_kind(error)}"] += 1
                await asyncio.sleep(_AFTER_ERROR_SECONDS)
            finally:
                self._since.pop(work.__name__, None)

    async def _stream(self) -> None:
        """A greedy answer, token by token; the same question has the same answer."""
        question = _QUESTIONS[len(self.noticed.first_tokens) % len(_QUESTIONS)]
        body = {
            "model": "demo",
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": _TOKENS,
            "ignore_eos": True,
            "skip_special_tokens": False,
            "stream": True,
        }
        text, name = [], self._stream.__name__
        begun = last = time.perf_counter()
        async with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
            await _require(answer, 200)
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                now = time.perf_counter()
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise Wrong(str(chunk["error"])[:100])
                if not (delta := chunk["choices"][0]["delta"].get("content")):
                    continue
                if text:
                    self.noticed.token_gaps.append(now - last)
                else:
                    self.noticed.first_tokens.append(now - begun)
                self._since[name] = last = now
                text.append(delta)
        if (before := self._texts.setdefault(question, "".join(text))) != "".join(text):
            print(f"{question} {before!r}; now {''.join(text)!r}", file=sys.stderr)
            raise Wrong("another answer than before")

    async def _use_session(self) -> None:
        """A session that calls a tool, read to its end."""
        begun, said, kind = time.perf_counter(), "", ""
        async with self._client.stream("POST", "/v1/sessions", json=_SESSION) as answer:
            await _require(answer, 201)
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: ") and kind == "output.done":
                    said += json.loads(line[6:])["text"]
        if kind != "session.ended" or STOCK not in said:
            print(f"the session said {said!r}; its last event: {kind}", file=sys.stderr)
            raise Wrong("a session without its tool's result")
        self.noticed.session_seconds.append(time.perf_counter() - begun)

    async def _ask_health(self) -> None:
        self._since[self._ask_health.__name__] = begun = time.perf_counter()
        answer = await self._client.get("/health")
        await _require(answer, 200)
        self.noticed.health_seconds.append(time.perf_counter() - begun)
        await asyncio.sleep(_HEALTH_SECONDS)


async def _require(answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        await answer.aread()
        raise Wrong(f"status {answer.status_code}: {answer.text[:120]}")


def _kind(error: Exception) -> str:
    return str(error) if isinstance(error, Wrong) else type(error).__name__
