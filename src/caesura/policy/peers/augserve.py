"""AugServe: state-aware order and a dynamic token budget (arXiv 2512.04013).

**Order**, least *scheduling value* first. The value is what the request is expected to cost in
memory times time, in token-seconds, over its phases: computing what it lacks, decoding, and the
call that follows, as cheap as the best of the three strategies makes it:

    preserve   T_int * C
    discard    T_fwd(C) * C + T_fwd(C) * C_other
    swap       2 * T_swap(C) * C_batch

Stage I takes it when the request arrives, from predictions of its output and of the duration of
its call. Stage II takes it again when the request comes back from a call, with the length that
the call really returned.

**Strategy**: the cheapest of the three at each pause.

**Token budget** of an iteration, between two bounds: it follows the memory that is free and the
memory that paused contexts could give up.

Known of the paper are its abstract and descriptions by others, not its pages. Uncertain, and
chosen here: the terms for computing (half of the context is there on average) and decoding (the
context and half of the output); the form of the budget, linear in the share of memory that is free
or held by pauses; its bounds, the saturation point and `largest_tokens`. The paper's predictor is
a language model that reads the prompt. Here outputs and calls are predicted by the means of what
sessions did at the same stage, and of the endpoints. Requests that wait for too long are put first
in the paper, with a threshold that is not known: here a tenth of the memory serves those that have
waited for longest. Under pressure holds are broken by `ReclaimRule`, as by all who hold.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import ClassVar

from caesura.policy.costs import CostModel
from caesura.policy.duration import DurationModel
from caesura.policy.order import UNKNOWN_TURN
from caesura.policy.reclaim import ReclaimRule
from caesura.policy.service import Service, Turn
from caesura.policy.types import (
    Action,
    CopyOut,
    Disposition,
    Drop,
    Keep,
    PauseView,
    Plan,
    PolicyDefaults,
    Snapshot,
)
from caesura.policy.waste import preserve_waste

FIRST_OUTPUT_TOKENS = 128.0
"""Predicted until any output has been seen."""


@dataclass(slots=True)
class _Mean:
    count: int = 0
    value: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.value += (value - self.value) / self.count


@dataclass(slots=True)
class Outputs:
    """Mean outputs of turns, by the stage at which they began."""

    _all: _Mean = field(default_factory=_Mean)
    _kinds: dict[str, _Mean] = field(default_factory=lambda: defaultdict(_Mean))

    def observe(self, service: Service) -> None:
        """A session is over, with these stages."""
        ends = [stage.output_tokens for stage in service.stages[1:]] + [service.output_tokens]
        for stage, end in zip(service.stages, ends, strict=False):
            for mean in (self._all, self._kinds[stage.kind]):
                mean.add(end - stage.output_tokens)

    def expected(self, service: Service) -> float:
        """Of the turn that begins now."""
        kind = service.stages[-1].kind if service.stages else ""
        mean = self._kinds.get(kind, self._all)
        return mean.value if mean.count else FIRST_OUTPUT_TOKENS


@dataclass(slots=True)
class State:
    """What the engine was like when the policy looked last.

    Attributes:
        costs: what computing and copying cost.
        running_tokens: contexts of what runs: `C_other`.
        host_tokens: free host memory.
        call_seconds: the mean duration of a call.
    """

    costs: CostModel = field(default_factory=lambda: CostModel(1e-4, 1e-2))
    running_tokens: int = 0
    host_tokens: int = 0
    call_seconds: float = 0.0

    def wastes(self, context_tokens: float, call_seconds: float) -> dict[Disposition, float]:
        """Token-seconds of each strategy for a context whose call takes so long."""
        tokens = int(context_tokens)
        forward = self.costs.forward_seconds(tokens)
        wastes = {
            Disposition.PRESERVE: preserve_waste(tokens, call_seconds),
            Disposition.DISCARD: forward * tokens + forward * self.running_tokens,
        }
        if self.host_tokens >= tokens:
            swap = self.costs.seconds_per_copied_token * tokens
            wastes[Disposition.SWAP] = 2 * swap * (self.running_tokens + tokens)
        return wastes


@dataclass(slots=True)
class LeastValue:
    """Least scheduling value first."""

    ranks_everyone: ClassVar[bool] = True
    displacement_margin_seconds: ClassVar[float | None] = None
    promoted_share: ClassVar[float] = 0.1
    generation: ClassVar[int] = 0

    outputs: Outputs = field(default_factory=Outputs)
    state: State = field(default_factory=State)

    def value(self, service: Service, turn: Turn) -> float:
        """Token-seconds that the request's turn and the call after it are expected to take."""
        costs, context = self.state.costs, turn.context_tokens
        output = self.outputs.expected(service)
        computing = turn.restoring_tokens * costs.seconds_per_iteration * context / 2
        decoding = output * costs.seconds_per_iteration * (context + output / 2)
        calling = min(self.state.wastes(context + output, self.state.call_seconds).values())
        return computing + decoding + calling

    def rank(self, service: Service, turn: Turn = UNKNOWN_TURN) -> float:
        """The value, before all arrivals."""
        return self.value(service, turn) - 1e11

    def ended(self, service: Service) -> None:
        """Learn outputs."""
        self.outputs.observe(service)


