"""Workloads made from published statistics.

Durations, lengths and numbers of turns that are given by mean and standard deviation are
matched in both moments; those that are given as log-normals are drawn as such. `LogN(m, s)`
has the median exp(m).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caesura.lab.bench.workload import Segment, WorkloadSession, clip_context


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and standard deviation."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class LogNormal:
    """A log-normal by its median and the standard deviation of the logarithm."""

    median: float
    sigma: float

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        return self.median * math.exp(self.sigma * rng.standard_normal())

    def tokens(self, rng: np.random.Generator) -> int:
        """One length, at least 1."""
        return max(1, round(self.draw(rng)))

    @staticmethod
    def matching(moments: Moments) -> "LogNormal":
        """The log-normal with a given mean and standard deviation."""
        variance = math.log(1 + (moments.deviation / moments.mean) ** 2)
        return LogNormal(moments.mean * math.exp(-variance / 2), math.sqrt(variance))


@dataclass(frozen=True, slots=True)
class InterceptClass:
    """One class of InferCept's Table 1.

    Attributes:
        kind: its name.
        endpoint: what its pauses wait for.
        pause_seconds: duration of an interception.
        pauses: interceptions per session.
        context_tokens: context of a session, taken as its length at the end.
        prompt_share: share of the context that is the first prompt.
        append_share: share of the rest that is appended at the ends of pauses; what remains
            is generated.
    """

    kind: str
    endpoint: str
    pause_seconds: Moments
    pauses: Moments
    context_tokens: Moments
    prompt_share: float
    append_share: float


INFERCEPT_CLASSES = (
    InterceptClass(
        "math",
        "calculator",
        Moments(9e-5, 6e-5),
        Moments(3.75, 1.3),
        Moments(1422, 738),
        prompt_share=0.45,
        append_share=0.12,
    ),
    InterceptClass(
        "qa",
        "wikipedia",
        Moments(0.69, 0.17),
        Moments(2.52, 1.73),
        Moments(1846, 428),
        prompt_share=0.5,
        append_share=0.17,
    ),
    InterceptClass(
        "ve",
        "environment",
        Moments(0.09, 0.014),
        Moments(28.18, 15.2),
        Moments(2185, 115),
        prompt_share=0.84,
        append_share=0.67,
    ),
    InterceptClass(
        "chatbot",
        "human",
        Moments(28.6, 15.6),
        Moments(4.45, 1.96),
        Moments(753, 703),
        prompt_share=0.24,
        append_share=0.21,
    ),
    InterceptClass(
        "image",
        "image_generator",
        Moments(20.03, 7.8),
        Moments(6.91, 3.93),
        Moments(1247, 792),
        prompt_share=0.17,
        append_share=0.35,
    ),
    InterceptClass(
        "tts",
        "text_to_speech",
        Moments(17.24, 7.6),
        Moments(6.91, 3.93),
        Moments(1251, 792),
        prompt_share=0.3,
        append_share=0.28,
    ),
)
"""Moments: Table 1 of InferCept. Shares: measured on half of the authors' trace; for `ve`,
whose sessions are shorter in the trace, chosen to give turns of the trace's lengths."""


def infercept_mix(n: int, seed: int) -> list[WorkloadSession]:
    """`n` sessions of InferCept's six classes, equally many of each, in random order.

    Interception times and context lengths are log-normal (positive, skewed to the right);
    numbers of interceptions are 1 + binomial or 1 + negative binomial, whichever can have the
    variance. The context is split into turns at random, each length at least 1 token.
    """
    rng = np.random.default_rng(seed)
    classes = [INFERCEPT_CLASSES[i % len(INFERCEPT_CLASSES)] for i in range(n)]
    return [
        _intercepted_session(rng, classes[number], f"{classes[number].kind}-{index:03d}")
        for index, number in enumerate(rng.permutation(n))
    ]


def _intercepted_session(
    rng: np.random.Generator, source: InterceptClass, session_id: str
) -> WorkloadSession:
    pauses = draw_count(rng, source.pauses)
    context_tokens = LogNormal.matching(source.context_tokens).tokens(rng)
    duration = LogNormal.matching(source.pause_seconds)
    prompt = max(1, round(context_tokens * source.prompt_share))
    appended = round((context_tokens - prompt) * source.append_share)
    appends = [prompt, *_split(rng, appended, pauses)]
    outputs = _split(rng, context_tokens - prompt - appended, pauses + 1)
    seconds = [duration.draw(rng) for _ in range(pauses)]
    return _session(session_id, source.kind, appends, outputs, seconds, [source.endpoint] * pauses)


def draw_count(rng: np.random.Generator, moments: Moments) -> int:
    """A number of at least 1 with a given mean and standard deviation."""
    mean, variance = moments.mean - 1, moments.deviation**2
    if variance < mean:
        trials = round(mean / (1 - variance / mean))
        return 1 + int(rng.binomial(trials, mean / trials))
    return 1 + int(rng.negative_binomial(mean**2 / (variance - mean), mean / variance))


def _split(rng: np.random.Generator, total: int, parts: int) -> list[int]:
    """`total` in random parts of at least 1; more than `total` if there are more parts."""
    spare = max(0, total - parts)
    shares = rng.dirichlet(np.full(parts, 2.0))
    return [1 + int(part) for part in rng.multinomial(spare, shares)]


