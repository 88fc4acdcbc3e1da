"""What became of a session's context during a pause, as the engine reports it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContextReturn:
    """One return of a paused context.

    Attributes:
        endpoint: what the pause waited for.
        policy: which policy decided about the context.
        disposition: what it decided last; None when the session was back before a decision.
        context_tokens: tokens whose KV was on the device when the session paused.
        held_tokens: those that were found on the device.
        loaded_tokens: those that are loaded from host memory.
        recomputed_tokens: those that are computed again.
        paused_seconds: how long the pause lasted, until the session's tokens arrived.
        predicted_seconds: how long the policy expected it to last; None where it does not.
    """

    endpoint: str
    policy: str
    disposition: str | None
    context_tokens: int
    held_tokens: int
    loaded_tokens: int
    recomputed_tokens: int
    paused_seconds: float
    predicted_seconds: float | None
