"""The engine of a benchmark of function calling, and what is known of its model."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol, Self

from caesura.engine.config import CaesuraConfig
from caesura.engine.model.chat_format import ChatFormat
from caesura.engine.model.cml_format import CmlFormat
from caesura.engine.serving.launch import Engine, EngineSettings, start_engine
from caesura.lab.bench.arm_engines import FIT_MEMORY, engine_log, own_options
from caesura.lab.bench.function_calling.case_player import CasePlayer
from caesura.lab.bench.function_calling.demo import demo_model_folder
from caesura.lab.bench.function_calling.futures_player import FuturesPlayer
from caesura.lab.bench.function_calling.native_format import NativeFormat
from caesura.lab.bench.function_calling.plans import CallTokens, ModeCase
from caesura.lab.bench.function_calling.records import PlayedCase
from caesura.lab.bench.function_calling.request_player import RequestPlayer
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.function_calling.stage import Stage
from caesura.lab.bench.function_calling.stock_server import StockServer
from caesura.lab.bench.function_calling.styles import Style
from caesura.lab.bench.function_calling.vllm_native_dialogue import native_dialogue
from caesura.lab.bench.function_calling.vllm_planned_calls import PLANNED_CALLS
from caesura.lab.bench.settings import DEMO
from caesura.lab.models.bench_model import bench_model_path


class Player(Protocol):
    """Plays one case after the other."""

    async def play_alone(self, case: ModeCase) -> PlayedCase:
        """Play a case whose prompt is in the prefix cache, but for its last block."""
        ...


class FunctionCallingEngine:
    """A started engine under one policy, on which cases are played.

    Attributes:
        player: plays those in CML.
    """

    def __init__(self, engine: Engine, log: Path, model: Path) -> None:
        tokenizer: Any = engine.llm.tokenizer
        codec = CmlFormat(ChatFormat(engine.llm.model_config, tokenizer, None))
        self._tokens = CallTokens(model, int(tokenizer.eos_token_id))
        self.player = CasePlayer(Stage(engine.tokens, codec), self._tokens)
        self._engine = engine
        self._log = log
        self._model = model
        self._stack = AsyncExitStack()

    @classmethod
    async def start(cls, settings: FunctionCallingSettings, policy: str) -> Self:
        """Start an engine; takes 10 to 40 seconds on two cores.

        Raises:
            EngineStartError: it did not start; the message says where its log is.
        """
        model = await asyncio.to_thread(_model_folder, settings)
        config = CaesuraConfig.parse(
            {
                "policy": policy,
                "policy_options": own_options(policy, settings.policy_options),
                "host_memory": settings.host_memory_bytes,
            }
        )
        with engine_log(policy) as log:
            engine = start_engine(
                EngineSettings(
                    model=str(model),
                    caesura=config,
                    kv_memory_bytes=settings.kv_memory_bytes,
                    max_model_len=FIT_MEMORY,
                    dtype=settings.dtype,
                    compute_threads=settings.threads,
                    overrides={"logits_processors": [PLANNED_CALLS]},
                )
            )
        return cls(engine, log, model)

    async def players(self, settings: FunctionCallingSettings) -> dict[Style, Player]:
        """Who plays the styles of the settings; what they need beside the engine is started.

        Raises:
            ConfigurationError: the model cannot write in one of them.
            EngineStartError: stock vLLM did not start.
        """
        players: dict[Style, Player] = dict.fromkeys(settings.styles, self.player)
        if Style.FUTURES in players:
            dialogue = native_dialogue(self._engine.llm.model_config, self._engine.llm.tokenizer)
            form = NativeFormat(self._model)
            futures = FuturesPlayer(self._engine.tokens, dialogue, form, self._tokens)
            players[Style.FUTURES] = await self._stack.enter_async_context(futures)
        if Style.REQUESTS in players:
            form = NativeFormat(self._model)
            server = await StockServer.start(settings, self._model)
            self._stack.push_async_callback(server.stop)
            requests = RequestPlayer(server, form, self._tokens)
            self._stack.push_async_callback(requests.close)
            players[Style.REQUESTS] = requests
        return players

    async def reset(self) -> None:
        """Forget cached contexts."""
        await self._engine.reset()

    async def shutdown(self) -> None:
        """Stop the engine, and what was started beside it."""
        await self._stack.aclose()
        self._engine.shutdown()
        self._log.unlink(missing_ok=True)


def _model_folder(settings: FunctionCallingSettings) -> Path:
    if settings.model is not None:
        return Path(settings.model)
    return demo_model_folder() if settings.suite == DEMO else bench_model_path()
