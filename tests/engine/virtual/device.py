"""A device without a model, that knows what every KV slot must hold.

A slot holds a hash of all tokens up to its position. A step of a request writes the scheduled
positions and then checks every position that attention would read, so a block that is stale,
overwritten, wrongly copied or reused too early is found in the step that reads it. The next
token is a hash of the whole transcript: outputs can be computed without an engine.

There may be several KV cache groups, each with a window or without one. What a slot holds is
different in each, so that a block of another group is found, too.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import (
    MultiKVConnectorMetadata,
    MultiKVConnectorWorkerMetadata,
)
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput

from caesura.engine.connector import CopyMetadata, CopyReport
from caesura.engine.copies.batch import CopyBatch
from engine.virtual.runners import PLACEHOLDER, Forward, Runner, RunnerVersion, V1Runner, V2Runner

VOCAB_SIZE = 64
GARBAGE = -2
NONSENSE = VOCAB_SIZE

_MASK = (1 << 61) - 1
_EMPTY = 0x9E3779B97F4A7C15 & _MASK


class KvCorruption(AssertionError):
    """A request would read KV that is not its own."""


def extend_chain(chain: list[int], tokens: Sequence[int]) -> None:
    """Append, for each token, the hash of everything up to it."""
    value = chain[-1] if chain else _EMPTY
    for token in tokens:
        value = (value * 0x5DEECE66D + (token + 1) * 0x2545F4914F6CDD1D) & _MASK
        value ^= value >> 29
        chain.append(value)


def chain_of(tokens: Sequence[int]) -> list[int]:
    """What the KV slots of a transcript hold."""
    chain: list[int] = []
    extend_chain(chain, tokens)
    return chain


def content(chain: Sequence[int], group: int) -> list[int]:
    """What the slots of a KV cache group hold for that part of a transcript."""
    return [value ^ (group * _EMPTY) for value in chain]


def next_token(chain: Sequence[int]) -> int:
    """What is sampled after the transcript with this chain."""
    return (chain[-1] >> 13) % VOCAB_SIZE


@dataclass(frozen=True, slots=True)
class Group:
    """A KV cache group: tokens of a block, and of its window or chunk; full attention has none."""

    block_size: int
    window: int | None = None
    chunk: int | None = None

    def reads_from(self, position: int) -> int:
        """The first position that the token at another reads."""
        if self.chunk is not None:
            return position // self.chunk * self.chunk
        return 0 if self.window is None else max(0, position - self.window + 1)


@dataclass(frozen=True, slots=True)
class CopyBehaviour:
    """How copies between device and host go.

    Attributes:
        most_delay_steps: steps until a batch is reported, at most.
        failure_rate: part of the batches that fail, leaving garbage.
        loads_fail: no load ever succeeds.
    """

    most_delay_steps: int = 0
    failure_rate: float = 0.0
    loads_fail: bool = False


@dataclass(slots=True)
class _UnderWay:
    batch: CopyBatch
    step: int
    steps_left: int
    fails: bool
    saved: bool = False
    loaded: bool = False
    stored: bool = False


@dataclass(slots=True)
class _Transcript:
    tokens: list[int] = field(default_factory=list)
    chain: list[int] = field(default_factory=list)
    sampled: int | None = None


@dataclass(slots=True)
class Launched:
    """One step under way.

    Attributes:
        sampled: what each request sampled, once the device has run the step.
    """

    step: int
    forwards: list[Forward]
    copy: _UnderWay | None = None
    connector_output: KVConnectorOutput | None = None
    sampled: dict[str, int] = field(default_factory=dict)


class VirtualDevice:
    """Runs steps in order, as late as it can or earlier, and copies beside them.

    Args:
        num_blocks: device blocks.
        num_slots: host slots of one block each.
        groups: the KV cache groups.
        asynchronous: sampled tokens stay on the device between steps.
        rng: decides when things happen.
    """

    def __init__(
        self,
        num_blocks: int,
        groups: Sequence[Group],
        num_slots: int,
        max_num_seqs: int,
        version: RunnerVersion,
        *,
        asynchronous: bool,
        copies: CopyBehaviour,
        rng: random.Random,
    ) -> None:
        block_size = max(group.block_size for group in groups)
        self.blocks = [[GARBAGE] * block_size for _ in range(num_blocks)]
        self.host = [[GARBAGE] * block_size for _ in range(num_slots)]
        self.runner: Runner = (
            V1Runner(max_num_seqs, asynchronous=asynchronous)
            if version is RunnerVersion.V1
            else V2Runner(max_num_seqs)
        )
        self._block_size = block_size
        self._groups = groups
        self._asynchronous = asynchronous
        self._copies = copies
        self._rng = rng
        self._steps = 0
        self._pending: deque[Launched] = deque()
        self._transcripts: dict[str, _Transcript] = {}
        self._under_way: deque[_UnderWay] = deque()
        self._spoiled: set[int] = set()  # device blocks that a failed load was to fill
        self._failed: set[str] = set()  # requests that wait for loads of which some failed

    # Steps

    def launch(self, output: SchedulerOutput) -> Launched:
        """Start a step; the device runs it now or later."""
        launched = Launched(self._steps, self.runner.launch(output))
        self._steps += 1
        self._pending.append(launched)
        batch = self._batch(output)
        if batch is not None:
            launched.copy = self._start_copies(batch, launched.step)
        if not self._asynchronous or self._rng.random() < 0.5:
            self._run_until(launched.step)
        self.runner.sampled(None if self._asynchronous else launched.sampled, launched.forwards)
        if output.kv_connector_metadata is not None:
            launched.connector_output = self._poll()
        return launched

    def result(self, launched: Launched) -> ModelRunnerOutput:
        """Wait for a step."""
        self._run_until(launched.step)
        ids = [forward.request_id for forward in launched.forwards]
        return ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={request_id: index for index, request_id in enumerate(ids)},
            sampled_token_ids=[
                [launched.sampled[forward.request_id]] if forward.samples else []
                for forward in launched.forwards
            ],
            kv_connector_output=launched.connector_output,
        )

    def _run_until(self, step: int) -> None:
        while self._pending and self._pending[0].step <= step:
            launched = self._pending.popleft()
            copy = launched.copy
            if copy is not None:
                self._save(copy)
                self._move(copy, copy.batch.urgent_loads, self.host, self.blocks)
            for forward in launched.forwards:
                self._run(forward, launched)
            if copy is not None:
                self._copy_some(copy)

    def _run(self, forward: Forward, launched: Launched) -> None:
        transcript = self._transcripts.setdefault(forward.request_id, _Transcript())
        if forward.known is not None:
            self._set_known(transcript, forward.known)
        inputs = list(forward.inputs)
        if forward.fed_back:
            assert transcript.sampled is not None, f"{forward.request_id}: nothing was sampled"
            inputs[-1] = transcript.sampled
        start, stop = forward.start, forward.start + len(inputs)
        assert PLACEHOLDER not in inputs, f"{forward.request_id}: a token is not known"
        assert len(transcript.tokens) >= start, f"{forward.request_id}: positions are left out"
        del transcript.tokens[start:]
        del transcript.chain[start:]
        transcript.tokens += inputs
        extend_chain(transcript.chain, inputs)
        for number, (group, table) in enumerate(zip(self._groups, forward.tables, strict=True)):
            values = content(transcript.chain[start:stop], number)
            for position, value in enumerate(values, start):
                block = table[position // group.block_size]
                assert block != 0, f"{forward.request_id}: writes to the null block"
                self.blocks[block][position % group.block_size] = value
        nonsense = self._reads_failed_load(forward, transcript.chain)
        if forward.samples:
            # Nobody may ever see what was computed from a failed load.
            transcript.sampled = NONSENSE if nonsense else next_token(transcript.chain)
            launched.sampled[forward.request_id] = transcript.sampled

    def _set_known(self, transcript: _Transcript, known: list[int]) -> None:
        """The runner set the transcript anew; what only the device knew stays."""
        tokens = [
            transcript.tokens[position] if token == PLACEHOLDER else token
            for position, token in enumerate(known)
        ]
        if tokens != transcript.tokens[: len(tokens)]:
            transcript.chain = chain_of(tokens)
        transcript.tokens = tokens

    def _reads_failed_load(self, forward: Forward, chain: list[int]) -> bool:
        """Check every position that the step reads.

        Returns:
            Whether it reads a load that failed, which the scheduler may not know yet.

        Raises:
            KvCorruption: it reads anything else that is not its own.
        """
        for number, (group, table) in enumerate(zip(self._groups, forward.tables, strict=True)):
            size, reads_from = group.block_size, group.reads_from(forward.start)
            for first in range(reads_from // size * size, len(chain), size):
                block = table[first // size]
                begin = max(reads_from, first)
                expected = content(chain[begin : first + size], number)
                found = self.blocks[block][begin - first :][: len(expected)]
                if found == expected:
                    continue
                pairs = enumerate(zip(found, expected, strict=True))
                wrong = next(index for index, (one, other) in pairs if one != other)
                if found[wrong] == GARBAGE and block in self._spoiled:
                    return True
                raise KvCorruption(
                    f"{forward.request_id} reads at position {begin + wrong} (block {block} of "
                    f"group {number}) what is not its own; its step has positions {forward.start} "
                    f"to {len(chain) - 1}"
                )
        return False

    # Copies

    @property
    def copying(self) -> bool:
        """Whether copies are under way."""
        return bool(self._under_way)

    def _batch(self, output: SchedulerOutput) -> CopyBatch | None:
        metadata = output.kv_connector_metadata
        self._others = 0  # that report nothing
        if isinstance(metadata, MultiKVConnectorMetadata):
            metadata, *others = metadata.metadata
            self._others = len(others)
        return metadata.batch if isinstance(metadata, CopyMetadata) else None

    def _start_copies(self, batch: CopyBatch, step: int) -> _UnderWay:
        loads = batch.loads or batch.urgent_loads
        fails = self._rng.random() < self._copies.failure_rate
        fails |= self._copies.loads_fail and bool(loads)
        delay = self._rng.randint(0, self._copies.most_delay_steps)
        copy = _UnderWay(batch, step, delay, fails)
        self._under_way.append(copy)
        if fails:
            self._spoiled.update(block for _, block in batch.urgent_loads)
        if self._rng.random() < 0.3:
            # The target blocks are idle, but what was in them may have to be saved before.
            if any(other.batch.urgent_stores for other in self._under_way):
                self._run_until(step - 1)
            self._save(copy)
            self._load(copy)
        return copy

    def _copy_some(self, copy: _UnderWay) -> None:
        if self._rng.random() < 0.5:
            self._load(copy)
        if self._rng.random() < 0.5:
            self._store(copy)

    def _poll(self) -> KVConnectorOutput:
        """What the connector's workers report, batches in order."""
        output = KVConnectorOutput(finished_recving=set())
        report = CopyReport()
        for copy in self._under_way:
            copy.steps_left -= 1
        for number, copy in enumerate(self._under_way):
            if copy.fails and copy.batch.urgent_loads:  # nobody may see what was computed from it
                for before in islice(self._under_way, number + 1):
                    before.steps_left = -1
        finished: list[_UnderWay] = []
        while self._under_way and self._under_way[0].steps_left < 0:
            finished.append(self._under_way.popleft())
        for copy in finished:
            self._run_until(copy.step)
            self._load(copy)
            self._store(copy)
            (report.failed if copy.fails else report.completed)[copy.batch.id] = 1
            assert output.finished_recving is not None
            output.finished_recving.update(copy.batch.finished_loads)
            if copy.fails and len(self._groups) > 1:
                self._failed.update(copy.batch.loading)
            elif copy.fails:
                loads = copy.batch.urgent_loads + copy.batch.loads
                output.invalid_block_ids.update(block for _, block in loads)
        assert output.finished_recving is not None
        output.failed_recving = output.finished_recving & self._failed
        self._failed -= output.failed_recving
        if report.completed or report.failed:
            output.kv_connector_worker_meta = report
            if self._others:
                reports = (report, *[None] * self._others)
                output.kv_connector_worker_meta = MultiKVConnectorWorkerMetadata(reports)
        return output

    def _save(self, copy: _UnderWay) -> None:
        if not copy.saved:
            copy.saved = True
            self._move(copy, copy.batch.urgent_stores, self.blocks, self.host)

    def _load(self, copy: _UnderWay) -> None:
        if not copy.loaded:
            copy.loaded = True
            self._move(copy, copy.batch.loads, self.host, self.blocks)

    def _store(self, copy: _UnderWay) -> None:
        if not copy.stored:
            copy.stored = True
            self._move(copy, copy.batch.stores, self.blocks, self.host)

    def _move(
        self,
        copy: _UnderWay,
        pairs: list[tuple[int, int]],
        source: list[list[int]],
        target: list[list[int]],
    ) -> None:
        for origin, destination in pairs:
            if copy.fails and self._rng.random() < 0.5:
                target[destination] = [GARBAGE] * self._block_size
            else:
                target[destination] = list(source[origin])
