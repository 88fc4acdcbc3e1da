"""What theory promises for asynchronous function calling on BFCL, by decode speed.

No engine: the bounds of `caesura bench calls` for the known answers of BFCL v4, with the tokens
that the bench model's tokenizer gives them and an assumed time per token.

    python benchmarks/async_bounds.py DATA [--cases 200] [--json OUT]
"""

import argparse
import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from caesura.cml import Mode
from caesura.lab.bench.function_calling.bfcl import BFCL_SUITES, Dependencies, load_bfcl
from caesura.lab.bench.function_calling.cases import CaseSuite
from caesura.lab.bench.function_calling.latencies import parse_latency
from caesura.lab.bench.function_calling.latency_theory import CallTimes, bound_seconds
from caesura.lab.bench.function_calling.plans import CallTokens, IssueOrder, TimedCall, timed_calls
from caesura.lab.bench.function_calling.suites import chosen_cases
from caesura.lab.models.bench_tokenizer import save_tokenizer

TOKEN_MILLISECONDS = (1, 2, 3, 5, 7, 10, 20)
LATENCIES = ("typical", "uniform:0.03:0.5", "longtail")


def issue_order(known: list[TimedCall], generation: list[float]) -> list[int]:
    """Indices in the order in which a model writes the calls that prefers the first that it can."""
    order: list[int] = []
    results: dict[int, float] = {}
    now = 0.0
    while len(order) < len(known):
        ready = [
            index
            for index in range(len(known))
            if index not in order
            and all(results.get(n, now + 1) <= now for n in known[index].after)
        ]
        if ready:
            now += generation[ready[0]]  # known calls come in the preferred order
            results[ready[0]] = now + known[ready[0]].seconds
            order.append(ready[0])
        else:
            now = min(at for at in results.values() if at > now)
    return order


def ratios(
    suite: CaseSuite, tokens: CallTokens, latency: str, token_seconds: float, cases: int
) -> dict[str, float]:
    """Mean ratios over the cases of bounds to that of `async`, longest call first."""
    found: dict[str, list[float]] = {Mode.SYNC: [], Mode.SYNC_PARALLEL: [], IssueOrder.RANDOM: []}
    for case in chosen_cases(suite, cases, 0):
        calls, shuffled = (
            issued(timed_calls(case, parse_latency(latency), 0, order), tokens, token_seconds)
            for order in IssueOrder
        )
        best = bound_seconds(Mode.ASYNC, calls)
        for mode in (Mode.SYNC, Mode.SYNC_PARALLEL):
            found[mode].append(bound_seconds(mode, calls) / best)
        found[IssueOrder.RANDOM].append(bound_seconds(Mode.ASYNC, shuffled) / best)
    return {name: statistics.fmean(values) for name, values in found.items()}


def issued(known: list[TimedCall], tokens: CallTokens, token_seconds: float) -> list[CallTimes]:
    """The calls as a model issues them that takes so long per token."""
    generation = [token_seconds * len(tokens.call(one.call)) for one in known]
    order = issue_order(known, generation)
    place = {index: position for position, index in enumerate(order)}
    return [
        CallTimes(
            generation[index],
            known[index].seconds,
            tuple(place[needed] for needed in known[index].after),
        )
        for index in order
    ]


def main() -> None:
    """Print a table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    with TemporaryDirectory() as folder:
        save_tokenizer(Path(folder), 8192)
        tokens = CallTokens(Path(folder), end_of_sequence=2)
        for name in BFCL_SUITES:
            for dependencies in Dependencies:
                if name == "bfcl-parallel" and dependencies is Dependencies.STEPS:
                    continue
                suite = load_bfcl(name, arguments.data, dependencies=dependencies)
                for latency in LATENCIES:
                    for milliseconds in TOKEN_MILLISECONDS:
                        found = ratios(suite, tokens, latency, milliseconds / 1000, arguments.cases)
                        rows.append([name, dependencies.value, latency, milliseconds, found])
                    shown = [
                        "/".join(f"{ratio:.2f}" for ratio in row[4].values())
                        for row in rows[-len(TOKEN_MILLISECONDS) :]
                    ]
                    print(f"| {name} | {dependencies} | {latency} | {' | '.join(shown)} |")
    if arguments.json is not None:
        names = ("suite", "dependencies", "latency", "token_ms", "over_async")
        text = json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=1)
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
