"""What all server-run sessions share."""

from dataclasses import dataclass

from caesura.session.approvals import Approvals
from caesura.session.dialogue import Dialogue
from caesura.session.protocol import TokenEngine
from caesura.session.store import Store
from caesura.tools.executor import Executor


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all agents share.

    Attributes:
        engine: generates.
        dialogue: the model's chat format.
        executor: runs calls.
        store: what is written down.
        approvals: what waits for a human.
    """

    engine: TokenEngine
    dialogue: Dialogue
    executor: Executor
    store: Store
    approvals: Approvals
