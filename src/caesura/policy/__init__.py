"""Pure decisions: what becomes of the KV context of a paused session."""

from caesura.policy.registry import (
    make_policy,
    policy_names,
    policy_options,
)
from caesura.policy.types import (
    Action,
    CostModel,
    Demand,
    Disposition,
    Memory,
    PauseIndex,
    PauseView,
    Plan,
    Policy,
    Snapshot,
)

__all__ = [
    "Action",
    "CostModel",
    "Demand",
    "Disposition",
    "Memory",
    "PauseIndex",
    "PauseView",
    "Plan",
    "Policy",
    "Snapshot",
    "make_policy",
    "policy_names",
    "policy_options",
]
