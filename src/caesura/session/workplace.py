"""What all server-run sessions share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from caesura.session.approvals import Approvals
from caesura.session.call_format import CallFormats
from caesura.session.calling import Durations
from caesura.session.dialogue import Dialogue
from caesura.session.left_calls import LeftCalls
from caesura.session.limits import Limits
from caesura.session.places import OwnersPlaces, PlacedEngine
from caesura.session.protocol import Sampling, TokenEngine
from caesura.session.records import SessionSpec
from caesura.session.store import Store
from caesura.session.supervisor import Supervisor
from caesura.tools.executor import Executor

if TYPE_CHECKING:  # it needs a package that a server alone does without
    from caesura.session.replicas import Replicas


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all agents share.

    Attributes:
        engine: generates.
        dialogue: the model's chat format.
        executor: runs calls.
        store: of sessions, on disk.
        approvals: what waits for a human.
        formats: of calls and results, where they are not in the model's own.
        limits: on the number and size of sessions.
        owner_limits: those of owners that have their own.
        left_calls: runs what sessions leave behind.
        durations: how long calls take, by owner.
        supervisor: runs what goes on in the background.
        shared_places: those of what else generates on the engine; None if nothing does.
        places: to generate, by owner.
        replicas: the servers that share the store; None if this is the only one.
        separates_owners: sessions of different owners share no contexts: how much of one is found
            would tell others what it says.
    """

    engine: TokenEngine
    dialogue: Dialogue
    executor: Executor
    store: Store
    approvals: Approvals
    formats: CallFormats = field(default_factory=CallFormats)
    limits: Limits = field(default_factory=Limits)
    owner_limits: Mapping[str, Limits] = field(default_factory=dict)
    left_calls: LeftCalls = field(init=False)
    durations: dict[str, Durations] = field(default_factory=dict)
    supervisor: Supervisor = field(default_factory=Supervisor)
    separates_owners: bool = False
    shared_places: OwnersPlaces | None = None
    replicas: "Replicas | None" = None
    places: OwnersPlaces = field(init=False)

    def __post_init__(self) -> None:
        left_calls = LeftCalls(self.executor, self.store, self.approvals)
        object.__setattr__(self, "left_calls", left_calls)
        places = self.shared_places or OwnersPlaces(
            lambda owner: self.limits_of(owner).generating_per_owner
        )
        object.__setattr__(self, "places", places)

    def sampling(self, owner: str, spec: SessionSpec) -> Sampling:
        """How the turns of an owner's session are generated."""
        salt = owner if self.separates_owners else None
        return replace(spec.sampling(), salt=salt)

    def engine_of(self, owner: str) -> TokenEngine:
        """The engine for an owner's sessions."""
        return PlacedEngine(self.engine, self.places.of(owner))

    def limits_of(self, owner: str) -> Limits:
        """The limits of an owner's sessions."""
        return self.owner_limits.get(owner, self.limits)

    def durations_of(self, owner: str) -> Durations:
        """How long the calls of an owner's sessions take."""
        if owner not in self.durations:
            self.durations[owner] = Durations(self.executor.declared_seconds())
        return self.durations[owner]
