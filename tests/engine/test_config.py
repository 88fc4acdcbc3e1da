"""Options that cannot work are refused at start, with what to do."""

import psutil
import pytest

from caesura.engine.config import CaesuraConfig, check_host_memory
from caesura.engine.serving.serve import server_command
from caesura.errors import ConfigurationError


def test_host_memory_beyond_the_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="more than this machine has"):
        check_host_memory(psutil.virtual_memory().total + 1)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"polcy": "swap"}, "polcy"),
        ({"policy": "best"}, "choose one of: end, discard"),
        ({"policy": "swap"}, "--host-memory"),
        ({"policy": "ttl", "policy_options": {"ttl": 3}}, "ttl_seconds"),
        ({"policy": "preserve", "host_memory": "8G"}, "host_memory"),
        ({"policy": "preserve", "host_memory": -1}, "host_memory"),
        ({"policy": "no.such.module:Policy"}, "cannot be imported"),
    ],
)
def test_wrong_options_name_what_is_wrong(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CaesuraConfig.parse(section)


def test_sizes_are_understood() -> None:
    config = CaesuraConfig.parse({"policy": "swap", "host_memory": "1.5GiB"})
    assert config.host_memory == 3 * 2**29


class TestServerCommand:
    def command(self, *arguments: str) -> list[str]:
        config = CaesuraConfig(policy="preserve")
        return server_command("model", config, arguments, on_cpu=False)

    def test_vllm_flags_pass_through(self) -> None:
        command = self.command("--port", "9000", "--dtype=float32")
        assert command[:5] == ["serve", "model", "--port", "9000", "--dtype=float32"]
        assert "caesura.engine.scheduler.InterceptScheduler" in command

    def test_the_users_additional_config_stays(self) -> None:
        command = self.command("--additional-config", '{"mine": 1, "caesura": {"max_pauses": 9}}')
        assert command.count("--additional-config") == 1
        value = command[command.index("--additional-config") + 1]
        assert '"mine": 1' in value
        assert '"max_pauses": 9' in value
        assert '"policy": "preserve"' in value

    def test_the_tool_parser_is_taken_from_vllms_flag(self) -> None:
        command = self.command("--tool-call-parser", "hermes")
        assert '"tool_call_parser": "hermes"' in command[-1]

    def test_a_second_scheduler_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="--scheduler-cls"):
            self.command("--scheduler-cls", "other.Scheduler")

    def test_json_is_checked_before_the_server_starts(self) -> None:
        with pytest.raises(ConfigurationError, match="not valid JSON"):
            self.command("--additional-config", "{")
