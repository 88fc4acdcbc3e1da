"""Which contexts are loaded back before their sessions return.

A load ahead takes from nobody while nobody waits for memory, the link is idle, and what it brings
leaves device memory to spare: the host copy stays, so the blocks are given up at once when
somebody wants them. So the most probable returns are loaded first and no fine estimate is
needed; only who hardly comes back within `ahead_seconds` is left where it is.
"""

from dataclasses import dataclass, field

from caesura.policy.duration import DurationModel
from caesura.policy.types import Action, PauseView, Prefetch, Snapshot

SPARE_SHARE = 0.1
"""Share of device memory that stays free for those who come and those who run."""


@dataclass(slots=True)
class PrefetchRule:
    """Chooses what to load ahead.

    Attributes:
        ahead_seconds: a session is awaited this long before its load would have to begin; the
            time between two reviews at least.
        least_probability: of its return by then.
        list_every_seconds: how long a list of the contexts that could be loaded is used.
    """

    ahead_seconds: float
    least_probability: float
    list_every_seconds: float
    _away: list[PauseView] = field(default_factory=list)
    _listed_seconds: float = float("-inf")

    def loads(self, snapshot: Snapshot, durations: DurationModel) -> list[Action]:
        """Contexts to load now, those whose sessions most probably return first."""
        load, device = snapshot.load, snapshot.device
        room = load.copy_budget_tokens - load.link_backlog_tokens
        spare = device.free_tokens - SPARE_SHARE * device.total_tokens
        if load.waiting_requests or room <= 0 or spare <= 0:
            return []
        likely = []
        for pause in self._listed(snapshot):
            missing = pause.memory_tokens(pause.loadable_tokens)
            missing -= pause.memory_tokens(pause.held_tokens)
            if pause.returning or missing <= 0:
                continue
            probability = self._return_probability(pause, missing, snapshot, durations)
            if probability >= self.least_probability:
                likely.append((probability, missing, pause))
        likely.sort(key=lambda entry: entry[0], reverse=True)
        chosen: list[Action] = []
        for _, missing, pause in likely:
            if missing <= spare:
                chosen.append(Prefetch(pause.id))
                spare -= missing
                room -= missing
            if room <= 0:
                break
        return chosen

    def _listed(self, snapshot: Snapshot) -> list[PauseView]:
        if snapshot.now_seconds - self._listed_seconds >= self.list_every_seconds:
            self._listed_seconds = snapshot.now_seconds
            pauses = snapshot.pauses
            self._away = [pause for pause in pauses if pause.loadable_tokens > pause.held_tokens]
        return self._away

    def _return_probability(
        self, pause: PauseView, missing_tokens: int, snapshot: Snapshot, durations: DurationModel
    ) -> float:
        """Probability that the session returns by the time for which it would be loaded."""
        elapsed = snapshot.now_seconds - pause.endpoint_since_seconds
        load_seconds = missing_tokens * snapshot.costs.seconds_per_copied_token
        horizon = load_seconds + self.ahead_seconds
        returns = durations.return_probability(pause.endpoint, elapsed)
        learned = returns * (1.0 - durations.survival(pause.endpoint, elapsed, horizon))
        said = pause.progress
        if said is None:
            return learned
        soon = abs(said.total_seconds - elapsed) <= horizon
        return said.confidence * soon + (1.0 - said.confidence) * learned
