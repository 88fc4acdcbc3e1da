"""Sessions whose tokens an adapter generates: theirs, and of the weights that are loaded now."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from vllm import SamplingParams
from vllm.inputs import TokensPrompt
from vllm.lora.request import LoRARequest

from caesura.engine.serving.adapters import Adapters
from caesura.engine.serving.launch import Engine
from caesura.engine.serving.token_engines import InPlaceEngine
from caesura.session import EngineFailed, Sampling, Session
from support.engines.real import EngineLoop, chaotic_settings, running
from support.models.small import BLOCK_SIZE
from support.models.structures import FULL

pytestmark = pytest.mark.engine

RANK = 4
HIDDEN, HEAD, LAYERS = 128, 64, 2
OUTPUTS = {"q_proj": 2 * HEAD, "v_proj": HEAD}
PROMPT = [(7 * index + 3) % 1000 for index in range(3 * BLOCK_SIZE + 5)]


def write_adapter(folder: Path, seed: int) -> str:
    """Random low-rank changes of queries and values, large enough to change what is generated."""
    folder.mkdir(exist_ok=True)
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 4 * RANK,
        "target_modules": list(OUTPUTS),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = {}
        for layer in range(LAYERS):
            for name, outputs in OUTPUTS.items():
                path = f"base_model.model.model.layers.{layer}.self_attn.{name}"
                weights[f"{path}.lora_A.weight"] = torch.randn(RANK, HIDDEN) / HIDDEN**0.5
                weights[f"{path}.lora_B.weight"] = torch.randn(outputs, RANK)
    save_file(weights, folder / "adapter_model.safetensors")
    return str(folder)


@pytest.fixture(scope="module")
def engine(engine_loop: EngineLoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = FULL.write(tmp_path_factory.mktemp("model"))
    settings = chaotic_settings(path, FULL.block_bytes(BLOCK_SIZE))
    overrides = {
        "skip_tokenizer_init": True,
        "enable_lora": True,
        "max_loras": 2,
        "max_lora_rank": 8,
    }
    with running(engine_loop, replace(settings, overrides=overrides)) as engine:
        yield engine


async def stock_tokens(
    engine: Engine, prompt: list[int], count: int, adapter: LoRARequest | None, salt: str
) -> list[int]:
    """What one request generates that finds nothing computed."""
    params = SamplingParams(max_tokens=count, temperature=0, ignore_eos=True, detokenize=False)
    tokens = TokensPrompt(prompt_token_ids=prompt, cache_salt=salt)
    outputs = engine.llm.generate(tokens, params, salt, lora_request=adapter)
    *_, last = [output async for output in outputs]
    return list(last.outputs[0].token_ids)


async def turn(session: Session) -> list[int]:
    return [token async for delta in session for token in delta.token_ids]


def sampling(name: str | None) -> Sampling:
    return Sampling(max_tokens=12, ignore_eos=True, adapter=name)


def test_a_session_generates_by_its_adapter(
    engine: Engine, engine_loop: EngineLoop, tmp_path: Path
) -> None:
    adapter = LoRARequest("polite", 1, write_adapter(tmp_path / "a", 1))
    tokens = InPlaceEngine(engine.llm, Adapters({"polite": adapter}))

    async def play(name: str | None) -> tuple[list[int], list[int], list[int]]:
        session = await Session.open(tokens, PROMPT, sampling(name))
        first = await turn(session)
        await session.resume([5, 6, 7], sampling(name))
        second = await turn(session)
        transcript = list(session.transcript)
        await session.close()
        return first, second, transcript

    async def check(name: str | None) -> list[int]:
        used = None if name is None else adapter
        first, second, transcript = await play(name)
        assert first == await stock_tokens(engine, PROMPT, 12, used, f"{name}-1")
        so_far = transcript[: -len(second)]
        assert second == await stock_tokens(engine, so_far, 12, used, f"{name}-2")
        return first

    with_adapter = engine_loop.run(check("polite"))
    assert with_adapter != engine_loop.run(check(None)), "the adapter changes nothing"


def test_an_adapter_that_is_loaded_again_finds_nothing_of_its_old_weights(
    engine: Engine, engine_loop: EngineLoop, tmp_path: Path
) -> None:
    path = write_adapter(tmp_path / "a", 2)
    known = {"a": LoRARequest("a", 2, path)}
    tokens = InPlaceEngine(engine.llm, Adapters(known))

    async def first_turn() -> list[int]:
        session = await Session.open(tokens, PROMPT, sampling("a"))
        generated = await turn(session)
        await session.close()
        return generated

    async def play() -> None:
        paused = await Session.open(tokens, PROMPT, sampling("a"))
        old = await turn(paused)
        write_adapter(tmp_path / "a", 3)
        known["a"] = LoRARequest("a", 2, path, load_inplace=True)
        await engine.llm.add_lora(known["a"])
        new = await first_turn()
        assert new != old
        assert new == await stock_tokens(engine, PROMPT, 12, known["a"], "reloaded")
        await paused.resume([5, 6, 7], sampling("a"))
        so_far = list(paused.transcript)
        assert await turn(paused) == await stock_tokens(engine, so_far, 12, known["a"], "resumed")
        await paused.close()

    engine_loop.run(play())


def test_an_adapter_that_is_not_loaded_is_an_error(engine: Engine, engine_loop: EngineLoop) -> None:
    with pytest.raises(EngineFailed, match="no adapter x is loaded"):
        engine_loop.run(Session.open(engine.tokens, PROMPT, sampling("x")))
