"""A policy that writes down what it is asked about and what it learns."""

from dataclasses import dataclass, field

from caesura.policy import Keep, Plan, PolicyDefaults, SessionOrder, Snapshot


@dataclass
class Listening(PolicyDefaults):
    """Keeps everything.

    Attributes:
        decided: endpoints of the pauses that it decided about.
        learned: endpoint and seconds of each wait that ended.
        gone: the same for those that were given up.
    """

    name = "listening"
    order: SessionOrder | None = None
    decided: list[str] = field(default_factory=list)
    learned: list[tuple[str, float]] = field(default_factory=list)
    gone: list[tuple[str, float]] = field(default_factory=list)

    def plan(self, snapshot: Snapshot) -> Plan:
        new = list(snapshot.pauses.undecided())
        self.decided += [pause.endpoint for pause in new]
        return Plan([Keep(pause.id) for pause in new])

    def ended(self, endpoint: str, elapsed_seconds: float, *, returned: bool) -> None:
        (self.learned if returned else self.gone).append((endpoint, elapsed_seconds))
