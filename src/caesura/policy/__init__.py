"""Pure decisions: what becomes of the KV context of a paused session."""

from caesura.policy.registry import DEFAULT_POLICY, make_policy, policy_names
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
    "DEFAULT_POLICY",
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
]