@dataclass
class AugServe(PolicyDefaults):
    """See the module. Learns outputs and durations while it runs.

    Attributes:
        largest_tokens: the upper bound of the token budget.
    """

    name: ClassVar[str] = "augserve"

    reclaim: ReclaimRule = field(default_factory=ReclaimRule)
    largest_tokens: float = 2048

    def __post_init__(self) -> None:
        self.order = LeastValue()
        self._durations = DurationModel()
        self._calls = _Mean()
        self._iteration_tokens: int | None = None  # before the first pause there is no limit

    def iteration_tokens(self) -> int | None:
        """The dynamic token budget."""
        return self._iteration_tokens

    def expected_seconds(self, endpoint: str) -> float | None:
        """The mean, as learned so far."""
        return self._durations.expected_remaining_seconds(endpoint, 0.0)

    def ended(self, endpoint: str, elapsed_seconds: float, *, returned: bool) -> None:
        """Learn how long calls take."""
        if returned:
            self._durations.observe(endpoint, elapsed_seconds)
            self._calls.add(elapsed_seconds)
        else:
            self._durations.observe_gone(endpoint, elapsed_seconds)

    def plan(self, snapshot: Snapshot) -> Plan:
        """Choose a strategy for new pauses, and the next iteration's budget; or meet a demand."""
        if snapshot.demand is not None:
            return Plan(self.reclaim.releases(snapshot, snapshot.demand))
        self.order.state = State(
            snapshot.costs,
            snapshot.load.running_tokens,
            snapshot.host.free_tokens,
            self._calls.value,
        )
        self._iteration_tokens = self.budget_tokens(snapshot)
        review = snapshot.now_seconds if len(snapshot.pauses) else None
        return Plan([self._decide(pause) for pause in snapshot.pauses.undecided()], review)

    def budget_tokens(self, snapshot: Snapshot) -> int:
        """Between the bounds, as large as the share of memory that is free or could be."""
        least = snapshot.costs.saturation_point()
        held = sum(pause.held_tokens for pause in snapshot.pauses if not pause.returning)
        total = max(1, snapshot.device.total_tokens)
        share = min(1.0, (snapshot.device.free_tokens + held) / total)
        return least + int(max(0.0, self.largest_tokens - least) * share)

    def _decide(self, pause: PauseView) -> Action:
        call_seconds = self._durations.expected_remaining_seconds(pause.endpoint, 0.0)
        wastes = self.order.state.wastes(pause.held_tokens, call_seconds)
        match min(wastes, key=lambda disposition: wastes[disposition]):
            case Disposition.PRESERVE:
                return Keep(pause.id)
            case Disposition.SWAP:
                return CopyOut(pause.id)
            case Disposition.DISCARD:
                return Drop(pause.id)
