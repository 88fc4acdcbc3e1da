"""Berkeley Function Calling Leaderboard v4 as suites of known answers.

`parallel` and `live_parallel` have independent calls. `multi_turn_base` has conversations of
several turns; here a turn's calls are a step, and steps depend on each other. Calls are not
executed against the leaderboard's simulated systems: only how long they take matters here.
"""

import ast
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from caesura.cml.frames import JsonObject, JsonValue
from caesura.lab.bench.function_calling.cases import Case, CaseError, CaseSuite, KnownCall

PARALLEL = "bfcl-parallel"
MULTI_STEP = "bfcl-multi-step"
MULTI_STEP_PARALLEL = "bfcl-multi-step-parallel"
FIRST_TURNS = "bfcl-first-turns"
BFCL_SUITES = (PARALLEL, MULTI_STEP, MULTI_STEP_PARALLEL, FIRST_TURNS)

CHAINS_PER_CASE = 3
"""So many samples are merged for `bfcl-first-turns`, as AsyncLM did, and
`bfcl-multi-step-parallel`, which merges whole conversations instead of their first turns."""

_MERGED = (MULTI_STEP_PARALLEL, FIRST_TURNS)

_DOCUMENTS = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}
_JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array"}
_OTHER_TYPES = ("string", "integer", "number", "boolean", "array", "object")


class Dependencies(StrEnum):
    """What a call of a chain needs."""

    CALLS = "calls"  # the result of the call before: a chain is strictly sequential
    STEPS = "steps"  # all results of the step before; calls of one step are independent


class _Unusable(Exception):
    """Why a sample is skipped."""


def load_bfcl(
    name: str, data: Path, *, dependencies: Dependencies = Dependencies.CALLS, seed: int = 0
) -> CaseSuite:
    """Read one suite.

    Args:
        name: one of `BFCL_SUITES`.
        data: folder of the leaderboard's JSONL files.
        dependencies: within the chains of multi-step suites.
        seed: of which samples are merged, where some are.

    Raises:
        CaseError: a file is missing, or no case can be used.
    """
    skipped: Counter[str] = Counter()
    if name == PARALLEL:
        cases = [
            case
            for category in ("parallel", "live_parallel")
            for case in _usable(_samples(data, category), _parallel_case, skipped)
        ]
    else:
        documents = _Documents(data)

        def chain(sample: dict[str, Any], answer: list[Any]) -> Case:
            if name == FIRST_TURNS:
                sample, answer = {**sample, "question": sample["question"][:1]}, answer[:1]
            return _chain_case(sample, answer, documents, dependencies)

        cases = list(_usable(_samples(data, "multi_turn_base"), chain, skipped))
        if name in _MERGED:
            cases = _merged(cases, seed)
    if not cases:
        raise CaseError(f"{data} has no case of {name} that can be used: {dict(skipped)}")
    return CaseSuite(name, tuple(cases), skipped)


def _samples(data: Path, category: str) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    answers = {
        entry["id"]: entry["ground_truth"]
        for entry in _lines(data / f"BFCL_v4_{category}_answers.jsonl")
    }
    for sample in _lines(data / f"BFCL_v4_{category}.jsonl"):
        yield sample, answers.get(sample["id"], [])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaseError(f"{path}: is not UTF-8: {error.reason}") from error
    except OSError as error:
        raise CaseError(
            f"cannot read {path.name} in {path.parent}: {error.strerror}; --data is the folder of "
            "BFCL v4's JSONL files (docs/results/async.md)"
        ) from error
    # Not `splitlines`: texts may have line separators of their own.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise CaseError(f"{path}:{number}: is not JSON: {error}") from error


def _usable(
    samples: Iterator[tuple[dict[str, Any], list[Any]]],
    read: Callable[[dict[str, Any], list[Any]], Case],
    skipped: Counter[str],
) -> Iterator[Case]:
    for sample, answer in samples:
        try:
            yield read(sample, answer)
        except _Unusable as reason:
            skipped[str(reason)] += 1


def _parallel_case(sample: dict[str, Any], answer: list[Any]) -> Case:
    calls = []
    for entry in answer:
        if not isinstance(entry, dict) or len(entry) != 1:
            raise _Unusable("an answer is not one call")
        [(name, arguments)] = entry.items()
        calls.append(KnownCall(name, _first_accepted(arguments)))
    if not calls:
        raise _Unusable("no calls in the answer")
    definitions = [_definition(document) for document in sample["function"]]
    return Case(
        sample["id"],
        _question(sample),
        tuple(_called_first(definitions, calls)),
        tuple(calls),
    )


def _first_accepted(arguments: Mapping[str, list[JsonValue]]) -> JsonObject:
    """The first acceptable value of each argument; one that may be left out first is left out."""
    values = {name: accepted[0] for name, accepted in arguments.items() if accepted}
    return {name: _value(value) for name, value in values.items() if value != ""}


