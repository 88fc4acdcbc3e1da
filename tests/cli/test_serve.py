"""`caesura serve` before it starts: its model and flags, the parser for CML, memory, the demo."""

import json
import logging
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import httpx
import pytest

from caesura.bundled import CML_MODEL
from caesura.bundled.world import World
from caesura.cli.commands import application
from caesura.cli.demo_server import SEED, demo_flags, demo_tools, hint, with_host_memory
from caesura.cli.serve import access_flags
from caesura.engine.config import CaesuraConfig
from caesura.engine.serving.doctor import Verdict, examine
from caesura.engine.serving.memory import check_memory, device_memory, usual_share
from caesura.engine.serving.serve import (
    argument_value,
    grammars_for_cml,
    knows_cml,
    named_model,
    parser_for_cml,
    require_one_api_process,
    server_command,
)
from caesura.errors import ConfigurationError
from caesura.server.settings import ServerSettings
from caesura.tools.configuration import load_configuration
from caesura.tools.settings import HttpTool
from support.cli.command_pages import options_of
from support.cli.vllm_flags import vllm_parser
from support.forks import run_forked
from support.models.structures import FULL, RECURRENT, Structure

WITH_TOOLS = CaesuraConfig(config_file=Path("caesura.toml"))
MODEL = str(CML_MODEL)


def bound(*words: str) -> tuple[tuple[str, ...], CaesuraConfig]:
    """What is passed on to vLLM, and Caesura's options."""
    line = ("serve", *words)
    _, found, _ = application(line).parse_args(line, exit_on_error=False, print_error=False)
    return found.args, found.kwargs.get("options", CaesuraConfig())


def test_flags_that_are_not_ours_are_passed_on_as_they_are() -> None:
    arguments, config = bound(
        "model", "--policy", "ttl", "-tp", "2", "--enable-auto-tool-choice", "--seed", "-1",
        "--host-memory", "1GiB", "--additional-config", '{"a": 1}', "--no-enable-prefix-caching",
        "--compilation-config.mode=3", "--policy-option.ttl_seconds=5", "--port=80",
    )  # fmt: skip
    assert arguments == (
        "model", "-tp", "2", "--enable-auto-tool-choice", "--seed", "-1", "--additional-config",
        '{"a": 1}', "--no-enable-prefix-caching", "--compilation-config.mode=3", "--port=80",
    )  # fmt: skip
    assert config.policy == "ttl"
    assert config.policy_options == {"ttl_seconds": 5.0}
    assert config.host_memory == 2**30


def test_no_option_takes_the_name_of_one_of_vllms() -> None:
    theirs = vllm_parser()._option_string_actions
    ours = {name for option in options_of("serve") for name in option.names}
    assert ours & set(theirs) == {"--config"}  # a YAML file is theirs


