"""Pure decisions: what becomes of the KV context of a paused session."""

from caesura.policy.order import AttainedService, OriginalArrival, Service, SessionOrder
from caesura.policy.registry import (
    DEFAULT_POLICY,
    make_policy,
    policy_names,
    policy_options,
)
from caesura.policy.types import (
    Action,
    CostModel,
    Demand,
    Disposition,
    Load,
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
    "AttainedService",
    "CostModel",
    "Demand",
    "Disposition",
    "Load",
    "Memory",
    "OriginalArrival",
    "PauseIndex",
    "PauseView",
    "Plan",
    "Policy",
    "Service",
    "SessionOrder",
    "Snapshot",
    "make_policy",
    "policy_names",
    "policy_options",
]
