"""Options are the fields of settings: all of them, under their names, with their checks."""

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from caesura.cli.commands import application
from caesura.cli.main import main
from caesura.cli.options import command_line, shown_default
from caesura.cml import Mode
from caesura.engine.config import CaesuraConfig, KeepContexts
from caesura.lab.bench.function_calling.plans import IssueOrder
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.http.settings import HttpSettings
from caesura.lab.bench.settings import BenchSettings
from caesura.lab.calibrate.settings import CalibrationSettings, LoadCalibrationOptions
from caesura.lab.sim.call_settings import CallSimulationSettings
from caesura.lab.sim.devices import simulated_device
from caesura.lab.sim.settings import SimulationSettings
from caesura.lab.train.settings import EvaluationOptions, TrainingSettings
from caesura.lab.train.tuning.settings import TuningOptions
from support.cli.command_pages import options_of


@pytest.mark.parametrize(
    ("command", "settings", "set_otherwise"),
    [
        ("serve", CaesuraConfig, {"tool_call_parser"}),  # vLLM's flag
        ("bench", BenchSettings, {"reserved_token_ids"}),
        ("bench calls", FunctionCallingSettings, set()),
        (
            "bench http",
            HttpSettings,
            {
                "policy_options",
                "kv_memory_bytes",
                "host_memory_bytes",
                "shared_prefix_tokens",
                "trace_path",
            },
        ),
        ("simulate", SimulationSettings, set()),
        (
            "simulate calls",
            CallSimulationSettings,
            {"model", "dtype", "threads", "kv_memory_bytes"},
        ),
        ("calibrate", CalibrationSettings, set()),
        ("calibrate trace", LoadCalibrationOptions, set()),
        ("train", TuningOptions, set()),
        ("train evaluate", EvaluationOptions, set()),
        ("train demo", TrainingSettings, {"seconds"}),  # --minutes
    ],
)
def test_every_setting_is_an_option(
    command: str, settings: type[BaseModel], set_otherwise: set[str]
) -> None:
    has_option = {option.keys[-1] for option in options_of(*command.split()) if option.keys}
    assert set(settings.model_fields) - has_option == set_otherwise


@pytest.mark.parametrize(
    ("command", "field", "names"),
    [
        ("bench", "kv_memory_bytes", ("--kv-memory",)),
        ("bench", "rates", ("--rates", "--rate")),
        ("bench", "policy_options", ("--policy-option",)),
        ("bench", "json_path", ("--json",)),
        ("bench", "output_dir", ("--out",)),
        ("bench", "trace_path", ("--trace",)),
        ("bench", "time_limit_seconds", ("--time-limit",)),
        ("simulate", "link_bytes_per_second", ("--link",)),
        ("simulate", "max_context_tokens", ("--max-context",)),
        ("simulate", "max_batched_tokens", ("--max-batched-tokens",)),
        ("train", "lora", ("--lora", "--full")),
        ("train", "evaluate_cases", ("--cases",)),
        ("serve", "config_file", ("--config",)),
    ],
)
def test_options_are_named_without_units(command: str, field: str, names: tuple[str, ...]) -> None:
    (option,) = [option for option in options_of(command) if option.keys[-1:] == (field,)]
    assert option.names == names


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (False, None),
        ((), None),
        ({}, None),
        (0, "0"),
        (2048, "2048"),
        (20_000, "20000"),
        (32 * 2**20, "32MiB"),
        (8 * 10**9, "8GB"),
        (5.0, "5"),
        (0.006, "0.006"),
        ((0, 1, 2), "0,1,2"),
        ((IssueOrder.LONGEST_FIRST,), "longest-first"),
        (tuple(Mode), "sync,sync_parallel,async"),
        (KeepContexts.AUTO, "auto"),
        (Path("out/demo"), "out/demo"),
    ],
)
def test_defaults_are_shown_as_they_would_be_typed(value: Any, text: str | None) -> None:
    assert shown_default(value) == text


