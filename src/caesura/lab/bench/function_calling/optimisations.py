"""What makes synchronous calls faster, each for itself: fused chains, cached results."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from caesura.cml import Call
from caesura.cml.frames import JsonValue
from caesura.lab.bench.function_calling.executions import signature
from caesura.lab.bench.function_calling.plans import TimedCall, issue_order

SEQUENCE = "sequence"
"""The tool that executes calls one after the other."""


def fused(calls: Sequence[TimedCall]) -> list[TimedCall]:
    """The same with each chain as one call, which takes as long as all of them.

    A chain goes on where a call needs one result only, and that result nobody else does. The
    model writes all of it at once, so this is for chains whose arguments it knows beforehand.
    """
    wanted = Counter(needed for call in calls for needed in call.after)
    chains: list[list[int]] = []
    chain_of: dict[int, int] = {}
    for place in issue_order(calls):
        after = calls[place].after
        if len(after) == 1 and wanted[after[0]] == 1:
            chain_of[place] = chain_of[after[0]]
            chains[chain_of[place]].append(place)
        else:
            chain_of[place] = len(chains)
            chains.append([place])
    return [
        _sequence(
            [calls[place] for place in chain],
            tuple(sorted({chain_of[needed] for needed in calls[chain[0]].after})),
        )
        for chain in chains
    ]


def _sequence(chain: Sequence[TimedCall], after: tuple[int, ...]) -> TimedCall:
    first, last = chain[0], chain[-1]
    if len(chain) == 1:
        return replace(first, after=after)
    steps: list[JsonValue] = [
        {"name": one.call.name, "arguments": one.call.arguments} for one in chain
    ]
    call = Call(first.call.id, SEQUENCE, {"calls": steps})
    return TimedCall(call, after, sum(one.seconds for one in chain), last.result)


def cached(calls: Sequence[TimedCall]) -> list[TimedCall]:
    """The same with no time for a call that was made before: its result is known.

    The most that a cache can give: it takes all tools for pure.
    """
    seen = set()
    found = list(calls)
    for place in issue_order(calls):
        made = signature(calls[place].call)
        if made in seen:
            found[place] = replace(calls[place], seconds=0.0)
        seen.add(made)
    return found
