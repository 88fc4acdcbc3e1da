"""`caesura bench http` against a real server."""

import asyncio
from collections.abc import Iterator

import pytest
from rich.console import Console

from caesura.lab.bench.http.run import run_http
from caesura.lab.bench.http.settings import HttpSettings
from caesura.lab.models.bench_model import bench_model_path
from support.servers.process import Server, serving

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments = [
        *("--policy", "preserve", "--keep-contexts", "all", "--served-model-name", "bench"),
        *("--kv-cache-memory-bytes", str(8 * 2**20), "--max-model-len", "2048"),
        *("--dtype", "float32", "--enforce-eager"),
    ]
    log = tmp_path_factory.mktemp("server") / "server.log"
    with serving(str(bench_model_path()), arguments, log) as server:
        yield server


@pytest.mark.parametrize("session_ids", [False, True])
async def test_agents_over_http_come_back_to_their_contexts(
    server: Server, session_ids: bool
) -> None:
    settings = HttpSettings(
        base_urls=(server.url,),
        policies=("ours",),
        rates=(20.0,),
        seeds=(0,),
        sessions=4,
        scale_pauses=0.01,
        session_ids=session_ids,
    )
    held = server.metric("held_tokens")
    (run,) = await asyncio.to_thread(
        run_http, settings, command="caesura bench http", console=Console(quiet=True)
    )
    assert run.completed == run.sessions == 4
    assert run.resume_ttft_ms.p50 is not None
    assert run.waste is not None
    assert run.waste.held > 0
    assert server.metric("held_tokens") > held
