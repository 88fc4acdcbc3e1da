from pathlib import Path

import pytest

from caesura.errors import ConfigurationError
from caesura.tools import load_configuration
from caesura.tools.settings import HttpTool


def problems(directory: Path, text: str) -> list[str]:
    file = directory / "caesura.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(file, {"KEY": "value"})
    return [line.removeprefix(f"{file}:") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[tools.a]\ntype = "http"\n', "1: tools.a.url: is missing; add it"),
        ('[tools.a]\ntype = "human"\nurl = ""\n', "3: tools.a.url: is not a setting here"),
        ("[tools.a]\nurl = 1\n", "1: tools.a: has no type; add type ="),
        ('[tools.a]\ntype = "htp"\n', "1: tools.a: Input tag 'htp'"),
        ('\n[tools."a b"]\ntype = "human"\n', '2: tools."a b": String should match pattern'),
        (
            '[tools.a]\ntype = "human"\n\ntimeout_seconds = -1\n',
            "4: tools.a.timeout_seconds: Input should be greater than or equal to 0",
        ),
        (
            '[tools.a]\ntype = "python"\ncallable = "m:f"\nretries = 2\n',
            "1: tools.a: retries needs idempotent = true",
        ),
        (
            '[tools.a]\ntype = "python"\ncallable = "m:f"\ncache_seconds = 2\n',
            "1: tools.a: cache_seconds needs idempotent = true",
        ),
        (
            '[tools.a]\ntype = "python"\ncallable = "m:f"\ncache_seconds = 2\nidempotent = true\n'
            "approve = true\n",
            "1: tools.a: cache_seconds cannot go with approve",
        ),
        (
            '[tools.a]\ntype = "human"\ncache_seconds = 2\nidempotent = true\n',
            "3: tools.a.cache_seconds: a human's answer is not kept",
        ),
        ('[tools.a]\ntype = "python"\ncallable = "m"\n', "3: tools.a.callable: String should"),
        (
            '[tools.a]\ntype = "python"\ncallable = "m:f"\nmax_result_bytes = "64 parsecs"\n',
            "4: tools.a.max_result_bytes: 'parsecs' in '64 parsecs' is not a unit",
        ),
        (
            '[tools.a]\ntype = "http"\nurl = "http://h"\nheaders = { X = "${NO_KEY}" }\n',
            "4: tools.a.headers.X: the environment variable 'NO_KEY' is not set",
        ),
        (
            '[tools.a]\ntype = "http"\nurl = "http://h"\nheaders = { "a\\nb" = "x" }\n',
            '4: tools.a.headers."a\\nb": String should match pattern',
        ),
        (
            '[tools.a]\ntype = "sequence"\n[[tools.a.steps]]\ntool = "b"\n'
            "[[tools.a.steps]]\nname = 1\n",
            "5: tools.a.steps[1].tool: is missing; add it",
        ),
        ("[mcp.m]\n", "1: mcp.m: give either command (a process) or url"),
        ('[mcp.m]\nurl = "u"\nargs = ["x"]\n', "1: mcp.m: args and env go with command"),
        ('[mcp.m]\ncommand = "c"\nheaders = { a = "b" }\n', "1: mcp.m: headers go with url"),
        (
            '[mcp.m]\ncommand = "c"\n[mcp.m.settings.t]\nretries = "x"\n',
            "4: mcp.m.settings.t.retries: Input should be a valid integer",
        ),
        ("[toolz]\n", "1: toolz: is not a setting here; remove it, or check its spelling"),
        ('a = 1\nb = "\n', "2: is not TOML: "),
        ("[tools\n", "1: is not TOML: "),
    ],
)
def test_an_error_names_line_and_key_and_says_what_to_do(
    tmp_path: Path, text: str, expected: str
) -> None:
    found = problems(tmp_path, text)
    assert any(problem.startswith(expected) for problem in found), found


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    text = '[tools.a]\ntype = "http"\n[tools.b]\ntype = "human"\nx = 1\n[mcp.m]\n'
    assert [problem.partition(":")[0] for problem in problems(tmp_path, text)] == ["1", "5", "6"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read: No such file"):
        load_configuration(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigurationError, match=r"latin\.toml: is not UTF-8"):
        load_configuration(tmp_path / "latin.toml")


def test_secrets_come_from_the_environment_and_are_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "caesura.toml"
    file.write_text(
        '[tools.a]\ntype = "http"\nurl = "http://h"\nheaders = { X = "Bearer ${KEY}" }\n'
        'description = "${KEY}"\n'
    )
    configuration = load_configuration(file, {"KEY": "pass{x}word"})
    tool = configuration.settings.tools["a"]
    assert isinstance(tool, HttpTool)
    assert tool.headers["X"].get_secret_value() == "Bearer pass{{x}}word"
    assert tool.description == "${KEY}"
    assert configuration.secrets == {"pass{x}word"}
    assert "word" not in repr(configuration.settings)


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "caesura.toml"
    text = '\ufeff# a\u2028b\r\n[tools.a]\r\ntype = "human"\r\n'
    file.write_bytes(text.encode())
    assert set(load_configuration(file, {}).settings.tools) == {"a"}
    file.write_bytes((text + "timeout_seconds = -1\r\n").encode())
    with pytest.raises(ConfigurationError, match=r"toml:4: tools\.a\.timeout_seconds"):
        load_configuration(file, {})
    file.write_bytes((text + 'description = """cut \u2028').encode())
    with pytest.raises(ConfigurationError, match=r"toml:4: is not TOML"):
        load_configuration(file, {})
