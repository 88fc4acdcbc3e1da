"""Where the supported versions of vLLM differ, for what is built on them.

Each seam asks vLLM for what it has (a module, a parameter, a type), never for its version, and
leaves with the oldest version that needs it. Nothing here is imported before it is needed: the
scheduler's process does not load the HTTP server. What else is used of vLLM is the same in all of
them: docs/explanation/vllm.md lists it.
"""

import inspect
from collections.abc import AsyncGenerator, Callable
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.request import Request

Chunks = AsyncGenerator[Any, None]
"""`ChatCompletionStreamResponse`s of vLLM, or an `ErrorResponse`."""

NO_GRAMMAR = "There is no grammar for the session's next turn: the engine's log says why."


class SeamedScheduler(AsyncScheduler):
    """vLLM's scheduler, the same in all versions for a subclass that parks requests."""

    def is_settled_later(self, request: Request) -> bool:
        """Whether a subclass will queue or park a request whose turn has just stopped."""
        return False

    def _enqueue_waiting_request(self, request: Request) -> None:
        """As vLLM's. From 0.33 on the end of a step queues all that `_handle_stopped_request`
        lets go on; before, that method did it."""
        if not self.is_settled_later(request):
            super()._enqueue_waiting_request(request)

    def fail_grammar(self, request: Request) -> None:
        """End a request in the next step, since its grammar cannot be made."""
        errors = self.grammar_compile_error_reqs
        if isinstance(errors, set):  # of ids, until 0.32
            errors.add(request.request_id)
            return
        from vllm.outputs import RequestError

        errors[request.request_id] = RequestError(code="validation_error", message=NO_GRAMMAR)


def cli_env_setup() -> None:
    """Set the environment as vLLM's own command line does; moved in 0.33."""
    try:
        from vllm.entrypoints.common.startup import cli_env_setup as set_up
    except ImportError:
        from vllm.entrypoints.serve.utils.api_utils import cli_env_setup as set_up
    set_up()


def chat_params(renderer: Any, request: Any, template: str | None, content_format: str) -> Any:
    """What vLLM's renderer of chats gives a request's template. From 0.33 on it has names of its
    own for the effort of reasoning, for the requests that take them."""
    efforts: dict[str, Any] = {}
    if "reasoning_effort_map" in inspect.signature(request.build_chat_params).parameters:
        efforts["reasoning_effort_map"] = renderer.reasoning_effort_map
    return request.build_chat_params(template, content_format, **efforts)


def observe_chunks(serving: Any, observed: Callable[[Chunks], Chunks]) -> bool:
    """Have the chunks of a route's streamed chats pass through a function.

    Returns:
        Whether they do. Until 0.32 there are no chunks, only a chat's events, which each route
        that is not for chats reads back.
    """
    raw = getattr(serving, "chat_completion_stream_generator_raw", None)
    if raw is None:
        return False

    def chunks(*args: Any, **options: Any) -> Chunks:
        return observed(raw(*args, **options))

    serving.chat_completion_stream_generator_raw = chunks
    return True
