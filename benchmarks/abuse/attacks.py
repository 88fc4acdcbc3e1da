"""What attackers do: each is a class of abuse, and goes on until it is stopped."""

import asyncio
import itertools
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from abuse import bodies, dictated
from abuse.server import OTHER_TENANT_KEY, TENANT_KEY

SESSIONS, CHAT = "/v1/sessions", "/v1/chat/completions"
_LONGEST_SECONDS = 120.0
_FOLLOWERS = 1000
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: a connection that is closed is reset


@dataclass
class Target:
    """A server, as an attacker sees it.

    Attributes:
        url: where it is.
        answers: how often each status came, or none.
    """

    url: str
    answers: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.AsyncClient(
            base_url=self.url, timeout=_LONGEST_SECONDS, limits=limits, trust_env=False
        )
        self.address = (urlsplit(self.url).hostname or "", urlsplit(self.url).port or 0)

    async def ask(
        self, method: str, path: str, body: bytes | None = None, key: str | None = TENANT_KEY
    ) -> httpx.Response | None:
        """Send a request; None if no answer came."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        try:
            answer = await self._client.request(method, path, content=body, headers=headers)
        except httpx.HTTPError as error:
            self.answers[type(error).__name__] += 1
            await asyncio.sleep(0.1)
            return None
        self.answers[str(answer.status_code)] += 1
        return answer

    async def post(self, path: str, body: bytes, key: str | None = TENANT_KEY) -> None:
        """Send a body, and read the answer."""
        await self.ask("POST", path, body, key)

    async def session(self, body: bytes, key: str = TENANT_KEY) -> str | None:
        """Make a session; its id, if it was made."""
        answer = await self.ask("POST", SESSIONS, body, key)
        return answer.json()["id"] if answer is not None and answer.status_code == 201 else None

    def connect(self) -> socket.socket:
        """A connection that reads as little as it can, and ends without a goodbye."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        connection.setblocking(False)
        return connection

    def head(self, method: str, path: str, length: int = 0, key: str = TENANT_KEY) -> bytes:
        """The head of a request, for such a connection."""
        return (
            f"{method} {path} HTTP/1.1\r\nHost: {self.address[0]}:{self.address[1]}\r\n"
            f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {length}\r\n\r\n"
        ).encode()


Attack = Callable[[Target, random.Random], Awaitable[None]]


async def large_bodies(target: Target, chance: random.Random) -> None:
    """Bodies of the size limit to the routes of sessions, and with tools of the server."""
    for name, body in _shuffled(bodies.largest(), chance):
        await target.post(SESSIONS, body, chance.choice((TENANT_KEY, OTHER_TENANT_KEY, None)))
        if name != "unclosed":
            await target.post(CHAT, bodies.with_server_tools(body), OTHER_TENANT_KEY)


async def large_bodies_for_vllm(target: Target, chance: random.Random) -> None:
    """The same bodies to a route of vLLM."""
    for _, body in _shuffled(bodies.largest(), chance):
        await target.post(CHAT, body)


async def long_prompts(target: Target, chance: random.Random) -> None:
    """Prompts far beyond the context: of new sessions, steering ones, chat completions."""
    opened = await target.session(bodies.session("hello", max_tokens=1))
    for size in (2**23, 2**20, 2**16, 2**14):
        text = "lorem ipsum dolor " * (size // 18)
        await target.post(SESSIONS, bodies.session(text))
        await target.post(CHAT, bodies.chat(text))
        if opened is not None:
            message = json.dumps({"content": text}).encode()
            await target.post(f"{SESSIONS}/{opened}/messages", message)
    if opened is not None:
        await target.post(f"{SESSIONS}/{opened}/cancel", b"{}")


async def hostile_names(target: Target, chance: random.Random) -> None:
    """Names of endpoints that are none, in `vllm_xargs` and in calls."""
    for body in itertools.islice(bodies.hostile_names(chance), 80):
        await target.post(CHAT, body)
    await target.ask("GET", "/metrics")


async def hostile_tools(target: Target, chance: random.Random) -> None:
    """Definitions of tools that take long to read, or cannot be read."""
    for body in itertools.islice(bodies.hostile_tools(), 25):
        await target.post(CHAT, body, chance.choice((TENANT_KEY, OTHER_TENANT_KEY)))


async def slow_texts(target: Target, chance: random.Random) -> None:
    """Texts of the model that its tool parser takes long to read, with tools and without."""
    tool = {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}}
    text = dictated.request_for(chance.choice(("slow", "slow", "brackets")))
    more = chance.choice(({}, {"tools": [tool]}, {"tools": [tool], "stream": True}))
    await target.post(CHAT, bodies.chat(text, max_tokens=3600, **more))


