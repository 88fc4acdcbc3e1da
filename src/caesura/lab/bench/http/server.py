"""One OpenAI-compatible server: how agents talk to it, and what it says of itself."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import httpx
import openai
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from prometheus_client.parser import text_string_to_metric_families

from caesura.lab.bench.engines import Waste
from caesura.lab.bench.http.words import WORDS
from caesura.lab.bench.replay import ReplayError, RunningTurn

SESSION_HEADER = "X-Session-ID"
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "run",
            "description": "Run a command.",
            "parameters": {
                "type": "object",
                "properties": {"command": {"type": "string"}},
                "required": ["command"],
            },
        },
    }
]
_FEWEST_WORDS = 16
_PROBED_TOKENS = range(256, 384)  # before them are often bytes and markers
_WASTE = "caesura:waste_token_seconds"
_DEVICE = "caesura:device_token_seconds"


@dataclass(frozen=True, slots=True)
class Answer:
    """An assistant's message, and the tokens of the prompt that it answers."""

    text: str
    prompt_tokens: int


class ChatServer:
    """A server under its name.

    Args:
        name: in tables and figures.
        url: base of its API.
        key: None for none.

    Attributes:
        model: what it serves.
        max_context_tokens: the longest context, None if it does not say.
        words: words that are one token each; none if it does not tokenize for its clients.
    """

    def __init__(self, name: str, url: str, key: str | None) -> None:
        self.name = name
        self.url = _with_version(url)
        self.model = ""
        self.max_context_tokens: int | None = None
        self.words: tuple[str, ...] = ()
        self._word_ids: list[int] = []
        self._client = openai.AsyncOpenAI(
            base_url=self.url, api_key=key or "none", max_retries=0, timeout=None
        )
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        root = self.url.removesuffix("/v1")
        self._plain = httpx.AsyncClient(base_url=root, headers=headers, timeout=60)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        await self._plain.aclose()

    # Before the runs

    async def look(self, model: str | None) -> None:
        """Find out what it serves.

        Args:
            model: what is asked for; None for the first that it names.

        Raises:
            ReplayError: it is not there, or does not serve that.
        """
        try:
            served = [entry async for entry in self._client.models.list()]
        except openai.OpenAIError as error:
            raise self._explained(error) from error
        by_name = {entry.id: entry for entry in served}
        if not served or (model is not None and model not in by_name):
            names = ", ".join(by_name) or "none"
            raise ReplayError(f"{self.url} does not serve {model or 'any model'}; it has: {names}")
        self.model = model or served[0].id
        longest = (by_name[self.model].model_extra or {}).get("max_model_len")
        self.max_context_tokens = longest if isinstance(longest, int) else None
        await self._find_words()

    async def _find_words(self) -> None:
        """vLLM's `/tokenize`, if there is one: texts of such words stay the same tokens, whoever
        tokenizes them, and in whatever they are put together."""
        found: dict[str, int] = {}
        with suppress(httpx.HTTPError, ValueError, KeyError):
            found = await self._single_tokens(WORDS)
            if len(found) < _FEWEST_WORDS:
                found = await self._single_tokens(await self._vocabulary())
        if len(found) >= _FEWEST_WORDS:
            self.words, self._word_ids = tuple(found), list(found.values())

    async def _vocabulary(self) -> list[str]:
        """Words of the model's own, where it has none of ours."""
        texts = await asyncio.gather(*map(self._text, _PROBED_TOKENS))
        return [t.strip() for t in texts if t.startswith(" ") and t.strip().isalpha()]

    async def _text(self, token: int) -> str:
        asked = {"model": self.model, "tokens": [token]}
        answer = (await self._plain.post("/detokenize", json=asked)).raise_for_status()
        return str(answer.json()["prompt"])

    async def _single_tokens(self, words: Sequence[str]) -> dict[str, int]:
        """Those of the words that are one token each, with its id."""
        prompt = " " + " ".join(words)
        asked = {"model": self.model, "prompt": prompt, "add_special_tokens": False}
        answer = (await self._plain.post("/tokenize", json=asked)).raise_for_status()
        tokens: list[int] = answer.json()["tokens"]
        if len(tokens) == len(words):
            return dict(zip(words, tokens, strict=True))
        if len(words) <= 1:
            return {}
        middle = len(words) // 2
        first, second = await asyncio.gather(
            self._single_tokens(words[:middle]), self._single_tokens(words[middle:])
        )
        return first | second

    async def forget(self) -> None:
        """Forget cached contexts, where a server lets its clients ask for that."""
        with suppress(httpx.HTTPError):
            await self._plain.post("/reset_prefix_cache")

    async def memory(self) -> Mapping[str, float]:
        """Token-seconds of device memory so far: in all (""), and wasted, by cause. Empty if it
        has not said."""
        try:
            text = (await self._plain.get("/metrics")).raise_for_status().text
            families = {family.name: family for family in text_string_to_metric_families(text)}
        except (httpx.HTTPError, ValueError):
            return {}
        counted: dict[str, float] = {}
        for family in (_DEVICE, _WASTE):
            for sample in families[family].samples if family in families else ():
                if sample.name.endswith("_total"):
                    cause = sample.labels.get("cause", "")
                    counted[cause] = counted.get(cause, 0.0) + sample.value
        return counted

    # Turns

    async def chat(
        self,
        messages: Sequence[ChatCompletionMessageParam],
        turn: RunningTurn,
        session_id: str | None = None,
    ) -> Answer:
        """Have a turn generated, of exactly the tokens that it is to have.

        Raises:
            ReplayError: the server refuses, or does not say how many tokens there were.
        """
        extra: dict[str, object] = {"ignore_eos": True}
        if self._word_ids:
            extra["allowed_token_ids"] = self._word_ids
        text, usage = "", None
        try:
            stream = await self._client.chat.completions.create(
                model=self.model,
                messages=list(messages),
                tools=TOOLS,
                tool_choice="none",
                max_tokens=turn.segment.output_tokens,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
                extra_headers={SESSION_HEADER: session_id} if session_id else None,
                extra_body=extra,
            )
            async for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    if choice.delta.content:
                        text += choice.delta.content
                        turn.receive(1, time.perf_counter())
        except openai.OpenAIError as error:
            raise self._explained(error) from error
        if usage is None:
            raise ReplayError(f"{self.url} does not count tokens (stream_options.include_usage)")
        turn.output_tokens = usage.completion_tokens
        details = usage.prompt_tokens_details
        turn.cached_tokens = details.cached_tokens if details is not None else None
        return Answer(text, usage.prompt_tokens)

    def _explained(self, error: openai.OpenAIError) -> ReplayError:
        match error:
            case openai.APIConnectionError():
                reason = f"no server answers at {self.url}; start it, or correct --base-url"
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                reason = f"{self.url} asks for a key: give --api-key or OPENAI_API_KEY"
            case openai.BadRequestError() | openai.UnprocessableEntityError():
                reason = (
                    f"{self.url} refuses a request; it has to take ignore_eos (vLLM's), tools and "
                    f"max_tokens, so that all outputs have the trace's lengths. It says: {error}"
                )
            case _:
                reason = f"{self.url}: {error}"
        return ReplayError(reason)


def wasted(before: Mapping[str, float], after: Mapping[str, float]) -> Waste | None:
    """Shares of device memory x time between two moments; None if they are not known."""
    device = after.get("", 0.0) - before.get("", 0.0)
    if device <= 0:
        return None
    held, recomputed, copied = (
        (after.get(cause, 0.0) - before.get(cause, 0.0)) / device
        for cause in ("held", "recomputed", "copied")
    )
    return Waste(held, recomputed, copied)


def _with_version(url: str) -> str:
    """The base of the API; an address without a path is a server's root."""
    parts = urlsplit(url.rstrip("/"))
    return urlunsplit(parts if parts.path else parts._replace(path="/v1"))
