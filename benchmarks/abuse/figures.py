"""Figures of a run: of each phase, and of each class of abuse against the idle phases beside it."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from abuse.innocent import Noticed

IDLE = "idle"


@dataclass(frozen=True)
class Phase:
    """A phase as it was.

    Attributes:
        kind: what the attackers did.
        seconds: how long it was, until the server answered quickly again.
        noticed: by the innocent client.
        memory_mib: of all processes of the server, at most.
        answers: what the attackers got, by status.
        loss: why the server was gone in the end, if it was.
    """

    kind: str
    seconds: float
    noticed: Noticed
    memory_mib: float
    answers: Counter[str]
    loss: str | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What an innocent client noticed, over some phases.

    Attributes:
        seconds: how long they were.
        tokens: chunks of answers that it got.
        gap_p50_ms, gap_p99_ms, gap_worst_ms: between two of them, in milliseconds.
        first_p99_ms: until the first one of an answer.
        sessions: that had their tool's result, with the median of their times.
        health_worst_ms: the longest wait for `/health`.
        errors: answers that were none, or wrong, by kind.
        memory_mib: of the server, at most.
        losses: times that the server was gone, by kind.
        answers: what the attackers got, by status.
    """

    seconds: float
    tokens: int
    gap_p50_ms: float | None
    gap_p99_ms: float | None
    gap_worst_ms: float | None
    first_p99_ms: float | None
    sessions: int
    session_p50_ms: float | None
    health_worst_ms: float | None
    errors: dict[str, int]
    memory_mib: float
    losses: dict[str, int]
    answers: dict[str, int]

    @classmethod
    def of(cls, phases: Iterable[Phase]) -> "Figures":
        """Of all these phases together."""
        phases = list(phases)
        noticed = [phase.noticed for phase in phases]
        gaps = [gap for each in noticed for gap in each.token_gaps]
        first = [wait for each in noticed for wait in each.first_tokens]
        sessions = [wait for each in noticed for wait in each.session_seconds]
        health = [wait for each in noticed for wait in each.health_seconds]
        return cls(
            seconds=sum(phase.seconds for phase in phases),
            tokens=len(gaps) + len(first),
            gap_p50_ms=_quantile(gaps, 0.5),
            gap_p99_ms=_quantile(gaps, 0.99),
            gap_worst_ms=_quantile(gaps, 1.0),
            first_p99_ms=_quantile(first, 0.99),
            sessions=len(sessions),
            session_p50_ms=_quantile(sessions, 0.5),
            health_worst_ms=_quantile(health, 1.0),
            errors=dict(sum((each.errors for each in noticed), Counter())),
            memory_mib=max((phase.memory_mib for phase in phases), default=0.0),
            losses=dict(Counter(phase.loss for phase in phases if phase.loss is not None)),
            answers=dict(sum((phase.answers for phase in phases), Counter())),
        )


def _quantile(seconds: Sequence[float], share: float) -> float | None:
    """A quantile in milliseconds; None of nothing."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def report(phases: Sequence[Phase]) -> dict[str, object]:
    """Each kind beside the idle phases before and after it, and all of them together."""
    kinds = {}
    for number, phase in enumerate(phases):
        if phase.kind != IDLE:
            beside = [phases[at] for at in (number - 1, number + 1) if at < len(phases)]
            kinds[phase.kind] = _compared([phase], beside)
    attacked = [phase for phase in phases if phase.kind != IDLE]
    idle = [phase for phase in phases if phase.kind == IDLE]
    return {"kinds": kinds, "over_all": _compared(attacked, idle)}


def _compared(attacked: Sequence[Phase], idle: Sequence[Phase]) -> dict[str, object]:
    under, calm = Figures.of(attacked), Figures.of(idle)
    ratio = None
    if under.gap_p99_ms is not None and calm.gap_p99_ms:
        ratio = under.gap_p99_ms / calm.gap_p99_ms
    return {"attacked": asdict(under), "idle": asdict(calm), "gap_p99_ratio": ratio}


def table(found: dict[str, dict[str, object]]) -> str:
    """The report as a table in Markdown."""
    rows = [
        "| attackers | token gap p50, ms | p99, ms | p99 / idle | worst, ms | `/health` worst, ms "
        "| errors | memory, MiB | server lost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows += [_row(kind, compared) for kind, compared in found["kinds"].items()]
    return "\n".join([*rows, _row("**over all**", found["over_all"])])


def _row(kind: str, compared: dict[str, dict[str, object]]) -> str:
    under, calm = compared["attacked"], compared["idle"]
    pairs = [
        f"{_number(calm[name])} → {_number(under[name])}" for name in ("gap_p50_ms", "gap_p99_ms")
    ]
    ratio = compared["gap_p99_ratio"]
    cells = [
        kind,
        *pairs,
        "-" if ratio is None else f"{ratio:.1f}",
        *(
            f"{_number(calm[name])} → {_number(under[name])}"
            for name in ("gap_worst_ms", "health_worst_ms")
        ),
        str(sum(under["errors"].values())),
        f"{under['memory_mib']:.0f}",
        ", ".join(under["losses"]) or "no",
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: object) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def median_ratio(found: dict[str, dict[str, object]]) -> float | None:
    """The median over kinds of the ratio of p99 gaps."""
    ratios = [each["gap_p99_ratio"] for each in found["kinds"].values()]
    known = [ratio for ratio in ratios if ratio is not None]
    return statistics.median(known) if known else None