async def strange_calls(target: Target, chance: random.Random) -> None:
    """Calls nested 300 deep, of half characters, long, many; and lists of what then waits."""
    for name in ("nested", "surrogate", "long", "calls"):
        opened = await target.session(bodies.session(dictated.request_for(name), max_tokens=3600))
        for path in ("/v1/approvals", "/v1/approvals?state=waiting", SESSIONS):
            await target.ask("GET", path)
        if opened is not None:
            await target.ask("GET", f"{SESSIONS}/{opened}/events?stream=false&wait_seconds=2")
            await target.ask("GET", f"{SESSIONS}/{opened}")


async def deaf_followers(target: Target, chance: random.Random) -> None:
    """A thousand followers of a session with a message of 8 MiB, of which none reads."""
    opened = await target.session(bodies.session("hello", max_tokens=1))
    text = json.dumps({"content": "z" * 2**23}).encode()
    await target.post(f"{SESSIONS}/{opened}/messages", text)
    loop, kept = asyncio.get_running_loop(), []
    for _ in range(_FOLLOWERS):
        connection = target.connect()
        try:
            await loop.sock_connect(connection, target.address)
            await loop.sock_sendall(connection, target.head("GET", f"{SESSIONS}/{opened}/events"))
            target.answers["followers"] += 1
        except OSError as error:
            target.answers[type(error).__name__] += 1
        kept.append(connection)
    await asyncio.sleep(20)
    for connection in kept:
        connection.close()


async def bursts_of_sessions(target: Target, chance: random.Random) -> None:
    """Sessions, two hundred at once, with little to say."""
    body = bodies.session("hello", max_tokens=2)
    key = chance.choice((TENANT_KEY, OTHER_TENANT_KEY))
    await asyncio.gather(*(target.post(SESSIONS, body, key) for _ in range(200)))


async def endless_messages(target: Target, chance: random.Random) -> None:
    """Messages to a session that is paused and reads none."""
    opened = await target.session(bodies.session("hello", max_tokens=1))
    await target.post(f"{SESSIONS}/{opened}/pause", b"")
    for size in (16, 2**12, 2**18):
        body = json.dumps({"content": "z" * size}).encode()
        for _ in range(30):
            path = f"{SESSIONS}/{opened}/messages"
            await asyncio.gather(*(target.post(path, body) for _ in range(8)))


async def wrong_keys(target: Target, chance: random.Random) -> None:
    """Keys that are none, as many as go."""
    for _ in range(100):
        key = f"{chance.getrandbits(128):x}"
        await target.ask("GET", "/v1/sessions", None, key)
        await target.post(CHAT, bodies.chat(), key)


async def cut_connections(target: Target, chance: random.Random) -> None:
    """Connections that are cut: in a body, in an answer, in a stream of events."""
    loop = asyncio.get_running_loop()
    body = bodies.chat("hello", max_tokens=400, stream=True, ignore_eos=True)
    events = bodies.session("hello", max_tokens=400, stream=True, attached=True)
    large = bodies.largest()["one message"]
    requests = ((CHAT, body, 1.0), (SESSIONS, events, 1.0), (SESSIONS, large, chance.random()))
    for path, content, share in requests:
        connection = target.connect()
        with suppress(OSError, TimeoutError):
            await loop.sock_connect(connection, target.address)
            async with asyncio.timeout(chance.uniform(0.05, 0.5)):
                await loop.sock_sendall(connection, target.head("POST", path, len(content)))
                await loop.sock_sendall(connection, content[: int(share * len(content))])
                while share == 1.0 and await loop.sock_recv(connection, 4096):
                    pass
        target.answers["cut"] += 1
        connection.close()


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of abuse.

    Attributes:
        attack: one round of it.
        at_once: how many attackers do it side by side.
        needs_large_bodies: whether those are to be made before it begins.
    """

    attack: Attack
    at_once: int
    needs_large_bodies: bool = False


KINDS = {
    "large bodies": Kind(large_bodies, 3, needs_large_bodies=True),
    "large bodies to vLLM's routes": Kind(large_bodies_for_vllm, 3, needs_large_bodies=True),
    "long prompts": Kind(long_prompts, 3),
    "hostile names": Kind(hostile_names, 8),
    "hostile tools": Kind(hostile_tools, 3),
    "slow texts": Kind(slow_texts, 4),
    "strange calls": Kind(strange_calls, 2),
    "deaf followers": Kind(deaf_followers, 1),
    "bursts of sessions": Kind(bursts_of_sessions, 1),
    "endless messages": Kind(endless_messages, 2),
    "wrong keys": Kind(wrong_keys, 16),
    "cut connections": Kind(cut_connections, 8, needs_large_bodies=True),
}


def _shuffled(named: dict[str, bytes], chance: random.Random) -> list[tuple[str, bytes]]:
    return chance.sample(list(named.items()), len(named))
