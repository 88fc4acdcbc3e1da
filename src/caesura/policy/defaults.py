"""What a policy does that has nothing special to say."""

from collections.abc import Iterable

from caesura.policy.costs import CostModel
from caesura.policy.types import PauseView, Snapshot


class PolicyDefaults:
    """The methods of `Policy` besides `plan`, as most policies have them: a base class for
    policies that are to say only what they do differently."""

    def iteration_tokens(self) -> int | None:
        """The engine's limit: smaller ones pay the fixed part of an iteration more often."""
        return None

    def saves_contexts(self, costs: CostModel) -> bool:
        """No: as in vLLM, what has to give way is computed again."""
        return False

    def copies_given_up(
        self, snapshot: Snapshot, tokens: int, pause: PauseView | None
    ) -> Iterable[str]:
        """None: a copy stays until its session returns."""
        return ()

    def expected_seconds(self, endpoint: str) -> float | None:
        """Nothing is estimated."""
        return None

    def ended(self, endpoint: str, elapsed_seconds: float, *, returned: bool) -> None:
        """Nothing is learned from it."""
