"""The engine of a benchmark of function calling, and what is known of its model."""

import asyncio
from pathlib import Path
from typing import Any, Self

from caesura.engine.config import CaesuraConfig
from caesura.engine.model.chat_format import ChatFormat
from caesura.engine.model.cml_format import CmlFormat
from caesura.engine.serving.launch import Engine, EngineSettings, start_engine
from caesura.lab.bench.arm_engines import FIT_MEMORY, engine_log, own_options
from caesura.lab.bench.function_calling.case_player import CasePlayer
from caesura.lab.bench.function_calling.demo import demo_model_folder
from caesura.lab.bench.function_calling.plans import CallTokens
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.function_calling.stage import Stage
from caesura.lab.bench.function_calling.vllm_planned_calls import PLANNED_CALLS
from caesura.lab.bench.settings import DEMO
from caesura.lab.models.bench_model import bench_model_path


class FunctionCallingEngine:
    """A started engine under one policy, on which cases are played.

    Attributes:
        player: plays them.
    """

    def __init__(self, engine: Engine, log: Path, model: Path) -> None:
        tokenizer: Any = engine.llm.tokenizer
        codec = CmlFormat(ChatFormat(engine.llm.model_config, tokenizer, None))
        tokens = CallTokens(model, int(tokenizer.eos_token_id))
        self.player = CasePlayer(Stage(engine.tokens, codec), tokens)
        self._engine = engine
        self._log = log

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

    async def reset(self) -> None:
        """Forget cached contexts."""
        await self._engine.reset()

    async def shutdown(self) -> None:
        """Stop the engine."""
        self._engine.shutdown()
        self._log.unlink(missing_ok=True)


def _model_folder(settings: FunctionCallingSettings) -> Path:
    if settings.model is not None:
        return Path(settings.model)
    return demo_model_folder() if settings.suite == DEMO else bench_model_path()
