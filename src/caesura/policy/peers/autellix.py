"""Autellix (Agentix, NSDI 2026; arXiv 2502.13965): least attained service per program.

PLAS, for programs of one thread (section 4.2): the priority of a call is the service that the
program's earlier calls have had, and least goes first. Priorities are discretised into `K` queues
of service; a call that has run for the quantum of its queue is moved to the next one; a call of a
higher queue preempts one of a lower queue, whose KV cache is swapped out. Calls of one queue are
served first come, first served. Nothing is kept for a program between its calls: what the prefix
cache still has is used.

What differs here: service is counted in generated tokens, each an iteration in which the call
ran, and not in seconds. The paper does not give the number of queues nor their bounds: they are
powers of two here. Among the calls of a queue, the program goes first that arrived first, not
counting its pauses. Calls that starve (those whose program has waited for `beta` times its
service) are not promoted: `beta` is not published either. A call is preempted where the engine can
copy its context out, and where that pays for itself (`displacement_pays`).
"""

from dataclasses import dataclass
from typing import ClassVar

from caesura.policy.costs import CostModel
from caesura.policy.order import UNKNOWN_TURN, OrderDefaults
from caesura.policy.service import Service, Turn
from caesura.policy.types import Drop, Plan, PolicyDefaults, Snapshot

QUEUE_SECONDS = 1e9
"""Ranks of one queue are this far from those of the next: more than arrivals can differ."""


@dataclass(frozen=True, slots=True)
class ServiceQueues(OrderDefaults):
    """Queues of attained service, each first come, first served.

    Attributes:
        queues: how many.
        quantum_tokens: service up to which a program is in the first queue; each of the others
            reaches twice as far as the one before it, and the last has no end.
    """

    ranks_everyone: ClassVar[bool] = True
    displacement_margin_seconds: ClassVar[float | None] = QUEUE_SECONDS / 2

    queues: int
    quantum_tokens: float

    def queue(self, output_tokens: int) -> int:
        """The queue of a program that has had this service; 0 is served first."""
        bound, index = self.quantum_tokens, 0
        while output_tokens >= bound and index < self.queues - 1:
            bound, index = 2 * bound, index + 1
        return index

    def rank(self, service: Service, turn: Turn = UNKNOWN_TURN) -> float:
        """By queue, then by arrival without pauses."""
        behind = self.queue(service.output_tokens) - self.queues
        return QUEUE_SECONDS * behind + service.arrival_seconds + service.paused_seconds


@dataclass
class Autellix(PolicyDefaults):
    """See the module.

    Attributes:
        queues: `K`.
        quantum_tokens: service up to which a program is in the first queue.
    """

    name: ClassVar[str] = "autellix"

    queues: float = 8
    quantum_tokens: float = 64

    def __post_init__(self) -> None:
        self.order = ServiceQueues(max(1, int(self.queues)), self.quantum_tokens)

    def saves_contexts(self, costs: CostModel) -> bool:
        """Yes: preempted calls are swapped."""
        return True

    def plan(self, snapshot: Snapshot) -> Plan:
        """Hold nothing."""
        return Plan([Drop(pause.id) for pause in snapshot.pauses.undecided()])
