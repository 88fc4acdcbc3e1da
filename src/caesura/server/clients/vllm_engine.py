"""vLLM's engine client as the client routes see it: what it computes is noted down."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from caesura.engine.protocol import (
    INTERRUPTED,
    KEEP_ARGUMENT,
    OWNER_ARGUMENT,
    REPORT,
    TOOLS_ARGUMENT,
)
from caesura.engine.serving.adapters import Adapters
from caesura.server.access import current_caller
from caesura.server.clients.turns import ClientTurn, current_turn
from caesura.session.homes import Home, Homes
from caesura.session.places import OwnersPlaces, Places
from caesura.session.returns import ContextReturn


class WrappedEngine:
    """vLLM's engine client, whose `generate` a subclass replaces.

    Args:
        engine_client: vLLM's.
    """

    def __init__(self, engine_client: EngineClient) -> None:
        self._engine = engine_client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class SeparatedEngine(WrappedEngine):
    """vLLM's engine client; contexts are shared among requests of the same owner only."""

    def generate(self, prompt: Any, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        """As vLLM's."""
        caller = current_caller()
        if caller is not None and isinstance(prompt, Mapping):
            given = prompt.get("cache_salt")
            # A client that gives a salt separates its requests further, and finds nobody's else.
            salt = caller.owner if given is None else json.dumps([caller.owner, given])
            prompt = {**prompt, "cache_salt": salt}
        return self._engine.generate(prompt, *arguments, **options)


class PlacedEngineClient(WrappedEngine):
    """vLLM's engine client; what it generates for an owner has places (`caesura.session.places`).

    Args:
        engine_client: vLLM's.
        places: of all owners.
    """

    def __init__(self, engine_client: EngineClient, places: OwnersPlaces) -> None:
        super().__init__(engine_client)
        self._places = places

    def generate(self, prompt: Any, sampling_params: Any, *arguments: Any, **options: Any) -> Any:
        """As vLLM's; begins once there are as many places as sequences are asked for."""
        caller = current_caller()
        outputs = partial(self._engine.generate, prompt, sampling_params, *arguments, **options)
        if caller is None:
            return outputs()
        return _placed(outputs, self._places.of(caller.owner), getattr(sampling_params, "n", 1))


async def _placed(
    outputs: Callable[[], AsyncGenerator[Any, None]], places: Places, sequences: int
) -> AsyncIterator[Any]:
    async with places.ask(sequences), aclosing(outputs()) as each:
        async for output in each:
            yield output


class FreshAdapters(WrappedEngine):
    """vLLM's engine client; an adapter that was loaded again finds nothing of its old weights.

    Args:
        engine_client: vLLM's.
        adapters: of the server.
    """

    def __init__(self, engine_client: EngineClient, adapters: Adapters) -> None:
        super().__init__(engine_client)
        self._adapters = adapters

    def generate(self, prompt: Any, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        """As vLLM's."""
        adapter = options.get("lora_request")
        if adapter is not None and isinstance(prompt, Mapping):
            given = prompt.get("cache_salt")
            salt = self._adapters.salt(adapter, given)
            if salt != given:
                prompt = {**prompt, "cache_salt": salt}
        return self._engine.generate(prompt, *arguments, **options)


class HomedEngine(WrappedEngine):
    """vLLM's engine client, which gives each request to the engine that has its conversation.

    By itself vLLM gives it to the one with the least to do, and its next turn to another.

    Args:
        engine_client: vLLM's.
        homes: of the server's conversations.
    """

    def __init__(self, engine_client: EngineClient, homes: Homes) -> None:
        super().__init__(engine_client)
        self._homes = homes

    def generate(
        self, prompt: Any, sampling_params: Any, *arguments: Any, **options: Any
    ) -> AsyncIterator[Any]:
        """As vLLM's."""
        tokens = prompt.get("prompt_token_ids") if isinstance(prompt, Mapping) else None
        adapter, rank = options.get("lora_request"), options.get("data_parallel_rank")
        home = None
        if tokens is not None:
            home = self._homes.of(
                tokens,
                domain=(prompt.get("cache_salt"), adapter and adapter.lora_name),
                session_id=options.get("session_id"),
                engine=rank,
            )
        if home is None or tokens is None:
            return self._engine.generate(prompt, sampling_params, *arguments, **options)
        if (turn := current_turn()) is not None:
            turn.home = home
            self._homes.remember(home, tokens)
        if rank is None:
            options["data_parallel_rank"] = home.engine
        outputs = self._engine.generate(prompt, sampling_params, *arguments, **options)
        deltas = getattr(sampling_params, "output_kind", None) == RequestOutputKind.DELTA
        return self._remembered(outputs, home, tokens, deltas)

    async def _remembered(
        self, outputs: Any, home: Home, prompt: Sequence[int], deltas: bool
    ) -> AsyncIterator[Any]:
        generated: list[int] = []
        async with aclosing(outputs):
            async for output in outputs:
                if len(output.outputs) == 1:
                    (choice,) = output.outputs
                    if not deltas:
                        generated.clear()
                    generated.extend(choice.token_ids)
                    if choice.finish_reason is not None:
                        self._homes.remember(home, [*prompt, *generated])
                yield output


class ObservedEngine(WrappedEngine):
    """vLLM's engine client; notes prompt, output and report of the requests of a turn."""

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncIterator[RequestOutput]:
        """As vLLM's."""
        turn = current_turn()
        if turn is None:
            return self._engine.generate(prompt, sampling_params, request_id, **options)
        told = {
            OWNER_ARGUMENT: turn.owner,
            REPORT: True,
            TOOLS_ARGUMENT: turn.has_tools,
        }
        if turn.keep_seconds is not None:
            told[KEEP_ARGUMENT] = turn.keep_seconds
        if turn.session_id is not None and options.get("session_id") is None:
            options["session_id"] = turn.session_id
        sampling_params.extra_args = {**(sampling_params.extra_args or {}), **told}
        turn.runs += 1
        outputs = self._engine.generate(prompt, sampling_params, request_id, **options)
        deltas = sampling_params.output_kind == RequestOutputKind.DELTA
        return _observed(outputs, turn, deltas)


async def _observed(outputs: Any, turn: ClientTurn, deltas: bool) -> AsyncIterator[RequestOutput]:
    async with aclosing(outputs):
        async for output in outputs:
            _note_report(output, turn)
            _note_tokens(output, turn, deltas)
            yield output


def _note_report(output: RequestOutput, turn: ClientTurn) -> None:
    """Take the scheduler's report out of what vLLM would show the client."""
    params = output.kv_transfer_params
    if params and REPORT in params:
        turn.returned = ContextReturn(**params[REPORT])
        rest = {name: value for name, value in params.items() if name != REPORT}
        output.kv_transfer_params = rest or None


def _note_tokens(output: RequestOutput, turn: ClientTurn, deltas: bool) -> None:
    if len(output.outputs) != 1 or output.prompt_token_ids is None:
        return
    (choice,) = output.outputs
    turn.prompt_tokens = output.prompt_token_ids
    if deltas:
        turn.output_tokens.extend(choice.token_ids)
    else:
        turn.output_tokens = list(choice.token_ids)
    was_cut = choice.stop_reason == INTERRUPTED
    if was_cut and turn.lane is not None:
        turn.lane.was_cut = True
    turn.ended_turn = choice.finish_reason == "stop" and not was_cut
    # With a stop string the client is not shown all that was computed.
    turn.complete = (
        was_cut
        or choice.finish_reason == "length"
        or (turn.ended_turn and not isinstance(choice.stop_reason, str))
    )