def test_a_model_that_knows_cml_gets_its_parser(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert knows_cml(MODEL, [])
    flags = parser_for_cml(MODEL, WITH_TOOLS, [])
    assert flags == ["--enable-auto-tool-choice", "--tool-call-parser", "caesura_cml"]
    assert "--tool-call-parser caesura_cml" in caplog.text
    command = server_command(MODEL, WITH_TOOLS, flags, on_cpu=False)
    assert argument_value(command, "--tool-parser-plugin")
    flags = parser_for_cml(MODEL, WITH_TOOLS, ["--enable-auto-tool-choice"])
    assert flags == ["--tool-call-parser", "caesura_cml"]
    assert parser_for_cml(MODEL, WITH_TOOLS, ["--tool-call-parser", "caesura_cml"]) == []


def test_one_backend_makes_the_grammars_of_calls_and_of_clients(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """An engine has one; with `auto` the first request would choose it for all others."""
    flags = grammars_for_cml(["--seed", "1"])
    parsed = vllm_parser().parse_args(
        [*flags, "--structured-outputs-config.disable_any_whitespace=true"]
    )
    assert parsed.structured_outputs_config.backend == "guidance"
    for chosen in (
        ["--structured-outputs-config.backend", "guidance"],
        ["--structured_outputs_config", '{"backend": "guidance"}'],
    ):
        assert grammars_for_cml(chosen) == []
    assert not caplog.text
    (file := tmp_path / "vllm.yaml").write_text("structured-outputs-config:\n  backend: xgrammar\n")
    for others in (
        ["--structured-outputs-config.backend=xgrammar"],
        ["--structured-outputs-config", '{"disable_any_whitespace": true}'],
        ["--config", str(file)],
    ):
        caplog.clear()
        assert grammars_for_cml(others) == []
        assert "calls in CML need grammars of guidance" in caplog.text


def test_a_plug_in_does_not_push_out_the_parser_that_is_named(tmp_path: Path) -> None:
    own = ["--tool-parser-plugin", "mine.py"]
    for parser in ("mine", "hermes"):
        command = server_command(
            MODEL, WITH_TOOLS, ["--tool-call-parser", parser, *own], on_cpu=False
        )
        assert argument_value(command, "--tool-parser-plugin") == "mine.py"
        assert command.count("--tool-parser-plugin") == 1
    (file := tmp_path / "vllm.yaml").write_text("tool-parser-plugin: mine.py\n")
    for given in (own, ["--config", str(file)]):
        with pytest.raises(ConfigurationError, match=r"mine\.py would take the place"):
            server_command(
                MODEL, WITH_TOOLS, ["--tool-call-parser", "caesura_cml", *given], on_cpu=False
            )


@pytest.mark.parametrize(
    ("arguments", "share"),
    [
        ([], 8),
        (["--data-parallel-size", "2"], 4),
        (["--data-parallel-size=4", "--data-parallel-size-local=2"], 4),
        (["-dp", "8"], 1),
        (["--data-parallel-size", "nonsense"], 8),
        (["--data-parallel-size-local", "0"], 8),
    ],
)
def test_engines_on_one_machine_share_the_host_memory(arguments: list[str], share: int) -> None:
    config = CaesuraConfig(host_memory=8 * 2**30)
    command = server_command("x", config, arguments, on_cpu=False)
    section = json.loads(argument_value(command, "--additional-config") or "")["caesura"]
    assert section["host_memory"] == share * 2**30


def test_there_is_one_api_process_however_many_engines() -> None:
    def count(given: int | None, *, headless: bool = False) -> int | None:
        parsed = Namespace(api_server_count=given, headless=headless)
        require_one_api_process(parsed)
        return parsed.api_server_count

    assert (count(None), count(1), count(0)) == (1, 1, 0)
    assert count(None, headless=True) is None, "another machine's engines have none"
    with pytest.raises(ConfigurationError, match="--api-server-count 4 is not possible"):
        count(4)


def test_another_connector_is_asked_for_what_ours_does_not_have() -> None:
    def connectors(config: dict[str, object]) -> dict[str, Any]:
        given = ["--kv-transfer-config", json.dumps(config)]
        command = server_command("model", CaesuraConfig(), given, on_cpu=False)
        return json.loads(argument_value(command, "--kv-transfer-config") or "")

    other = {"kv_connector": "LMCacheMPConnector", "kv_role": "kv_both"}
    assert connectors(other)["kv_connector"] == "MultiConnector"
    own, beside = connectors(other)["kv_connector_extra_config"]["connectors"]
    assert (own["kv_connector"], beside) == ("CaesuraConnector", other)
    several = {
        "kv_connector": "MultiConnector",
        "kv_role": "kv_producer",
        "kv_connector_extra_config": {"connectors": [other, other]},
    }
    found = connectors(several)
    assert found["kv_role"] == "kv_producer"
    assert found["kv_connector_extra_config"]["connectors"][1:] == [other, other]
    assert found["kv_load_failure_policy"] == "recompute"
    with pytest.raises(ConfigurationError, match="--kv-transfer-config must be a JSON object"):
        server_command("model", CaesuraConfig(), ["--kv-transfer-config", "[]"], on_cpu=False)


def test_another_parser_is_warned_of(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    assert parser_for_cml(MODEL, WITH_TOOLS, ["--tool-call-parser=hermes"]) == []
    assert "--tool-call-parser hermes does not read: clients will see markers" in caplog.text
    assert "has none" not in caplog.text
    caplog.clear()
    (file := tmp_path / "vllm.yaml").write_text("tool-call-parser: hermes\nport: 80\n")
    assert parser_for_cml(MODEL, WITH_TOOLS, ["--config", str(file)]) == []
    assert "--tool-call-parser hermes does not read" in caplog.text
    with pytest.raises(ConfigurationError, match=r"none\.yaml cannot be read"):
        parser_for_cml(MODEL, WITH_TOOLS, ["--config", str(tmp_path / "none.yaml")])


def test_a_server_without_tools_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    parser_for_cml(MODEL, CaesuraConfig(), [])
    assert "this server has none: its sessions can call nothing" in caplog.text


def test_another_tokenizer_counts(model_path: str) -> None:
    assert not knows_cml(MODEL, ["--tokenizer", model_path])
    assert knows_cml(model_path, ["--tokenizer", MODEL])


def arguments(share: float, kv_cache_memory_bytes: int | None = None) -> Namespace:
    return Namespace(gpu_memory_utilization=share, kv_cache_memory_bytes=kv_cache_memory_bytes)


def test_memory_that_is_not_free_is_said_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    with pytest.raises(ConfigurationError, match="vLLM wants 100% of the") as refused:
        check_memory(arguments(1.0))
    for flag in ("--kv-cache-memory-bytes", "--gpu-memory-utilization"):
        assert flag in str(refused.value)
    check_memory(arguments(0.01))
    check_memory(arguments(1.0, kv_cache_memory_bytes=2**20))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    check_memory(arguments(1.0))


def test_a_start_that_would_fail_ends_with_what_to_do_and_what_was_odd() -> None:
    flags = ["--gpu-memory-utilization", "1", "--tool-call-parser", "hermes"]
    flags += ["--enable-auto-tool-choice"]
    variables = {name: value for name, value in os.environ.items() if "KVCACHE" not in name}
    done = run_forked("caesura", "serve", MODEL, *flags, environment=variables)
    assert done.returncode == 2
    assert "clients will see markers" in done.stdout
    assert "this server has none" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "EngineCore" not in done.stdout + done.stderr, "nothing was started"
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: vLLM wants 100% of the memory")


@pytest.mark.parametrize(
    ("structure", "architecture", "flag", "reason"),
    [
        (RECURRENT, "Qwen3NextForCausalLM", "--enforce-eager", "has recurrent layers"),
        (FULL, "Qwen3ForCausalLM", "--pipeline-parallel-size=2", "Pipeline parallelism is not"),
    ],
    ids=["model", "setting"],
)
def test_what_cannot_be_paused_is_refused_without_the_weights(
    tmp_path: Path, structure: Structure, architecture: str, flag: str, reason: str
) -> None:
    config = {**structure.configuration().to_dict(), "architectures": [architecture]}
    (tmp_path / "config.json").write_text(json.dumps(config, default=str))
    usual = ("--kv-cache-memory-bytes", "64M", "--skip-tokenizer-init")
    done = run_forked("caesura", "serve", str(tmp_path), *usual, flag)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: ")
    assert reason in last


def test_the_doctor_looks_at_the_same_memory() -> None:
    memory = device_memory()
    assert memory is not None
    findings = [finding for finding in examine() if finding.topic == "Memory"]
    assert f"{usual_share():.0%} of {memory.name}" in findings[-1].text
    would_start = findings[-1].verdict is Verdict.GOOD
    assert would_start != ("--kv-cache-memory-bytes" in findings[-1].text)


def test_the_demo_brings_its_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with demo_tools(["--port", "81"]) as configuration:
        assert configuration == tmp_path / "caesura" / "demo-81" / "caesura.toml"
        settings = load_configuration(configuration, form=ServerSettings).settings
        assert set(settings.tools) == {"owner", "phone", "stock", "price"}
        assert set(settings.mcp) == {"orders"}
        assert settings.sessions.function_calling == "async"
        tool = settings.tools["owner"]
        assert isinstance(tool, HttpTool)
        owner = str(tool.url).replace("{item}", "K4821")
        assert httpx.get(owner).text == World(SEED).value("owner", "K4821")
    with pytest.raises(httpx.TransportError):
        httpx.get(owner)


def test_the_demo_needs_no_home_of_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(file))  # no folder can be made there
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with demo_tools([]) as configuration:
        assert configuration.parent.name.startswith("caesura-demo-")
        assert configuration.parent.parent == tmp_path


def test_the_demo_starts_on_a_small_machine() -> None:
    flags = demo_flags([])
    assert int(argument_value(flags, "--kv-cache-memory-bytes") or 0) <= 2**28
    assert argument_value(flags, "--served-model-name") == "demo"
    assert "--enforce-eager" in flags


def test_the_demo_leaves_what_the_user_chose() -> None:
    chosen = ["--dtype=bfloat16", "--served-model-name", "mine", "--no-enforce-eager"]
    flags = demo_flags([*chosen, "--kv_cache_memory_bytes", "1G"])
    assert flags == ["--override-generation-config", '{"temperature": 0}']


def test_a_model_is_named_first_or_in_vllms_ways(tmp_path: Path) -> None:
    assert named_model(["--port", "80"]) is None
    assert named_model(["--port", "80", "--model", "some/model"]) == "some/model"
    (file := tmp_path / "vllm.yaml").write_text("model: other/model\n")
    assert named_model([f"--config={file}"]) == "other/model"


def test_the_hint_has_the_right_answer() -> None:
    answer = World(SEED).value("stock", "K4821")
    assert f"What is the stock of K4821?   (the answer is {answer})" in hint()


@pytest.mark.parametrize(("given", "host_memory"), [((), 128 * 2**20), (("--host-memory", "0"), 0)])
def test_the_demo_has_host_memory_unless_it_is_switched_off(
    given: tuple[str, ...], host_memory: int
) -> None:
    _, config = bound("demo", *given)
    assert with_host_memory(config).host_memory == host_memory


KEYLESS = ["--disable-fastapi-docs", "--host", "127.0.0.1"]


@pytest.mark.parametrize(
    ("flags", "added"),
    [
        ((), KEYLESS),
        (("--port", "80"), KEYLESS),
        (("--host", "127.0.0.1"), KEYLESS[:1]),
        (("--uds", "/run/x.sock"), KEYLESS[:1]),
        (("--api-key", "a", "b"), KEYLESS[:1]),
        (("--api-key=a", "--host", "0.0.0.0"), KEYLESS[:1]),
        (("--api_key", "a"), KEYLESS[:1]),
        (("--disable-fastapi-docs", "--api-key", "a"), []),
    ],
)
def test_without_a_key_it_listens_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], added: list[str]
) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    assert access_flags(CaesuraConfig(), flags, is_demo=True) == added


