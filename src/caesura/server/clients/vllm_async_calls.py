"""Tools with `async: true` in vLLM's serving of the Responses API: their calls say so, and are
complete at their last token."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

from openai.types.responses import (
    ResponseCustomToolCall,
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseFunctionCallArgumentsDoneEvent,
    ResponseFunctionToolCall,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
)
from vllm.entrypoints.openai.responses.protocol import (
    ResponseCompletedEvent,
    ResponsesRequest,
    ResponsesResponse,
)
from vllm.tool_parsers.utils import flat_namespace_tool_name

from caesura.cml import Mode

_CALLS = (ResponseFunctionToolCall, ResponseCustomToolCall)
_MODE = "function_calling"  # of the chat templates of models that were trained for CML


def async_tools(tools: Iterable[Any]) -> frozenset[str]:
    """The names of the tools whose results may come later, as the model is shown them.

    Args:
        tools: of a request to the Responses API; those of other routes have none.
    """
    names = set()
    for tool in tools:
        if getattr(tool, "type", None) == "namespace":
            asynchronous = [each for each in tool.tools if getattr(each, "async_", None)]
            names |= {flat_namespace_tool_name(tool.name, each.name) for each in asynchronous}
        elif getattr(tool, "async_", None):
            names.add(tool.name)
    return frozenset(names)


def observe_async_calls(serving: Any, *, knows_cml: bool) -> None:
    """Serve tools whose results may come later.

    Args:
        serving: vLLM's serving object of the Responses API.
        knows_cml: whether the model was trained for CML.
    """
    create, full = serving.create_responses, serving.responses_full_generator
    stream = serving.responses_stream_generator

    async def create_responses(request: ResponsesRequest, raw_request: Any = None) -> Any:
        if not async_tools(request.tools):
            return await create(request, raw_request)
        if knows_cml:
            given = request.chat_template_kwargs or {}
            request.chat_template_kwargs = {_MODE: Mode.ASYNC.value, **given}
        if request.stream:
            return await create(request, raw_request)
        # As a whole, vLLM's parsers leave out what a model writes behind a call.
        request.stream = True
        return await _as_a_whole(await create(request, raw_request))

    async def responses_full_generator(request: ResponsesRequest, *args: Any, **more: Any) -> Any:
        response = await full(request, *args, **more)
        if isinstance(response, ResponsesResponse) and (names := async_tools(request.tools)):
            for item in response.output:
                _mark(item, names)
        return response

    async def responses_stream_generator(
        request: ResponsesRequest, *args: Any, **more: Any
    ) -> AsyncIterator[Any]:
        async with aclosing(stream(request, *args, **more)) as events:
            passed = _AsyncCalls(async_tools(request.tools))
            async for event in events:
                for told in passed.take(event):
                    yield told

    serving.create_responses = create_responses
    serving.responses_full_generator = responses_full_generator
    serving.responses_stream_generator = responses_stream_generator


async def _as_a_whole(answer: Any) -> Any:
    """The response of a stream; anything else as it is."""
    if not isinstance(answer, AsyncGenerator):
        return answer
    last = None
    async with aclosing(answer) as events:
        async for event in events:
            last = event
    if not isinstance(last, ResponseCompletedEvent):
        raise RuntimeError("the stream of a response has ended without it")
    return last.response


def _mark(item: Any, names: frozenset[str]) -> bool:
    """Say of a call whether its result may come later."""
    if not isinstance(item, _CALLS):
        return False
    namespace = getattr(item, "namespace", None)
    name = flat_namespace_tool_name(namespace, item.name) if namespace else item.name
    if name not in names:
        return False
    item.async_ = True
    return True


class _AsyncCalls:
    """The events of a stream, in which each such call is done as soon as it is complete.

    vLLM says so when the next item begins: a client could not start a call while the model goes
    on.

    Args:
        names: of the tools.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._open: ResponseFunctionToolCall | None = None
        self._arguments = ""
        self._done: set[str] = set()  # ids of items
        self._number = 0

    def take(self, event: Any) -> list[Any]:
        """What to send for the next event."""
        told: list[Any] = [event]
        match event:
            case ResponseOutputItemAddedEvent():
                self._open, self._arguments = None, ""
                item = event.item
                if _mark(item, self._names) and isinstance(item, ResponseFunctionToolCall):
                    self._open = item
            case ResponseFunctionCallArgumentsDeltaEvent() if self._open is not None:
                self._arguments += event.delta
                if _is_object(self._arguments):
                    told += self._complete(event)
            case ResponseFunctionCallArgumentsDoneEvent() if event.item_id in self._done:
                return []
            case ResponseOutputItemDoneEvent():
                if event.item.id in self._done:
                    return []
                _mark(event.item, self._names)
        for each in told:
            if hasattr(each, "sequence_number"):
                each.sequence_number = self._number
            self._number += 1
        return told

    def _complete(self, event: ResponseFunctionCallArgumentsDeltaEvent) -> list[Any]:
        call, self._open = self._open, None
        assert call is not None
        self._done.add(event.item_id)
        index, number = event.output_index, event.sequence_number
        done = {"arguments": self._arguments, "status": "completed"}
        return [
            ResponseFunctionCallArgumentsDoneEvent(
                type="response.function_call_arguments.done",
                item_id=event.item_id,
                arguments=self._arguments,
                output_index=index,
                sequence_number=number,
            ),
            ResponseOutputItemDoneEvent(
                type="response.output_item.done",
                item=call.model_copy(update=done),
                output_index=index,
                sequence_number=number,
            ),
        ]


def _is_object(text: str) -> bool:
    if not text.rstrip().endswith("}"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
