"""One API key is one owner, wherever it is used."""

from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.middleware import Middleware

from caesura.server.clients.middleware import TurnMiddleware
from caesura.server.clients.turns import current_turn
from caesura.server.owners import ANONYMOUS, Owners
from caesura.server.sessions.service import Service
from caesura.server.settings import ServerSection
from caesura.session.agents import Agents
from server.served import MODEL, application, body, human, listening
from session.workplace import workplace

SECRET = b"a secret"
# HMAC of SHA-256 of "alpha". Stored with sessions: another value would hide them from their owner.
ALPHA = "6ac995bb329602bd21e29481b8e49c403501befb28310482b1e84c5846a39720"


def owner(authorization: str | None, *, has_keys: bool = True, secret: bytes = SECRET) -> str:
    headers = {} if authorization is None else {"Authorization": authorization}
    return Owners(has_keys, secret).of(Headers(headers))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_an_owner_is_the_digest_of_the_key_and_the_secret(scheme: str) -> None:
    assert owner(f"{scheme} alpha") == ALPHA
    assert owner(f"{scheme} beta") not in (ALPHA, ANONYMOUS)
    assert owner(f"{scheme} alpha", secret=b"another") not in (ALPHA, ANONYMOUS)


def test_without_stored_sessions_each_process_has_a_secret_of_its_own() -> None:
    headers = Headers({"Authorization": "Bearer alpha"})
    owners = Owners(has_keys=True)
    assert owners.of(headers) == owners.of(headers) != Owners(has_keys=True).of(headers)
    assert repr(owners) == "Owners(has_keys=True)"


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic alpha", "alpha"])
def test_nobody_is_anonymous(authorization: str | None) -> None:
    assert owner(authorization) == ANONYMOUS


def test_anthropics_header_names_the_same_owner() -> None:
    owners = Owners(has_keys=True, secret=SECRET)
    assert owners.of(Headers({"x-api-key": "alpha"})) == ALPHA
    both = Headers({"Authorization": "Bearer alpha", "X-Api-Key": "beta"})
    assert owners.of(both) == ALPHA


def test_a_key_that_is_not_checked_names_nobody() -> None:
    assert owner("Bearer alpha", has_keys=False) == ANONYMOUS


@pytest.mark.parametrize(("has_keys", "expected"), [(True, ALPHA), (False, ANONYMOUS)])
async def test_a_key_is_one_owner_in_client_turns_sessions_and_approvals(
    tmp_path: Path, has_keys: bool, expected: str
) -> None:
    turns: list[str] = []
    async with workplace(tmp_path / "db", human()) as work:
        agents = Agents(work)
        settings = ServerSection()
        service = Service(agents, work.store, work.executor, settings, (MODEL,), tmp_path / "db")
        app = application(service, [], keys=["alpha"] if has_keys else ())

        @app.post("/v1/messages")
        async def noted() -> None:
            turn = current_turn()
            assert turn is not None
            turns.append(turn.owner)

        app.user_middleware.append(Middleware(TurnMiddleware))  # behind the gate
        headers = {"Authorization": "Bearer alpha"}
        async with (
            listening(app) as url,
            httpx.AsyncClient(base_url=url, headers=headers) as client,
        ):
            await client.post("/v1/messages")
            asking = body('<<ask {"question": "well?"}>>')
            (await client.post("/v1/sessions", json=asking)).raise_for_status()
            (agent,) = agents.running
            async for event in agent.events.follow():
                if event.type == "approval.requested":
                    break
            (approval,) = await work.store.approvals(None)
            await agents.stop()
    assert [*turns, agent.owner, approval.owner] == [expected] * 3
