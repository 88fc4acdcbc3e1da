"""Another model as a tool."""

from collections.abc import Mapping

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.failure import AttemptFailed
from caesura.tools.http_client import HttpClient
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import ModelTool

_LONGEST_ANSWER = 2**24  # with reasoning and all else that is not read
_SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string", "minLength": 1, "description": "What to ask the model."}
    },
    "required": ["prompt"],
    "additionalProperties": False,
}


class _Part(BaseModel):
    text: str = ""


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice]


class ModelEndpoint(Endpoint):
    """Sends a prompt to an OpenAI-compatible endpoint.

    Nothing of this process's environment goes there, its keys and headers for OpenAI included.

    Args:
        name: the tool's name.
        settings: its settings.
    """

    def __init__(self, name: str, settings: ModelTool) -> None:
        description = settings.description or f"Ask the model {settings.model}."
        super().__init__(Definition(name, description, ArgumentSchema(_SCHEMA)), settings)
        self._model = settings
        base = httpx.URL(settings.base_url)
        self._url = base.copy_with(path=f"{base.path.rstrip('/')}/chat/completions")
        key = settings.api_key.get_secret_value() if settings.api_key else "none"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._client = HttpClient("the model's server")
        self.aclose = self._client.aclose

    @property
    def provider(self) -> str:
        """The model."""
        return f"model {self._model.model}"

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        """Ask the model, and return its answer."""
        model = self._model
        system = [] if model.system is None else [{"role": "system", "content": model.system}]
        body = {
            "model": model.model,
            "messages": [*system, {"role": "user", "content": arguments["prompt"]}],
            "temperature": model.temperature,
            "max_tokens": model.max_tokens,
        }
        given = {key: value for key, value in body.items() if value is not None}
        request = httpx.Request("POST", self._url, headers=self._headers, json=given)
        answer = await self._client.text(request, _LONGEST_ANSWER)
        try:
            completion = _Completion.model_validate_json(answer)
        except ValidationError:
            raise AttemptFailed("the model's server gave no usable answer") from None
        if not completion.choices:
            raise AttemptFailed("the model's server gave an answer without choices")
        return _said(completion.choices[0])


def _said(choice: _Choice) -> str:
    """The text of an answer.

    Raises:
        AttemptFailed: it has none; the message says why.
    """
    text = choice.message.text
    is_cut = choice.finish_reason == "length"
    if text.strip():
        return f"{text}\n[The model reached its limit of tokens here.]" if is_cut else text
    if choice.message.refusal:
        raise AttemptFailed(f"the model refused: {choice.message.refusal}")
    if is_cut:
        raise AttemptFailed("the model reached its limit of tokens before it said anything")
    ending = choice.finish_reason or "unknown"
    raise AttemptFailed(f"the model gave an answer without text (finish_reason {ending})")
