"""The books of vLLM's model runners, which the scheduler tells only what changed.

`V1Runner` mirrors `GPUModelRunner._update_states`, `V2Runner` the runner in `v1/worker/gpu`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from vllm.v1.core.sched.output import CachedRequestData, SchedulerOutput

PLACEHOLDER = -1


class RunnerVersion(StrEnum):
    """vLLM's two model runners."""

    V1 = "v1"
    V2 = "v2"

    def __repr__(self) -> str:
        """As it is written in a test, so that printed scenarios can be."""
        return f"RunnerVersion.{self.name}"


@dataclass(slots=True)
class Forward:
    """One request's part in one step, as launched.

    Attributes:
        tables: its block table in each KV cache group.
        start: position of the first token.
        inputs: tokens from there on; the last is a placeholder when it comes from the device.
        known: tokens of the transcript before `start`, when the runner set them anew.
        fed_back: the last input is what was sampled in the step before.
        samples: a token is sampled at the end.
    """

    request_id: str
    tables: list[list[int]]
    start: int
    inputs: list[int]
    known: list[int] | None
    fed_back: bool
    samples: bool


class Runner(Protocol):
    """A model runner's books: turns what the scheduler says into forward passes."""

    def launch(self, output: SchedulerOutput) -> list[Forward]:
        """Update the books and return the step's forward passes."""
        ...

    def sampled(self, tokens: dict[str, int] | None, forwards: list[Forward]) -> None:
        """Note what was sampled; None while only the device knows it."""
        ...

    def slots_used(self) -> int:
        """Request slots that are taken."""
        ...


def _copied(tables: Sequence[Sequence[int]]) -> list[list[int]]:
    return [list(table) for table in tables]


def _extend(tables: list[list[int]], new_blocks: Sequence[Sequence[int]]) -> None:
    for table, blocks in zip(tables, new_blocks, strict=True):
        table.extend(blocks)


@dataclass(slots=True)
class _Cached:
    prompt: list[int]
    output: list[int]
    tables: list[list[int]]


@dataclass(slots=True)
class _Row:
    tokens: list[int]
    tables: list[list[int]]
    fresh: bool = True


class V1Runner:
    """`CachedRequestState` and the persistent batch of vLLM's first model runner."""

    def __init__(self, max_num_seqs: int, *, asynchronous: bool) -> None:
        self._max_num_seqs = max_num_seqs
        self._asynchronous = asynchronous
        self._requests: dict[str, _Cached] = {}
        self._rows: dict[str, _Row] = {}
        self._previous: set[str] = set()

    def launch(self, output: SchedulerOutput) -> list[Forward]:
        for request_id in output.finished_req_ids:
            self._requests.pop(request_id, None)
            self._remove_row(request_id)
        scheduled = output.num_scheduled_tokens.keys()
        kept = scheduled - output.scheduled_cached_reqs.resumed_req_ids
        for request_id in list(self._rows.keys() - kept):
            self._remove_row(request_id)
        computed: dict[str, int] = {}
        added: list[str] = []
        for data in output.scheduled_new_reqs:
            assert data.prompt_token_ids is not None
            self._remove_row(data.req_id)
            self._requests[data.req_id] = _Cached(
                list(data.prompt_token_ids), [], _copied(data.block_ids)
            )
            computed[data.req_id] = data.num_computed_tokens
            added.append(data.req_id)
        added += self._update_cached(output.scheduled_cached_reqs, computed)
        for request_id in added:
            assert request_id not in self._rows
            request = self._requests[request_id]
            self._rows[request_id] = _Row(request.prompt + request.output, _copied(request.tables))
        assert len(self._rows) <= self._max_num_seqs, "the persistent batch is full"
        return [
            self._forward(request_id, computed[request_id], count)
            for request_id, count in output.num_scheduled_tokens.items()
        ]

    def _update_cached(self, data: CachedRequestData, computed: dict[str, int]) -> list[str]:
        added: list[str] = []
        for index, request_id in enumerate(data.req_ids):
            request = self._requests[request_id]
            row = self._rows.get(request_id)
            outputs = data.num_output_tokens[index]
            computed[request_id] = data.num_computed_tokens[index]
            if outputs < len(request.output):
                del request.output[outputs:]
                if row is not None:
                    del row.tokens[len(request.prompt) + outputs :]
            new_blocks = data.new_block_ids[index]
            if request_id in data.resumed_req_ids:
                assert row is None
                assert new_blocks is not None
                request.tables = _copied(new_blocks)
            elif new_blocks is not None:
                _extend(request.tables, new_blocks)
            if row is None:
                if self._asynchronous and outputs > 0:
                    request.output = data.all_token_ids[request_id][-outputs:]
                added.append(request_id)
            elif new_blocks is not None:
                _extend(row.tables, new_blocks)
        return added

    def _forward(self, request_id: str, start: int, count: int) -> Forward:
        row = self._rows[request_id]
        stop = start + count
        assert stop <= len(row.tokens), f"{request_id}: positions past its tokens are scheduled"
        known = row.tokens[:start] if row.fresh else None
        row.fresh = False
        request = self._requests[request_id]
        return Forward(
            request_id,
            _copied(row.tables),
            start,
            row.tokens[start:stop],
            known,
            fed_back=request_id in self._previous,
            samples=stop >= len(request.prompt) + len(request.output),
        )

    def sampled(self, tokens: dict[str, int] | None, forwards: list[Forward]) -> None:
        sampling = [forward.request_id for forward in forwards if forward.samples]
        if self._asynchronous:
            self._previous = set(sampling)
        for request_id in sampling:
            token = PLACEHOLDER if tokens is None else tokens[request_id]
            self._rows[request_id].tokens.append(token)
            self._requests[request_id].output.append(token)

    def slots_used(self) -> int:
        return len(self._requests)

    def _remove_row(self, request_id: str) -> None:
        self._rows.pop(request_id, None)
        self._previous.discard(request_id)


