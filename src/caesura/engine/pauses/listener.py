"""The events of pauses that a trace records."""

from caesura.engine.pauses.pause import HoldEnding, Pause, PauseEnding
from caesura.policy import Action, Disposition


class PauseListener:
    """Receives the events of `PauseKeeper`. This one ignores them."""

    def pause_began(self, pause: Pause) -> None:
        """A session paused."""

    def decided(self, pause: Pause, action: Action, disposition: Disposition) -> None:
        """The policy changed its mind about a paused context."""

    def hold_broken(self, pause: Pause, ending: HoldEnding, freed_tokens: int) -> None:
        """A hold ended, or lost its tail."""

    def prefetched(self, pause: Pause, loaded_tokens: int) -> None:
        """Context was loaded ahead of the session, and is held."""

    def claimed(self, pause: Pause) -> None:
        """The session's tokens have arrived."""

    def resumed(self, pause: Pause, held_tokens: int, loaded_tokens: int) -> None:
        """The session is scheduled; that much of its context was held, and that much loaded."""

    def pause_ended(self, pause: Pause, ending: PauseEnding) -> None:
        """The pause is over."""


NO_PAUSE_LISTENER = PauseListener()
