"""Real engines that tests share: started once, used from one event loop in a thread of its own."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from caesura.engine.serving.launch import Engine, EngineSettings
from caesura.lab.bench.function_calling.vllm_planned_calls import PLANNED_CALLS
from engine.model.frame_scenarios import Teacher
from forced_tokens import FORCED_TOKENS
from framed_model import FramedModel, build_framed_model
from small_model import kv_bytes
from support.engines.real import Control, EngineLoop, chaotic_settings, running


@pytest.fixture(scope="session")
def engine_loop() -> Iterator[EngineLoop]:
    loop = EngineLoop()
    yield loop
    loop.stop()


@pytest.fixture(scope="session")
def control(engine_loop: EngineLoop, model_path: str) -> Iterator[Control]:
    """Stock vLLM with ample memory."""
    settings = EngineSettings(
        model_path, kv_memory_bytes=kv_bytes(512), dtype="float32", compute_threads=1
    )
    with running(engine_loop, settings) as engine:
        yield Control(engine)


@pytest.fixture(scope="session")
def chaotic(engine_loop: EngineLoop, model_path: str) -> Iterator[Engine]:
    """Caesura with a random policy, too little memory, small chunks and few running requests.

    Its sessions can be made to write a script, or a plan of calls.
    """
    settings = chaotic_settings(model_path)
    overrides = {"logits_processors": [FORCED_TOKENS, PLANNED_CALLS]}
    with running(engine_loop, replace(settings, overrides=overrides)) as engine:
        yield engine


@pytest.fixture(scope="session")
def framed_model(tmp_path_factory: pytest.TempPathFactory) -> FramedModel:
    folder = tmp_path_factory.mktemp("framed")
    return build_framed_model(folder)


@pytest.fixture(scope="session")
def framed(engine_loop: EngineLoop, framed_model: FramedModel) -> Iterator[Engine]:
    """The same engine, without scripts, with the model that writes frames."""
    with running(engine_loop, chaotic_settings(framed_model.path)) as engine:
        yield engine


@pytest.fixture(scope="session")
def teacher(framed_model: FramedModel) -> Teacher:
    return Teacher(framed_model.path)