@dataclass(slots=True)
class _Slot:
    prefill: list[int]
    computed: int
    tables: list[list[int]]
    fresh: bool = True


class V2Runner:
    """The request slots of vLLM's second model runner: `max_num_seqs` of them, no more."""

    def __init__(self, max_num_seqs: int) -> None:
        self._max_num_seqs = max_num_seqs
        self._slots: dict[str, _Slot] = {}

    def launch(self, output: SchedulerOutput) -> list[Forward]:
        for request_id in output.finished_req_ids | (output.preempted_req_ids or set()):
            self._slots.pop(request_id, None)
        for data in output.scheduled_new_reqs:
            assert data.prefill_token_ids is not None
            self._slots.pop(data.req_id, None)
            assert len(self._slots) < self._max_num_seqs, (
                f"no free slot for {data.req_id}: {sorted(self._slots)} have them"
            )
            self._slots[data.req_id] = _Slot(
                list(data.prefill_token_ids), data.num_computed_tokens, _copied(data.block_ids)
            )
        cached = output.scheduled_cached_reqs
        for request_id, computed, new_blocks in zip(
            cached.req_ids, cached.num_computed_tokens, cached.new_block_ids, strict=True
        ):
            slot = self._slots[request_id]
            # The device counts for itself; what the scheduler says must agree.
            assert computed == slot.computed, f"{request_id}: {computed} != {slot.computed}"
            if new_blocks is not None:
                _extend(slot.tables, new_blocks)
        return [
            self._forward(request_id, count)
            for request_id, count in output.num_scheduled_tokens.items()
        ]

    def _forward(self, request_id: str, count: int) -> Forward:
        slot = self._slots[request_id]
        start, stop = slot.computed, slot.computed + count
        slot.computed = stop
        known = slot.prefill[:start] if slot.fresh else None
        slot.fresh = False
        inputs = slot.prefill[start:stop]
        fed_back = stop > len(slot.prefill)
        if fed_back:
            inputs.append(PLACEHOLDER)
        assert len(inputs) == count, f"{request_id}: positions past its tokens are scheduled"
        samples = stop >= len(slot.prefill)
        return Forward(request_id, _copied(slot.tables), start, inputs, known, fed_back, samples)

    def sampled(self, tokens: dict[str, int] | None, forwards: list[Forward]) -> None:
        """Sampled tokens stay on the device."""

    def slots_used(self) -> int:
        return len(self._slots)
