"""Limits on the number and size of sessions."""

from dataclasses import dataclass

from caesura.session.records import SessionSpec
from caesura.units import format_size


@dataclass(frozen=True, slots=True)
class Limits:
    """How much there may be of each owner's sessions, and for how long it is kept.

    Attributes:
        open_sessions_per_owner: sessions that have not ended.
        sessions_per_minute: sessions that one owner makes within a minute.
        owner_bytes: what is kept of all sessions of one owner. Past this, those that have ended
            are forgotten earlier, the oldest first; if that is not enough, nothing is accepted of
            the owner, and its sessions end.
        waiting_messages: messages of a session that wait for their place.
        calls_per_turn: calls of one turn, or of an asynchronous session that are pending.
        streams_per_owner: streams of events that one owner reads at the same time.
        max_tokens: highest `SessionSpec.max_tokens`; None for any.
        max_turns: highest `SessionSpec.max_turns`.
        metadata_bytes: keys and values of a session's metadata.
        idle_seconds: a session that waits for its user longer than this is ended.
        retention_seconds: a session is forgotten this long after its end.
        sweep_seconds: how often that is looked after.
    """

    open_sessions_per_owner: int = 1000
    sessions_per_minute: int = 1200
    owner_bytes: int = 4 * 2**30
    waiting_messages: int = 100
    calls_per_turn: int = 64
    streams_per_owner: int = 200
    max_tokens: int | None = None
    max_turns: int = 1000
    metadata_bytes: int = 16 * 2**10
    idle_seconds: float = 24 * 3600.0
    retention_seconds: float = 7 * 24 * 3600.0
    sweep_seconds: float = 60.0

    def fitted(self, spec: SessionSpec) -> SessionSpec:
        """The same within these limits: defaults are lowered to them.

        Raises:
            ValueError: something that was asked for is beyond them; names field and setting.
        """
        ceilings = {
            "max_tokens": ("max_tokens", self.max_tokens),
            "max_turns": ("max_turns", self.max_turns),
            "max_pending_calls": ("calls_per_turn", self.calls_per_turn),
        }
        lowered = {}
        for field, (setting, ceiling) in ceilings.items():
            value = getattr(spec, field)
            if ceiling is None or value is None or value <= ceiling:
                continue  # what is not said is settled within them: `SessionSpec.settled`
            if field in spec.model_fields_set:
                raise ValueError(f"{field}: {ceiling} at most here (sessions.{setting})")
            lowered[field] = ceiling
        size_bytes = sum(len(text.encode()) for pair in spec.metadata.items() for text in pair)
        if size_bytes > self.metadata_bytes:
            most = format_size(self.metadata_bytes)
            raise ValueError(f"metadata: {most} at most here (sessions.metadata_size)")
        return spec.model_copy(update=lowered)
