"""What continuing conversations costs each request in the API process, without an engine.

    .venv/bin/python benchmarks/turn_overhead.py OUT.json [REPEATS]

vLLM's renderer with the demo model's tokenizer renders conversations of several lengths: as vLLM
does, and continued from remembered tokens, where the template renders the history as it was
generated (compared only) and where it does not (the tail is rendered with a mark). Reported is
the median time of a rendering, and of what is done when a turn ends: remembering it, and reading
the events of its stream.
"""

import asyncio
import json
import shlex
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import EngineArgs
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.renderers import renderer_from_config
from vllm.renderers.online_renderer import OnlineRenderer

from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.results_file import Origin, replace_json
from caesura.server.clients.history import digest
from caesura.server.clients.streams import ChatStream
from caesura.server.clients.transcripts import Transcripts
from caesura.server.clients.turns import ClientTurn, remember, serving
from caesura.server.clients.vllm_rendering import continuing_renderer

TURNS = (2, 10, 50)
RESULT = "It is 12 degrees and it rains, with wind from the west. " * 30
ANSWER_TOKENS = 200


def conversation(turns: int) -> list[dict[str, Any]]:
    """An agent's messages after so many tool calls, results last."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "What is the weather?"}]
    for index in range(turns):
        function = {"name": "get_weather", "arguments": json.dumps({"city": f"City {index}"})}
        call = {"id": f"call-{index}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": "Let me see.", "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call-{index}", "content": RESULT})
    return messages


async def medians_ms(
    arms: dict[str, Callable[[], Awaitable[object]]], repeats: int
) -> dict[str, float]:
    """Median durations in milliseconds; the arms take turns, since the machine may be busy."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, run in arms.items():
            started = time.perf_counter()
            await run()
            times[name].append(time.perf_counter() - started)
    return {name: round(statistics.median(each) * 1000, 3) for name, each in times.items()}


class Bench:
    """One renderer of vLLM, and the same with continuations."""

    def __init__(self) -> None:
        config = EngineArgs(
            str(demo_model_path()),
            max_model_len=200_000,
            hf_overrides={"max_position_embeddings": 200_000},
        ).create_engine_config()
        self.vllm = OnlineRenderer(
            config.model_config,
            renderer_from_config(config),
            request_logger=None,
            chat_template=None,
            chat_template_content_format="auto",
        )

    async def row(self, turns: int, repeats: int) -> dict[str, object]:
        """All figures for a conversation of so many turns."""
        messages = conversation(turns)
        before, answer = messages[:-2], messages[-2]
        _, whole = await self._render(self.vllm, messages)
        arms = {"vllm_ms": partial(self._render, self.vllm, messages)}
        for name in ("none", "rendered", "transcript"):
            transcripts = Transcripts(2**30, 3600)
            renderer = continuing_renderer(self.vllm, transcripts)
            if name != "none":
                await self._keep(renderer, transcripts, before, answer, whole, name == "rendered")
            turn, _ = await self._render(renderer, messages)
            assert str(turn.continuation) == name, turn.continuation
            arms[f"{name}_ms"] = partial(self._render, renderer, messages)
        figures = {"messages": len(messages), "prompt_tokens": len(whole)}
        return {**figures, **await medians_ms(arms, repeats)}

    async def _render(
        self, renderer: OnlineRenderer, messages: list[dict[str, Any]]
    ) -> tuple[ClientTurn, list[int]]:
        request = ChatCompletionRequest(model="demo", messages=json.loads(json.dumps(messages)))
        turn = ClientTurn("owner")
        with serving(turn):
            _, (prompt,) = await renderer.render_chat(request)
        return turn, prompt["prompt_token_ids"]

    async def _keep(
        self,
        renderer: OnlineRenderer,
        transcripts: Transcripts,
        before: list[dict[str, Any]],
        answer: dict[str, Any],
        whole: list[int],
        as_rendered: bool,
    ) -> None:
        """Remember the last answer: with the tokens that the template gives it, or others."""
        turn, prompt = await self._render(renderer, before)
        end = self.vllm.renderer.get_tokenizer().convert_tokens_to_ids("<|im_end|>")
        turn.prompt_tokens = prompt
        answer_tokens = whole[len(prompt) :]
        answer_tokens = answer_tokens[: answer_tokens.index(end) + 1]
        turn.output_tokens = answer_tokens if as_rendered else [300, *answer_tokens]
        turn.runs, turn.complete, turn.ended_turn = 1, True, True
        remember(transcripts, turn, answer)


async def end_of_turn(repeats: int) -> dict[str, float]:
    """Remembering a turn of 100,000 tokens and 100 messages, and reading its stream."""
    messages = [digest(message) for message in conversation(50)]
    transcripts = Transcripts(2**30, 3600)
    turn = ClientTurn("owner", messages=messages, runs=1, complete=True, ended_turn=True)
    turn.prompt_tokens = list(range(100_000))
    answer = {"role": "assistant", "content": "It rains. " * 50}
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "demo",
        "choices": [{"index": 0, "delta": {"content": " rain"}, "finish_reason": None}],
    }
    event = f"data: {json.dumps(chunk)}\n\n"

    async def keep() -> None:
        remember(transcripts, turn, answer)

    async def read() -> None:
        stream = ChatStream(lambda message: None, dict)
        for _ in range(ANSWER_TOKENS):
            stream.passed(event)

    arms = {"remember_100k_tokens_ms": keep, f"stream_of_{ANSWER_TOKENS}_events_ms": read}
    return await medians_ms(arms, repeats)


async def main(repeats: int) -> dict[str, object]:
    """Measure, and return the figures."""
    bench = Bench()
    rows = [await bench.row(turns, repeats) for turns in TURNS]
    return {
        **Origin(
            shlex.join([".venv/bin/python", "benchmarks/turn_overhead.py", *sys.argv[1:]])
        ).entries(),
        "renderings": rows,
        "end_of_turn": await end_of_turn(repeats),
    }


if __name__ == "__main__":
    figures = asyncio.run(main(int(sys.argv[2]) if len(sys.argv) > 2 else 30))
    print(json.dumps(figures, indent=1))
    replace_json(Path(sys.argv[1]), figures)