def test_a_key_in_the_environment_or_in_vllms_file_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (file := tmp_path / "vllm.yaml").write_text("api-key: secret\nhost: 0.0.0.0\n")
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    assert access_flags(CaesuraConfig(), ["--config", str(file)], is_demo=True) == KEYLESS[:1]
    file.write_text("host: 0.0.0.0\n")
    with pytest.raises(ConfigurationError, match=r"anyone who reaches 0\.0\.0\.0"):
        access_flags(CaesuraConfig(), ["--config", str(file)], is_demo=True)
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    assert access_flags(CaesuraConfig(), ["--config", str(file)], is_demo=True) == KEYLESS[:1]


def test_the_apis_documentation_may_be_served() -> None:
    assert access_flags(CaesuraConfig(api_docs=True), ["--api-key", "a"], is_demo=True) == []


def test_tools_on_a_network_need_a_key_or_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    everywhere = ["--host", "0.0.0.0"]
    insecure = CaesuraConfig(insecure_no_key=True)
    assert access_flags(insecure, everywhere, is_demo=True) == KEYLESS[:1]
    assert access_flags(CaesuraConfig(), everywhere, is_demo=False) == KEYLESS[:1]
    (file := tmp_path / "caesura.toml").write_text('[tools.ask]\ntype = "human"\n')
    for command in (["serve", *everywhere], ["serve", "x", *everywhere, "--config", str(file)]):
        ended = subprocess.run(
            [sys.executable, "-m", "caesura.cli", *command],
            env={name: v for name, v in os.environ.items() if name != "VLLM_API_KEY"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        assert line.startswith("error: anyone who reaches 0.0.0.0 could run this server's tools")


@pytest.mark.parametrize("given", [("--api-key", ""), ("--api-key=",), ("--api-key", "a", " ")])
def test_an_empty_key_is_refused(given: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="--api-key is empty"):
        access_flags(CaesuraConfig(), given, is_demo=False)
