"""Clients of the server tests, and what they send."""

from typing import Any

import httpx

TOOL = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CHAT_TOOLS = [{"type": "function", "function": TOOL}]
RESPONSE_TOOLS = [{"type": "function", **TOOL}]


class Caller:
    """Speaks HTTP as one owner of an API key."""

    def __init__(self, url: str, api_key: str) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {api_key}"}, timeout=60
        )

    def get(self, path: str) -> httpx.Response:
        return self._http.get(path)

    def ask(self, path: str, **body: Any) -> httpx.Response:
        """An answer that may be an error."""
        return self._http.post(path, json={"model": "demo", **body})

    def post(self, path: str, **body: Any) -> httpx.Response:
        response = self.ask(path, **body)
        response.raise_for_status()
        return response

    def chat(self, messages: list[dict[str, Any]], **options: Any) -> httpx.Response:
        """A turn of an agent; the tokens of prompt and output come with it."""
        body = {"tools": CHAT_TOOLS, "temperature": 0, "max_tokens": 100, **options}
        return self.post("/v1/chat/completions", messages=messages, return_token_ids=True, **body)

    def completed(self, prompt: list[int], max_tokens: int = 100) -> list[int]:
        """What follows those very tokens."""
        answer = self.post(
            "/v1/completions",
            prompt=prompt,
            temperature=0,
            max_tokens=max_tokens,
            return_token_ids=True,
        )
        return answer.json()["choices"][0]["token_ids"]


def question(text: str) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": "You answer questions about the weather. " * 8},
        {"role": "user", "content": text},
    ]


def answered(messages: list[dict[str, Any]], answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The conversation with the assistant's message, and a result for each of its calls."""
    message = answer["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "12 degrees"}
        for call in message.get("tool_calls") or []
    ]
    return [*messages, message, *results]


def tokens_of(answer: dict[str, Any]) -> list[int]:
    """Prompt and output of a chat completion."""
    return answer["prompt_token_ids"] + answer["choices"][0]["token_ids"]