def _session(
    session_id: str,
    kind: str,
    appends: Sequence[int],
    outputs: Sequence[int],
    pause_seconds: Sequence[float],
    endpoints: Sequence[str],
) -> WorkloadSession:
    pauses: list[tuple[float | None, str | None]] = list(zip(pause_seconds, endpoints, strict=True))
    pauses.append((None, None))
    segments = (
        Segment(append, output, seconds, endpoint)
        for append, output, (seconds, endpoint) in zip(appends, outputs, pauses, strict=True)
    )
    return WorkloadSession(session_id, kind, tuple(segments))


_AGENT_TURNS = LogNormal(math.exp(3.667), 1.156)
_AGENT_OUTPUT = LogNormal(math.exp(5.564), 0.895)
_AGENT_APPEND = LogNormal(math.exp(6.757), 1.136)
_AGENT_FIRST_APPEND = LogNormal(20_000, 0.5)
_AGENT_CONTEXT_TOKENS = 200_000
_TOOL_MIXTURE = (
    (0.605, LogNormal(0.072, 1.52)),
    (0.223, LogNormal(1.47, 0.34)),
    (0.153, LogNormal(16.4, 1.34)),
    (0.019, LogNormal(77.5, 2.16)),
)
_LONGEST_TOOL_SECONDS = 6 * 3600.0


def coding_agent(n: int, seed: int) -> list[WorkloadSession]:
    """`n` coding-agent sessions from published statistics of 48,658 requests.

    Published: turns LogN(3.667, 1.156), output LogN(5.564, 0.895), appended after a tool
    LogN(6.757, 1.136). Tool time: a log-normal mixture that reproduces 432,510 tool calls
    (TraceLab, arXiv 2606.30560), capped at 6 h. Our choice: a first append (system prompt,
    tool definitions, repository) with a median of 20,000 tokens and sigma 0.5, and sessions
    that end at 200,000 tokens of context, where such agents rewrite it.
    """
    rng = np.random.default_rng(seed)
    sessions = [_coding_session(rng, f"coding-agent-{index:03d}") for index in range(n)]
    return list(clip_context(sessions, _AGENT_CONTEXT_TOKENS).sessions)


def _coding_session(rng: np.random.Generator, session_id: str) -> WorkloadSession:
    turns = _AGENT_TURNS.tokens(rng)
    first = min(_AGENT_FIRST_APPEND.tokens(rng), _AGENT_CONTEXT_TOKENS // 2)
    appends = [first, *(_AGENT_APPEND.tokens(rng) for _ in range(turns - 1))]
    outputs = [min(_AGENT_OUTPUT.tokens(rng), _AGENT_CONTEXT_TOKENS // 2) for _ in range(turns)]
    seconds = [_tool_seconds(rng) for _ in range(turns - 1)]
    return _session(session_id, "coding_agent", appends, outputs, seconds, ["tool"] * (turns - 1))


def _tool_seconds(rng: np.random.Generator) -> float:
    weights = [weight for weight, _ in _TOOL_MIXTURE]
    part = _TOOL_MIXTURE[int(rng.choice(len(weights), p=weights))][1]
    return min(part.draw(rng), _LONGEST_TOOL_SECONDS)


_TOOLS = (
    ("read", 0.4, LogNormal(0.036, 1.0)),
    ("edit", 0.2, LogNormal(0.095, 1.0)),
    ("shell", 0.3, LogNormal(0.85, 2.42)),
    ("web", 0.1, LogNormal(0.32, 1.27)),
)
_SHORT_TOOL_SECONDS = 30.0


def tools(n: int, seed: int) -> list[WorkloadSession]:
    """`n` tool-calling sessions: short pauses, moderate context.

    Published: times per tool (median seconds, sigma) of TraceLab (arXiv 2606.30560): read
    0.036, 1.0; edit 0.095, 1.0; shell 0.85, 2.42; web 0.32, 1.27. Our choice: their weights
    (0.4, 0.2, 0.3, 0.1), a cap of 30 s, 2 to 12 turns, a prompt with a median of 1,500 tokens,
    outputs of 60 and results of 150 (about 3,300 tokens of context in the end).
    """
    rng = np.random.default_rng(seed)
    return [_tool_session(rng, f"tools-{index:03d}") for index in range(n)]


def _tool_session(rng: np.random.Generator, session_id: str) -> WorkloadSession:
    pauses = int(rng.integers(1, 12))
    weights = [weight for _, weight, _ in _TOOLS]
    called = [_TOOLS[i] for i in rng.choice(len(_TOOLS), size=pauses, p=weights)]
    appends = [LogNormal(1500, 0.5).tokens(rng)]
    appends += [LogNormal(150, 0.8).tokens(rng) for _ in called]
    outputs = [LogNormal(60, 0.6).tokens(rng) for _ in range(pauses + 1)]
    seconds = [min(duration.draw(rng), _SHORT_TOOL_SECONDS) for _, _, duration in called]
    return _session(session_id, "tools", appends, outputs, seconds, [name for name, _, _ in called])
