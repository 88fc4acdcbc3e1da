"""Another model as a tool."""

from collections.abc import Mapping

import openai
from openai.types.chat import ChatCompletionMessageParam
from pydantic import JsonValue

from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.failure import AttemptFailed
from caesura.tools.http_endpoint import status_failure
from caesura.tools.result_text import cut_text
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import ModelTool

_ERROR_BODY_BYTES = 2048
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
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            # Never the environment's OPENAI_API_KEY: it is not meant for every endpoint.
            api_key=settings.api_key.get_secret_value() if settings.api_key else "none",
            max_retries=0,
            timeout=None,
        )

    @property
    def provider(self) -> str:
        """The model."""
        return f"model {self._model.model}"

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        """Ask the model, and return its answer."""
        messages: list[ChatCompletionMessageParam] = []
        if self._model.system is not None:
            messages.append({"role": "system", "content": self._model.system})
        messages.append({"role": "user", "content": str(arguments["prompt"])})
        temperature, max_tokens = self._model.temperature, self._model.max_tokens
        try:
            completion = await self._client.chat.completions.create(
                model=self._model.model,
                messages=messages,
                temperature=openai.omit if temperature is None else temperature,
                max_tokens=openai.omit if max_tokens is None else max_tokens,
            )
        except openai.APIStatusError as error:
            body, _ = cut_text(str(error.message), _ERROR_BODY_BYTES)
            retry_after = error.response.headers.get("retry-after", "")
            raise status_failure(error.status_code, retry_after, body) from None
        except openai.APIConnectionError:
            raise AttemptFailed("the model's server cannot be reached", transient=True) from None
        except openai.OpenAIError as error:
            raise AttemptFailed(
                f"the model's server gave no usable answer ({type(error).__name__})"
            ) from None
        if not completion.choices:
            raise AttemptFailed("the model's server gave an answer without choices")
        return completion.choices[0].message.content or ""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()
