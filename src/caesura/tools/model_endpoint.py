"""Another model as a tool."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.failure import AttemptFailed
from caesura.tools.http_endpoint import bounded_text, http_client, status_failure
from caesura.tools.result_text import cut_text
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import ModelTool

_ERROR_BODY_BYTES = 2048
_ANSWER_BYTES = 4 * 2**20  # with its reasoning
_CUT = "[the answer ends here: the model reached its limit of tokens]"
_SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string", "minLength": 1, "description": "What to ask the model."}
    },
    "required": ["prompt"],
    "additionalProperties": False,
}


class ModelEndpoint(Endpoint):
    """Sends a prompt to an OpenAI-compatible endpoint.

    Args:
        name: the tool's name.
        settings: its settings.
    """

    def __init__(self, name: str, settings: ModelTool) -> None:
        description = settings.description or f"Ask the model {settings.model}."
        super().__init__(Definition(name, description, ArgumentSchema(_SCHEMA)), settings)
        self._model = settings
        self._url = f"{settings.base_url.rstrip('/')}/chat/completions"
        self._client = http_client()

    @property
    def provider(self) -> str:
        """The model."""
        return f"model {self._model.model}"

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        """Ask the model, and return its answer."""
        try:
            async with AsyncExitStack() as opened:
                response = await self._client.send(self._request(arguments), stream=True)
                opened.push_async_callback(response.aclose)
                if not response.is_success:
                    body = await bounded_text(response, _ERROR_BODY_BYTES)
                    retry_after = response.headers.get("retry-after", "")
                    raise status_failure(response.status_code, retry_after, body)
                text = await bounded_text(response, _ANSWER_BYTES)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            transient = isinstance(error, httpx.TransportError)
            raise AttemptFailed(
                "the model's server cannot be reached", transient=transient
            ) from None
        try:
            completion = _Completion.model_validate_json(text)
        except ValidationError:
            raise AttemptFailed("the model's server gave no usable answer") from None
        return _answer(completion)

    def _request(self, arguments: Mapping[str, JsonValue]) -> httpx.Request:
        settings = self._model
        system, prompt = settings.system, str(arguments["prompt"])
        said = [("system", system)] if system is not None else []
        messages: list[JsonValue] = [
            {"role": role, "content": text} for role, text in [*said, ("user", prompt)]
        ]
        body: dict[str, JsonValue] = {"model": settings.model, "messages": messages}
        body |= {} if settings.temperature is None else {"temperature": settings.temperature}
        body |= {} if settings.max_tokens is None else {"max_tokens": settings.max_tokens}
        key = settings.api_key.get_secret_value() if settings.api_key else "none"
        headers = {
            "Authorization": f"Bearer {key}",
            "Accept-Encoding": "identity",  # what is decoded while it is read cannot be bounded
        }
        return self._client.build_request("POST", self._url, json=body, headers=headers)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[JsonValue] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice]


def _answer(completion: _Completion) -> str:
    """What the model says.

    Raises:
        AttemptFailed: it says nothing; the message has the reason.
    """
    if not completion.choices:
        raise AttemptFailed("the model's server gave an answer without choices")
    choice = completion.choices[0]
    text, is_cut = choice.message.content or "", choice.finish_reason == "length"
    if text.strip():
        return f"{text}\n{_CUT}" if is_cut else text
    if is_cut:
        raise AttemptFailed(
            "the model reached its limit of tokens before it answered: ask for less, or raise the "
            "tool's max_tokens"
        )
    if choice.message.refusal:
        refusal, _ = cut_text(choice.message.refusal, _ERROR_BODY_BYTES)
        raise AttemptFailed(f"the model refused: {refusal}")
    if choice.message.tool_calls:
        raise AttemptFailed("the model called tools instead of answering")
    raise AttemptFailed("the model's answer is empty")
