import json
from pathlib import Path
from typing import Any

import pytest

from caesura.lab.bench.function_calling.bfcl import (
    FIRST_TURNS,
    MULTI_STEP,
    MULTI_STEP_PARALLEL,
    PARALLEL,
    Dependencies,
    load_bfcl,
)
from caesura.lab.bench.function_calling.cases import CaseError

WEATHER = {
    "name": "weather.now",
    "description": "Tells the weather.",
    "parameters": {
        "type": "dict",
        "properties": {"city": {"type": "string"}, "place": {"type": "dict"}, "x": {"type": "any"}},
        "required": ["city"],
    },
}
FILES = ["cd", "ls", "sort"]


def write(path: Path, entries: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def samples(data: Path, category: str, entries: dict[str, tuple[dict[str, Any], Any]]) -> None:
    write(
        data / f"BFCL_v4_{category}.jsonl",
        [
            {"id": name, "question": [[{"role": "user", "content": f"do {name}"}]], **sample}
            for name, (sample, _) in entries.items()
        ],
    )
    write(
        data / f"BFCL_v4_{category}_answers.jsonl",
        [{"id": name, "ground_truth": answer} for name, (_, answer) in entries.items()],
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    files = {"involved_classes": ["GorillaFileSystem"]}
    samples(
        tmp_path,
        "multi_turn_base",
        {
            "m0": (files, [["cd(folder='a')", "ls(a=True)"], ["sort('x.txt')"]]),
            "m1": (files, [["cd('b')"], [], ["ls()", "sort(file_name='y')"], ["ls()"]]),
            "m2": (files, [["cd(folder='c')"]]),
            "m3": (files, [["cd(folder='d')"], ["ls()"]]),
            "computed": (files, [["cd(folder=name + '/x')"]]),
            "unknown": (files, [["rm(file='x')"]]),
            "elsewhere": ({"involved_classes": ["SpaceAPI"]}, [["cd(folder='a')"]]),
            "nothing": (files, [[]]),
        },
    )
    documents = [
        {
            "name": name,
            "description": name,
            "parameters": {
                "type": "dict",
                "properties": {
                    "cd": {"folder": {"type": "string"}},
                    "ls": {"a": {"type": "boolean"}},
                    "sort": {"file_name": {"type": "string"}},
                }[name],
            },
        }
        for name in ("sort", "ls", "cd")
    ]
    write(tmp_path / "func_doc" / "gorilla_file_system.jsonl", documents)
    samples(
        tmp_path,
        "parallel",
        {
            "p0": (
                {"function": [WEATHER]},
                [
                    {"weather.now": {"city": ["Oslo", "oslo"], "place": ["", {"a": [1]}]}},
                    {
                        "weather.now": {
                            "city": ["Bergen"],
                            "place": [{"lat": [60.4, 60], "n": [""]}],
                        }
                    },
                ],
            ),
            "empty": ({"function": [WEATHER]}, []),
        },
    )
    samples(
        tmp_path,
        "live_parallel",
        {"l0": ({"function": [WEATHER]}, [{"weather.now": {"city": ["Rome"], "x": [[[1, 2]]]}}])},
    )
    return tmp_path


def test_first_acceptable_values_are_taken_and_what_may_be_left_out_is(data: Path) -> None:
    suite = load_bfcl(PARALLEL, data)
    assert [case.id for case in suite.cases] == ["p0", "l0"]
    oslo, bergen = suite.cases[0].calls
    assert (oslo.name, oslo.arguments) == ("weather.now", {"city": "Oslo"})
    assert bergen.arguments == {"city": "Bergen", "place": {"lat": 60.4}}
    assert suite.cases[1].calls[0].arguments == {"city": "Rome", "x": [[1, 2]]}
    assert all(call.after == () for case in suite.cases for call in case.calls)
    assert suite.cases[0].question == "do p0"


def test_what_cannot_be_used_is_counted(data: Path) -> None:
    assert load_bfcl(PARALLEL, data).skipped == {"no calls in the answer": 1}
    assert load_bfcl(MULTI_STEP, data).skipped == {
        "a call cannot be parsed": 1,
        "a tool is not documented": 1,
        "a system is not documented": 1,
        "no calls in the answer": 1,
    }


def test_types_of_definitions_are_those_of_json_schema(data: Path) -> None:
    [tool] = load_bfcl(PARALLEL, data).cases[0].tools
    parameters = tool["function"]["parameters"]
    assert parameters["type"] == parameters["properties"]["place"]["type"] == "object"
    assert "type" not in parameters["properties"]["x"]


def test_positional_arguments_get_names(data: Path) -> None:
    first, second, *_ = load_bfcl(MULTI_STEP, data).cases
    assert first.calls[2].arguments == {"file_name": "x.txt"}
    assert second.calls[0].arguments == {"folder": "b"}


def test_each_call_of_a_chain_needs_the_one_before(data: Path) -> None:
    second = load_bfcl(MULTI_STEP, data, dependencies=Dependencies.CALLS).cases[1]
    assert [call.after for call in second.calls] == [(), (0,), (1,), (2,)]


def test_calls_of_a_step_need_all_of_the_step_before(data: Path) -> None:
    second = load_bfcl(MULTI_STEP, data, dependencies=Dependencies.STEPS).cases[1]
    assert [call.after for call in second.calls] == [(), (0,), (0,), (1, 2)]


def test_three_chains_are_merged_and_do_not_depend_on_each_other(data: Path) -> None:
    [case] = load_bfcl(MULTI_STEP_PARALLEL, data, seed=3).cases
    chains = case.id.split("+")
    lengths = {"m0": 3, "m1": 4, "m2": 1, "m3": 2}
    expected: list[tuple[int, ...]] = []
    for chain in chains:
        first = len(expected)
        expected += [() if place == 0 else (first + place - 1,) for place in range(lengths[chain])]
    assert len(set(chains)) == 3
    assert [call.after for call in case.calls] == expected
    assert len({tool["function"]["name"] for tool in case.tools}) == len(case.tools) == len(FILES)


def test_of_first_turns_neither_later_calls_nor_later_questions_are_taken(data: Path) -> None:
    path = data / "BFCL_v4_multi_turn_base.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    for entry in entries:
        entry["question"].append([{"role": "user", "content": "and then"}])
    write(path, entries)
    [case] = load_bfcl(FIRST_TURNS, data, seed=3).cases
    chains = case.id.split("+")
    first_turns = {"m0": ["cd", "ls"], "m1": ["cd"], "m2": ["cd"], "m3": ["cd"]}
    assert [call.name for call in case.calls] == [n for chain in chains for n in first_turns[chain]]
    assert case.question == "\n".join(f"do {chain}" for chain in chains)


def test_tools_that_are_called_come_first(data: Path) -> None:
    last = load_bfcl(MULTI_STEP, data).cases[2]
    assert [tool["function"]["name"] for tool in last.tools] == ["cd", "sort", "ls"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"BFCL_v4_parallel_answers\.jsonl.*--data"):
        load_bfcl(PARALLEL, tmp_path)


def test_a_line_that_is_cut_is_named(tmp_path: Path) -> None:
    file = tmp_path / "BFCL_v4_parallel_answers.jsonl"
    file.write_text('\ufeff{"id": "a\u2028b", "ground_truth": []}\n{"id": "c"', "utf-8")
    (tmp_path / "BFCL_v4_parallel.jsonl").write_text("", "utf-8")
    with pytest.raises(CaseError, match=r"BFCL_v4_parallel_answers\.jsonl:2: is not JSON"):
        load_bfcl(PARALLEL, tmp_path)