def settings_of(*words: str) -> Any:
    """What the options of a command line come to."""
    _, bound, _ = application(words).parse_args(words, exit_on_error=False, print_error=False)
    return bound.arguments.get("settings", bound.arguments.get("options"))


def test_options_are_read_as_people_write_them() -> None:
    assert settings_of(
        "bench", "--policies", "stock, swap", "--rate", "1,2.5", "--seeds=3", "--kv-memory",
        "64MiB", "--policy-option.ttl_seconds=5", "--policy-option.served_by=arrival", "--model",
        "demo", "--out", "out", "--dtype", "bfloat16",
    ) == BenchSettings(
        policies=("stock", "swap"),
        rates=(1.0, 2.5),
        seeds=(3,),
        kv_memory_bytes=64 * 2**20,
        policy_options={"ttl_seconds": 5.0, "served_by": "arrival"},
        model=None,
        output_dir=Path("out"),
        dtype="bfloat16",
    )  # fmt: skip


def test_the_last_of_several_values_counts() -> None:
    assert settings_of("bench", "--sessions", "3", "--dtype", "a", "--sessions", "4").sessions == 4


def test_a_fine_tuning_has_the_usual_rate_of_what_it_trains() -> None:
    assert TuningOptions().learning_rate == 2e-4
    assert settings_of("train", "base", "--full").learning_rate == 2e-5
    assert settings_of("train", "base", "--full", "--learning-rate", "0.1").learning_rate == 0.1


def test_a_simulation_takes_from_the_device_what_was_not_given() -> None:
    given = settings_of("simulate", "--device", "h100-80gb", "--link", "25GB/s")
    assert given.link_bytes_per_second == 25 * 10**9
    device = simulated_device(given.device, given.model, given.tensor_parallel)
    whole = given.on(device)
    assert (whole.model, whole.tensor_parallel) == ("gpt-j-6b", 1)
    assert whole.kv_memory_bytes == device.kv_memory_bytes()
    small = settings_of("simulate", "--kv-memory", "1GB").on(device)
    assert small.kv_memory_bytes == 10**9


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("bench --rate x", "--rates x: Input should be a valid number"),
        ("bench --sessions 0", "--sessions 0: Input should be greater than 0"),
        ("bench --policies a,a", "--policies: a value is there twice"),
        ("bench --kv-memory 8G", "'G' in '8G' is not a unit of memory"),
        ("bench calls --suite tau", "there is no suite 'tau'"),
        ("bench calls --latency slow", "'slow' is no distribution of execution times"),
        ("simulate --warmup 200", "a warm-up of 200 s leaves nothing of a horizon"),
        ("simulate --policy-option x=1", "no policy of this simulation has an option 'x'"),
        ("simulate --policy-option x", "'x' is not of the form NAME=NUMBER"),
        ("serve --policy swap", "policy 'swap' needs host memory"),
        ("serve --max-pauses 0", "--max-pauses 0: Input should be greater than or equal to 1"),
        ("bench --polices swap", "Unknown option: --polices. Did you mean --policies?"),
        ("bnch", 'Unknown command "bnch". Did you mean "bench"?'),
        ("train", "parameter BASE requires an argument"),
    ],
)
def test_what_does_not_fit_is_one_line_on_stderr(
    words: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["caesura", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.err.startswith("error: ")
    assert reason in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out


def test_servers_are_given_one_by_one_or_with_commas() -> None:
    urls = ("http://a:1", "http://b:2/v1")
    for words in (("--base-url", urls[0], "--base-url", urls[1]), ("--base-url", ",".join(urls))):
        settings = settings_of("bench", "http", *words, "--names", "x,y", "--session-ids")
        assert (settings.base_urls, settings.policies) == (urls, ("x", "y"))
        assert settings.session_ids
    assert settings_of("bench", "http", "--base-url", urls[0]).policies == ("a:1",)


def test_a_command_line_is_shown_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["caesura", "bench", "--api-key", "s3cret", "--api_key=s3cret", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", typed)
    assert command_line() == "caesura bench --api-key ... --api_key=... --seeds 1"
