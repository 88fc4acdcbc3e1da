"""The engine as requests see it: contexts of one owner are found by no other."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.datastructures import State
from vllm.lora.request import LoRARequest

from caesura.engine.serving.adapters import Adapters
from caesura.server.access import Access, Caller, current_caller, serving_caller
from caesura.server.clients.vllm_engine import (
    FreshAdapters,
    PlacedEngineClient,
    SeparatedEngine,
)
from caesura.server.clients.vllm_serving import put_before_all
from caesura.server.gate import close_gate
from caesura.server.owners import Owners
from caesura.session.places import OwnersPlaces
from server.served import known


class Noted:
    """An engine client that notes the prompts."""

    def __init__(self) -> None:
        self.prompts: list[Any] = []
        self.model_config = "a model"

    def generate(self, prompt: Any, *arguments: Any, **options: Any) -> tuple[Any, ...]:
        self.prompts.append(prompt)
        return (arguments, options)


def salt(caller: Caller | None, **fields: Any) -> str | None:
    noted = Noted()
    prompt = {"prompt_token_ids": [1], **fields}
    if caller is None:
        SeparatedEngine(noted).generate(prompt, "sampling", "id")
    else:
        with serving_caller(caller):
            SeparatedEngine(noted).generate(prompt, "sampling", "id")
    (seen,) = noted.prompts
    assert seen["prompt_token_ids"] == [1]
    assert prompt == {"prompt_token_ids": [1], **fields}  # the caller's own is not changed
    return seen.get("cache_salt")


def test_requests_of_owners_have_salts_of_their_own() -> None:
    anna, bert = Caller("anna"), Caller("bert")
    assert salt(anna) == salt(anna)
    salts = [salt(anna), salt(bert), salt(anna, cache_salt="bert"), salt(bert, cache_salt="anna")]
    salts += [salt(anna, cache_salt="x"), salt(bert, cache_salt="x")]
    # What another's salt looks like is none of the salts that a client can get.
    salts.append(salt(Caller("c"), cache_salt=str(salt(anna, cache_salt="x"))))
    assert len(set(salts)) == len(salts)
    assert None not in salts


def test_what_no_request_has_begun_keeps_its_salt() -> None:
    assert salt(None) is None
    assert salt(None, cache_salt="own") == "own"


def test_the_rest_of_the_engine_is_vllms() -> None:
    noted = Noted()
    assert SeparatedEngine(noted).model_config == "a model"
    with serving_caller(Caller("anna")):
        assert SeparatedEngine(noted).generate("text", 1, a=2) == ((1,), {"a": 2})
    assert noted.prompts == ["text"]


def test_it_stands_before_all_that_vllm_serves() -> None:
    noted, other = Noted(), Noted()
    state = State()
    state.engine_client = noted
    state.openai_serving_completion = SimpleNamespace(engine_client=noted)
    state.serving_tokens = SimpleNamespace(engine_client=noted)
    state.another = SimpleNamespace(engine_client=other)
    state.nothing = None
    separated = put_before_all(SeparatedEngine(noted), noted, state)
    assert state.engine_client is separated
    assert state.openai_serving_completion.engine_client is separated
    assert state.serving_tokens.engine_client is separated
    assert state.another.engine_client is other


class Generating:
    """An engine client whose requests go on until they are let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.let_go = asyncio.Event()

    async def generate(self, prompt: str, params: Any, request_id: str) -> AsyncIterator[str]:
        self.begun.append(prompt)
        try:
            yield f"{prompt} {request_id}"
            await self.let_go.wait()
            yield "end"
        finally:
            self.ended.append(prompt)


def asking(engine: Any, owner: str | None, prompt: str, n: int = 1) -> asyncio.Task[list[str]]:
    async def ask() -> list[str]:
        outputs = engine.generate(prompt, SimpleNamespace(n=n), "id")
        return [output async for output in outputs]

    if owner is None:
        return asyncio.create_task(ask())
    with serving_caller(Caller(owner)):
        return asyncio.create_task(ask())


async def let_others_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_requests_beyond_an_owners_places_wait_and_others_do_not() -> None:
    vllm = Generating()
    engine = PlacedEngineClient(vllm, OwnersPlaces({"anna": 2}.get))
    tasks = [asking(engine, "anna", prompt) for prompt in "abc"]
    tasks += [asking(engine, "bert", "d"), asking(engine, None, "e")]
    await let_others_run()
    assert vllm.begun == ["a", "b", "d", "e"]
    tasks[0].cancel()  # its client has gone
    await let_others_run()
    assert vllm.ended == ["a"]
    assert vllm.begun == ["a", "b", "d", "e", "c"]
    vllm.let_go.set()
    assert await tasks[2] == ["c id", "end"]
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_request_for_several_sequences_takes_as_many_places() -> None:
    vllm = Generating()
    engine = PlacedEngineClient(vllm, OwnersPlaces({"anna": 3}.get))
    tasks = [asking(engine, "anna", "a", n=2), asking(engine, "anna", "b", n=2)]
    await let_others_run()
    assert vllm.begun == ["a"]
    tasks[1].cancel()  # while it waits
    tasks += [asking(engine, "anna", "c")]
    await let_others_run()
    assert vllm.begun == ["a", "c"]
    vllm.let_go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asking(engine, "anna", "d", n=100)
    assert vllm.begun == ["a", "c", "d"]


@pytest.mark.parametrize("keys", [(), ("anna",)])
async def test_the_gate_says_who_calls(keys: tuple[str, ...]) -> None:
    app = FastAPI()
    app.state.caesura_owners = Owners(bool(keys))
    seen: list[Caller | None] = []

    @app.get("/v1/models")
    async def models() -> None:
        seen.append(current_caller())

    close_gate(app, Access(known(*keys)))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        await client.get("/v1/models", headers={"Authorization": "Bearer anna"})
    (caller,) = seen
    assert caller is not None
    assert caller.owner == app.state.caesura_owners.of(
        httpx.Headers({"Authorization": "Bearer anna"})
    )
    assert current_caller() is None


def test_an_adapter_that_was_loaded_again_finds_no_old_context() -> None:
    noted = Noted()
    engine = FreshAdapters(noted, Adapters({}))
    first, again, other = (LoRARequest(name, n, "/a") for n, name in enumerate("aab", 1))

    def salt_of(adapter: LoRARequest | None, **fields: Any) -> str | None:
        engine.generate({"prompt_token_ids": [1], **fields}, "sampling", lora_request=adapter)
        return noted.prompts[-1].get("cache_salt")

    assert salt_of(None) is salt_of(first) is salt_of(first) is None
    reloaded = salt_of(again)
    assert reloaded is not None
    assert salt_of(again) == reloaded
    assert salt_of(other) is None
    assert salt_of(None, cache_salt="own") == "own"
    assert salt_of(again, cache_salt="own") not in (reloaded, "own")
    assert salt_of(LoRARequest("a", 1, "/a")) not in (reloaded, None)
    engine.generate("text", lora_request=again)
    assert noted.prompts[-1] == "text"
    assert engine.model_config == "a model"
