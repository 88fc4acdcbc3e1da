"""The waste of InferCept (Abhyankar et al., ICML 2024, arXiv 2402.01869): eqs (2), (4) and (5).

Waste is device KV memory times the time for which it produced nothing. All functions return
token-seconds (the bytes per token of the paper, `M`, cancel in every comparison). The paper's
symbols, and the names that they have here:

| symbol | name | meaning |
|---|---|---|
| `C` | `context_tokens` | context of the paused request that only it holds |
| `C_other` | `other_tokens` | context of the other requests that run |
| `T_int` | `pause_seconds` | duration of the interception |
| `T_fwd(x)` | `costs.forward_seconds(x)` | time of an iteration with `x` query tokens |
| `S` | `saturation_tokens` | query tokens beyond which iteration time grows linearly |
"""

from dataclasses import dataclass

from caesura.policy.costs import CostModel
from caesura.policy.types import Disposition


def preserve_waste(context_tokens: int, pause_seconds: float) -> float:
    """Keep on the device while nothing happens: `T_int * C`. Eq (2)."""
    return pause_seconds * context_tokens


def chunked_discard_waste(
    costs: CostModel, context_tokens: int, other_tokens: int, chunk_tokens: int
) -> float:
    """Drop, and compute again in `n = ceil(C / chunk)` chunks of even size:
    `T_fwd(C) * C / 2 + n * T_fwd(C / n) * C_other`. Eq (4).

    As published, every chunk is charged a whole iteration, its constant part included, as if
    the others had not run in it. So (4) exceeds the waste of one large recomputation, (1),
    where that constant dominates: with `T_fwd(x) = a * x + c`, when
    `(n - 1) * c * C_other > T_fwd(C) * C / 2`.
    """
    if context_tokens <= 0:
        return 0.0
    own = costs.forward_seconds(context_tokens) * context_tokens / 2
    chunks = _even_chunks(context_tokens, chunk_tokens)
    return own + other_tokens * sum(
        count * costs.forward_seconds(tokens) for count, tokens in chunks
    )


@dataclass(frozen=True, slots=True)
class LeastWaste:
    """The cheaper of keeping and dropping.

    Attributes:
        disposition: `PRESERVE` or `DISCARD`.
        token_seconds: what it wastes.
    """

    disposition: Disposition
    token_seconds: float


def least_waste(
    costs: CostModel,
    context_tokens: int,
    other_tokens: int,
    chunk_tokens: int,
    pause_seconds: float,
) -> LeastWaste:
    """The minimum of (2) and (4) for one request; ties preserve. Eq (5).

    Swapping is no term: within the limit it wastes nothing, so the limit is a resource, handed
    out to the requests that waste most by this measure.
    """
    preserve = preserve_waste(context_tokens, pause_seconds)
    discard = chunked_discard_waste(costs, context_tokens, other_tokens, chunk_tokens)
    if preserve <= discard:
        return LeastWaste(Disposition.PRESERVE, preserve)
    return LeastWaste(Disposition.DISCARD, discard)


def break_even_seconds(
    costs: CostModel, context_tokens: int, other_tokens: int, chunk_tokens: int
) -> float:
    """Length of a pause for which preserving (2) wastes as much as dropping in chunks (4).

    With `T_fwd(x) = a * x + c` this is about `C_other * (a + c / chunk) + T_fwd(C) / 2`: once a
    context fills some chunks, its length hardly matters. Zero for an empty context.
    """
    if context_tokens <= 0:
        return 0.0
    waste = chunked_discard_waste(costs, context_tokens, other_tokens, chunk_tokens)
    return waste / context_tokens


def chunk_tokens(saturation_tokens: int, running_query_tokens: int) -> int:
    """Tokens to compute again in one iteration: what running requests leave below saturation,
    `S - running query tokens`, and one at least.
    """
    return max(1, saturation_tokens - running_query_tokens)


def _even_chunks(context_tokens: int, chunk_tokens: int) -> tuple[tuple[int, int], ...]:
    """`ceil(C / chunk)` chunks that differ by one token at most, as (count, tokens) pairs."""
    count = -(-context_tokens // max(1, chunk_tokens))
    tokens, longer = divmod(context_tokens, count)
    return ((count - longer, tokens), (longer, tokens + 1))
