"""A small OpenAI-compatible server that takes every word for a token and answers with words."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

TEMPLATE_TOKENS = 3
"""Around a message."""

TOOL_TOKENS = 20
"""Of the tools, once."""


def own_word(token: int) -> str:
    """The text of a token of a server with words of its own."""
    return "own" + "".join(chr(ord("a") + int(digit)) for digit in str(token))


def is_own(word: str) -> bool:
    """Whether it is such a word."""
    return word.startswith("own")


@dataclass
class Asked:
    """A request as it came."""

    seconds: float
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def lengths(self) -> list[int]:
        """Words of each message."""
        return [len(message["content"].split()) for message in self.body["messages"]]


@dataclass
class ChatService:
    """What the server does, and what it was asked for.

    Attributes:
        model: its only one.
        key: asked for, if there is one.
        tokenizes: whether there is `/tokenize`.
        forces_lengths: whether it takes `ignore_eos`.
        own_words: whether only words of its own are one token each (`own_word`).
        cut: words that answers lack.
        resets: how often contexts were to be forgotten.
    """

    model: str = "words"
    key: str | None = None
    tokenizes: bool = True
    forces_lengths: bool = True
    own_words: bool = False
    cut: int = 0
    resets: int = 0
    asked: list[Asked] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/tokenize", self._tokenize, methods=["POST"]),
                Route("/detokenize", self._detokenize, methods=["POST"]),
                Route("/reset_prefix_cache", self._reset, methods=["POST"]),
            ]
        )

    def conversations(self, named: str) -> list[Asked]:
        """Requests with that in their session ids."""
        return [one for one in self.asked if named in one.headers.get("x-session-id", "")]

    async def _models(self, request: Request) -> Response:
        if self.key is not None and request.headers["authorization"] != f"Bearer {self.key}":
            return _error(401, "who is it?")
        return JSONResponse(
            {
                "object": "list",
                "data": [{"id": self.model, "object": "model", "max_model_len": 4000}],
            }
        )

    async def _tokenize(self, request: Request) -> Response:
        if not self.tokenizes:
            return _error(404, "not here")
        prompt = (await request.json())["prompt"]
        words = prompt.split()
        tokens = [sum(map(ord, word)) for word in words]
        # What it does not know is two tokens.
        known = all(map(is_own, words)) if self.own_words else "because" not in words
        return JSONResponse({"tokens": tokens if known else tokens + tokens})

    async def _detokenize(self, request: Request) -> Response:
        if not self.tokenizes:
            return _error(404, "not here")
        (token,) = (await request.json())["tokens"]
        # Every third one is no word.
        return JSONResponse({"prompt": f"<{token}>" if token % 3 == 0 else " " + own_word(token)})

    async def _reset(self, request: Request) -> Response:
        self.resets += 1
        return Response()

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        one = Asked(time.perf_counter(), body, dict(request.headers))
        if not self.forces_lengths and "ignore_eos" in body:
            return _error(400, "Unrecognized request argument supplied: ignore_eos")
        self.asked.append(one)
        prompt_tokens = TOOL_TOKENS + sum(words + TEMPLATE_TOKENS for words in one.lengths)
        return StreamingResponse(
            self._answer(prompt_tokens, body["max_tokens"] - self.cut),
            media_type="text/event-stream",
        )

    async def _answer(self, prompt_tokens: int, tokens: int) -> AsyncIterator[str]:
        for number in range(tokens):
            yield self._event(
                choices=[{"index": 0, "delta": {"content": f" word{number}"}}], usage=None
            )
        yield self._event(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}])
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
        }
        yield self._event(choices=[], usage=usage)
        yield "data: [DONE]\n\n"

    def _event(self, **fields: Any) -> str:
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": self.model}
        return f"data: {json.dumps(chunk | fields)}\n\n"


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "error"}}, status)
