"""The vLLM methods that Caesura overrides or calls are as they were when it was tested.

A failure here after an upgrade of vLLM says what to look at before `TESTED_VERSIONS` may grow.
What the methods do is in `virtual/test_vllm_behaviour.py`.
"""

import inspect
import re
from pathlib import Path

import pytest
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1
from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import FreeKVCacheBlockQueue, KVCacheBlock
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.request_queue import FCFSRequestQueue
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core import EngineCoreProc
from vllm.v1.engine.core_client import AsyncMPClient
from vllm.v1.engine.output_processor import RequestOutputCollector
from vllm.v1.request import Request, StreamingUpdate
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar
from vllm.v1.worker.gpu.kv_connector import ActiveKVConnector
from vllm.v1.worker.gpu_model_runner import GPUModelRunner
from vllm.version import __version__ as vllm_version

from caesura.engine.versions import TESTED_VERSIONS, base_version, require_tested_vllm
from caesura.errors import UnsupportedVersion

SIGNATURES = {
    # overridden
    AsyncScheduler.schedule: "self, throttle_prefills",
    AsyncScheduler.update_from_output: "self, scheduler_output, model_runner_output",
    AsyncScheduler._update_request_with_output: "self, request, new_token_ids, is_stale",
    AsyncScheduler.add_request: "self, request",
    AsyncScheduler.finish_requests: "self, request_ids, finished_status",
    AsyncScheduler.has_finished_requests: "self",
    Scheduler._handle_stopped_request: "self, request",
    Scheduler._update_request_as_session: "self, session, update",
    Scheduler._free_request: "self, request, delay_free_blocks",
    FCFSRequestQueue.add_request: "self, request",
    FCFSRequestQueue.prepend_request: "self, request",
    # stood in for
    KVCacheManager.allocate_slots: (
        "self, request, num_new_tokens, num_new_computed_tokens, new_computed_blocks, "
        "num_lookahead_tokens, num_external_computed_tokens, delay_cache_blocks, "
        "num_encoder_tokens, full_sequence_must_fit, reserved_blocks, has_scheduled_reqs, "
        "skip_zeroing_group_ids"
    ),
    RequestOutputCollector.put: "self, output",
    # called
    Scheduler._enqueue_waiting_request: "self, request",
    Scheduler._free_request_blocks: "self, request",
    Scheduler._request_blocks_can_be_freed: "self, request",
    Scheduler._handle_blocked_waiting_request: "self, request",
    Scheduler.get_request_counts: "self",
    StructuredOutputManager._create_grammar: "self, request",
    StructuredOutputGrammar.reset: "self",
    BlockPool.touch: "self, blocks",
    BlockPool.get_new_blocks: "self, num_blocks",
    BlockPool.get_cached_block: "self, block_hash, kv_cache_group_ids",
    BlockPool._insert_block_hash: "self, block_hash_with_group_id, block, num_tokens",
    BlockPool.free_blocks: "self, ordered_blocks",
    BlockPool.evict_blocks: "self, block_ids",
    BlockPool.get_num_free_blocks: "self",
    FreeKVCacheBlockQueue.remove: "self, block",
    FreeKVCacheBlockQueue.prepend_n: "self, blocks",
    KVCacheManager.get_blocks: "self, request_id",
    StreamingUpdate.from_request: "request",
    AsyncMPClient.call_utility_all_async: "self, method, args",
    # the connector's side of the interface
    KVConnectorBase_V1.get_num_new_matched_tokens: "self, request, num_computed_tokens",
    KVConnectorBase_V1.update_state_after_alloc: "self, request, blocks, num_external_tokens",
    KVConnectorBase_V1.build_connector_meta: "self, scheduler_output",
    KVConnectorBase_V1.update_connector_output: "self, connector_output",
    KVConnectorBase_V1.get_transfer_results: "self, finished_req_ids",
}


@pytest.mark.parametrize(
    ("method", "parameters"),
    SIGNATURES.items(),
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signature(method: object, parameters: str) -> None:
    assert ", ".join(inspect.signature(method).parameters) == parameters


def test_the_documents_say_what_each_method_is_relied_on_for() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "vllm.md"
    named = {
        word
        for words in re.findall(r"`([^`]+)`", page.read_text())
        for word in re.findall(r"\w+", words)
    }
    assert {method.__name__ for method in SIGNATURES} - named == set()


def test_the_allocation_of_a_waiting_request_passes_options_by_name() -> None:
    """`ReclaimingAllocator` reads them from keyword arguments."""
    source = inspect.getsource(Scheduler.schedule)
    assert "num_new_computed_tokens=num_new_local_computed_tokens" in source
    assert "num_external_computed_tokens=num_external_computed_tokens" in source
    assert "full_sequence_must_fit=self.scheduler_reserve_full_isl" in source


def test_a_stopped_request_is_handled_before_it_leaves_the_queues() -> None:
    """`Turns.settle` waits for the end of the step because of this order."""
    source = inspect.getsource(Scheduler.update_from_output)
    handled = source.index("self._handle_stopped_request(request)")
    assert handled < source.index("self.waiting.remove_requests(stopped_preempted_reqs)")


def test_a_request_has_the_fields_that_sessions_rely_on() -> None:
    source = inspect.getsource(Request.__init__)
    for name in (
        "streaming_queue",
        "num_in_flight_tokens",
        "num_output_placeholders",
        "num_stale_output_tokens",
        "drop_stale_output",
        "prefill_stats",
        "stop_reason",
        "_all_token_ids",
        "_output_token_ids",
        "block_hashes",
        "session_id",
    ):
        assert f"self.{name}" in source, name
    assert {"ref_cnt", "block_id", "is_null"} <= set(KVCacheBlock.__dataclass_fields__)


def test_streaming_input_is_an_async_generator_of_the_engine_client() -> None:
    source = inspect.getsource(AsyncLLM._add_streaming_input_request)
    assert "resumable=True" in source
    assert "queue._input_stream_task" in source


def test_a_client_may_call_any_method_of_the_engine_core() -> None:
    """Notifications are such a method."""
    source = inspect.getsource(EngineCoreProc._handle_client_request)
    assert "getattr(self, method_name)" in source


def test_the_installed_vllm_is_a_tested_one() -> None:
    require_tested_vllm(vllm_version)


def test_other_versions_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedVersion) as refused:
        require_tested_vllm("0.99.0+cu130")
    for words in (
        "works with vLLM 0.32.0 and 0.33.0; this is 0.99.0+cu130",
        "pip install 'vllm==0.33.0'",
        "CAESURA_ALLOW_UNTESTED_VLLM=1 tries this one anyway: wrong outputs are possible",
        "make contract VLLM=0.99.0 ",
    ):
        assert words in str(refused.value)
    for version in TESTED_VERSIONS:
        require_tested_vllm(version)
    monkeypatch.setenv("CAESURA_ALLOW_UNTESTED_VLLM", "1")
    require_tested_vllm("0.99.0")
    assert base_version("0.32.0+cpu") == "0.32.0"


def test_what_is_overwritten_can_be_saved_before_anything_is_computed_or_loaded() -> None:
    first_runner = inspect.getsource(GPUModelRunner.execute_model)
    assert first_runner.index(".handle_preemptions(") < first_runner.index("_update_states(")
    second_runner = inspect.getsource(ActiveKVConnector.pre_forward)
    assert second_runner.index(".handle_preemptions(") < second_runner.index("_start_load_kv(")