def _value(accepted: JsonValue) -> JsonValue:
    """A value; in objects each member has acceptable values of its own."""
    if isinstance(accepted, dict):
        return _first_accepted(
            {key: item if isinstance(item, list) else [item] for key, item in accepted.items()}
        )
    if isinstance(accepted, list):
        return [_value(item) for item in accepted]
    return accepted


def _chain_case(
    sample: dict[str, Any],
    answer: Sequence[Sequence[str]],
    documents: "_Documents",
    dependencies: Dependencies,
) -> Case:
    definitions = documents.of(sample["involved_classes"])
    calls: list[KnownCall] = []
    before: tuple[int, ...] = ()
    for step in answer:
        first = len(calls)
        for source in step:
            name, arguments = _parsed(source, definitions)
            calls.append(KnownCall(name, arguments, before))
            if dependencies is Dependencies.CALLS:
                before = (len(calls) - 1,)
        if dependencies is Dependencies.STEPS and step:
            before = tuple(range(first, len(calls)))
    if not calls:
        raise _Unusable("no calls in the answer")
    return Case(
        sample["id"],
        _question(sample),
        tuple(_called_first(list(definitions.values()), calls)),
        tuple(calls),
    )


def _parsed(source: str, definitions: Mapping[str, dict[str, Any]]) -> tuple[str, JsonObject]:
    """A call that is written as Python; positional arguments get the tool's names."""
    try:
        expression = ast.parse(source.strip(), mode="eval").body
        if not isinstance(expression, ast.Call):
            raise ValueError(source)
        name = ast.unparse(expression.func)
        parameters = definitions[name]["function"]["parameters"]["properties"]
        given = dict(zip(parameters, map(ast.literal_eval, expression.args), strict=False))
        named = {str(word.arg): ast.literal_eval(word.value) for word in expression.keywords}
        arguments: JsonObject = json.loads(json.dumps({**given, **named}, allow_nan=False))
    except (SyntaxError, ValueError, TypeError) as error:
        raise _Unusable("a call cannot be parsed") from error
    except KeyError as error:
        raise _Unusable("a tool is not documented") from error
    return name, arguments


def _merged(cases: Sequence[Case], seed: int) -> list[Case]:
    """Three chains to a case, drawn without replacement; chains do not depend on each other."""
    shuffled = list(cases)
    Random(seed).shuffle(shuffled)
    last = len(shuffled) - CHAINS_PER_CASE
    return [
        _merge(shuffled[first : first + CHAINS_PER_CASE])
        for first in range(0, last + 1, CHAINS_PER_CASE)
    ]


def _merge(group: Sequence[Case]) -> Case:
    calls: list[KnownCall] = []
    tools: dict[str, dict[str, Any]] = {}
    for case in group:
        first = len(calls)
        for call in case.calls:
            after = tuple(first + needed for needed in call.after)
            calls.append(KnownCall(call.name, call.arguments, after))
        tools |= {tool["function"]["name"]: tool for tool in case.tools}
    return Case(
        "+".join(case.id for case in group),
        "\n".join(case.question for case in group),
        tuple(_called_first(list(tools.values()), calls)),
        tuple(calls),
    )


def _question(sample: dict[str, Any]) -> str:
    return "\n".join(message["content"] for turn in sample["question"] for message in turn)


def _called_first(
    definitions: Sequence[dict[str, Any]], calls: Sequence[KnownCall]
) -> list[dict[str, Any]]:
    called = {call.name for call in calls}
    return sorted(definitions, key=lambda tool: tool["function"]["name"] not in called)


class _Documents:
    """The tools of the simulated systems of multi-turn samples."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "func_doc"
        self._of_class = cache(self._read)

    def of(self, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """OpenAI definitions by name."""
        return {name: tool for system in classes for name, tool in self._of_class(system).items()}

    def _read(self, system: str) -> dict[str, dict[str, Any]]:
        if system not in _DOCUMENTS:
            raise _Unusable("a system is not documented")
        documents = _lines(self._folder / f"{_DOCUMENTS[system]}.jsonl")
        return {document["name"]: _definition(document) for document in documents}


def _definition(document: dict[str, Any]) -> dict[str, Any]:
    """An OpenAI tool definition; the leaderboard's types are Python's."""
    return {
        "type": "function",
        "function": {
            "name": document["name"],
            "description": document["description"],
            "parameters": _schema(document["parameters"]),
        },
    }


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    converted = dict(schema)
    kind = _JSON_TYPES.get(schema.get("type", ""), schema.get("type"))
    converted.pop("type", None)
    if kind in _OTHER_TYPES:
        converted["type"] = kind
    if isinstance(schema.get("properties"), dict):
        converted["properties"] = {
            name: _schema(inner) for name, inner in schema["properties"].items()
        }
    if isinstance(schema.get("items"), dict):
        converted["items"] = _schema(schema["items"])
    return converted
