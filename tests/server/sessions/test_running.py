"""Everything that sessions need, opened from a configuration file and closed again."""

import asyncio
from pathlib import Path

import pytest

from caesura.errors import ConfigurationError
from caesura.server.errors import ApiError
from caesura.server.sessions.running import running_sessions
from caesura.server.settings import ServerSettings
from caesura.session.records import ApprovalState, EventType
from caesura.tools.call import Answer
from caesura.tools.configuration import load_configuration
from session.scripted import END, ByteDialogue, model
from session.workplace import OWNER, spec, until
from support.engines.fakes import FakeEngine

HOOK = """\
import asyncio
from pathlib import Path


async def note(text: str) -> str:
    '''Write a note.'''
    Path(__file__).with_name("notes").open("a").write(text)
    return "noted"
"""


def running(directory: Path, text: str, owners: int = 1, adapters: tuple[str, ...] = ()):
    file = directory / "caesura.toml"
    file.write_text(text)
    configuration = load_configuration(file, {}, form=ServerSettings)
    return running_sessions(
        configuration,
        FakeEngine(END, model),
        ByteDialogue(),
        models=("demo",),
        adapters=lambda: adapters,
        owners=owners,
    )


@pytest.mark.parametrize(
    ("owners", "line", "owner_bytes", "separates"),
    [
        (1, "", 8 * 2**20, False),
        (4, "", 2 * 2**20, True),
        (4, 'owner_size = "3MiB"', 3 * 2**20, True),
        (4, "share_prefixes = true", 2 * 2**20, False),
    ],
)
async def test_owners_share_what_may_be_stored_and_no_contexts(
    tmp_path: Path, owners: int, line: str, owner_bytes: int, separates: bool
) -> None:
    text = f'[sessions]\ndatabase_size = "8MiB"\n{line}\n'
    async with running(tmp_path, text, owners) as service:
        work = service.agents._work
        assert work.limits.owner_bytes == owner_bytes
        assert work.separates_owners is separates


async def test_a_session_is_generated_by_the_model_or_an_adapter_of_it(tmp_path: Path) -> None:
    async with running(tmp_path, "", adapters=("polite",)) as service:
        work = service.agents._work
        for name, adapter in ((None, None), ("demo", None), ("polite", "polite")):
            asked = spec("end").model_copy(update={"model": name})
            agent = await service.create(OWNER, asked)
            record = await service.agents.get(OWNER, agent.id)
            assert work.sampling(OWNER, record.spec).adapter == adapter
        with pytest.raises(ApiError, match="'rude' is not served here"):
            await service.create(OWNER, spec("end").model_copy(update={"model": "rude"}))


async def test_sessions_go_on_after_a_restart_with_the_tools_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "own_tools.py").write_text(HOOK)
    text = '[tools.note]\ntype = "python"\ncallable = "own_tools:note"\napprove = true\n'
    async with running(tmp_path, text) as service:
        agent = await service.agents.create(OWNER, spec('<<note {"text": "x"}>>\nend'))
        asked = await until(agent, EventType.ASKED)
    async with running(tmp_path, text) as service:
        agent = await service.agents.agent(OWNER, agent.id)
        key = str(asked.data["approval_id"])
        assert (await service.agents.approval(OWNER, key)).state is ApprovalState.WAITING
        await service.agents.answer(OWNER, key, Answer(accepted=True))
        await until(agent, EventType.OUTPUT, text="heard: noted. end")
    assert (tmp_path / "notes").read_text() == "x", "it ran once"


async def test_two_servers_cannot_use_one_database(tmp_path: Path) -> None:
    async with running(tmp_path, ""):
        with pytest.raises(ConfigurationError, match="used by another server"):
            async with running(tmp_path, ""):
                pass
    async with running(tmp_path, ""):
        pass


async def test_a_tool_that_cannot_be_used_is_named_with_its_line(tmp_path: Path) -> None:
    text = '[tools.note]\ntype = "python"\ncallable = "nowhere_at_all:note"\n'
    with pytest.raises(ConfigurationError, match=r"caesura\.toml:3: tools\.note\.callable"):
        async with running(tmp_path, text):
            pass


async def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"sessions\.database"):
        async with running(tmp_path, '[sessions]\ndatabase = "file/caesura.db"'):
            pass


async def test_the_webhook_of_the_file_is_told(tmp_path: Path) -> None:
    told: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        await told.put(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(receive, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    text = (
        f'[webhook]\nurl = "http://127.0.0.1:{port}"\nsecret = "a secret that nobody can guess"\n'
        '[tools.ask]\ntype = "human"\n'
    )
    async with listener, running(tmp_path, text) as service:
        await service.agents.create(OWNER, spec('<<ask {"question": "well?"}>>'))
        async with asyncio.timeout(20):
            assert b"well?" in await told.get()


async def test_the_file_says_what_happens_at_calls(tmp_path: Path) -> None:
    text = '[sessions]\nfunction_calling = "async"\n'
    async with running(tmp_path, text) as service:
        agent = await service.agents.create(OWNER, spec("hello"))
        assert (agent.spec.function_calling, agent.spec.protocol) == ("async", "futures")
    with pytest.raises(ConfigurationError, match=r"sessions\.protocol.*no tokens for \[CALL\]"):
        async with running(tmp_path, text + 'protocol = "cml"\n'):
            pass
