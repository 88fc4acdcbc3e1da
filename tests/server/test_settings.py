"""The configuration of `caesura serve`: tables beside those of tools, and errors with lines."""

from pathlib import Path

import pytest

from caesura.errors import ConfigurationError
from caesura.server.settings import ServerSettings, database_path, server_configuration
from caesura.session.limits import Limits
from caesura.tools.configuration import load_configuration

FILE = """\
[tools.ask]
type = "human"

[sessions]
database = "kept/sessions.db"
database_size = "1GiB"
idle_seconds = 60

[server]
body_limit = "1MiB"
keep_alive_seconds = 5

[webhook]
url = "https://hooks.example/caesura"
secret = "${HOOK_SECRET}"
"""


def test_a_file_says_where_sessions_are_and_what_is_told(tmp_path: Path) -> None:
    file = tmp_path / "caesura.toml"
    file.write_text(FILE)
    read = load_configuration(
        file, {"HOOK_SECRET": "a secret text of some length"}, form=ServerSettings
    )
    settings = read.settings
    assert database_path(read) == tmp_path / "kept/sessions.db"
    assert settings.sessions.limits() == Limits(owner_bytes=2**30, idle_seconds=60)
    assert (settings.server.body_limit, settings.server.keep_alive_seconds) == (2**20, 5)
    assert settings.webhook is not None
    assert settings.webhook.secret.get_secret_value() == "a secret text of some length"
    assert "a secret text of some length" not in repr(settings)
    assert set(settings.tools) == {"ask"}


def test_without_a_file_sessions_are_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = server_configuration(None)
    assert database_path(read) == tmp_path / "caesura.db"
    assert read.settings.sessions.limits() == Limits()
    assert read.settings.tools == {}


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (2, "[sessions]\ndatabase_sise = 1", "sessions.database_sise: is not a setting here"),
        (2, "[sessions]\nidle_seconds = 0", "sessions.idle_seconds: "),
        (2, '[sessions]\nprotocol = "prompted"', "was removed: use the model's own tool calls"),
        (2, '[server]\nbody_limit = "16 elephants"', "server.body_limit: 'elephants'"),
        (1, '[webhook]\nsecret = "x"', "webhook.url: is missing"),
        (2, '[webhook]\nurl = "ftp://x"\nsecret = "x"', "webhook.url: "),
        (3, '[webhook]\nurl = "http://x"\nsecret = "${UNSET}"', "webhook.secret: "),
        (1, '[webhook]\nurl = "http://x"\nsecret = ""', "webhook: the secret is empty"),
        (1, '[webhook]\nurl = "https://x"\nsecret = "x"', "webhook: the secret has 1 bytes"),
        (
            1,
            '[webhook]\nurl = "http://x"\nsecret = "that which nobody is to guess"',
            "allow_http = true",
        ),
        (1, "[servers]\n", "servers: is not a setting here"),
        (1, '[tools.ask]\ntype = "dog"', "tools.ask"),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(
    tmp_path: Path, line: int, text: str, message: str
) -> None:
    file = tmp_path / "caesura.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_configuration(file, {}, form=ServerSettings)
    told = str(refused.value)
    assert f"{file}:" in told
    assert message in told
    assert f":{line}: " in told or line == 1, told
