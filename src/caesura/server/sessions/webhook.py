"""Sends questions that wait for humans to an address, until each has been accepted."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import httpx

from caesura.server.sessions.signatures import signature_headers, signing_key
from caesura.server.sessions.views import approval_object
from caesura.server.settings import WebhookSection
from caesura.session.approvals import Approvals
from caesura.session.records import ApprovalRecord
from caesura.session.store import Store

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 600.0
_AT_ONCE = 8


@dataclass(slots=True)
class _Retry:
    """When a question is sent again, and how often it was not accepted."""

    due_seconds: float
    attempts: int


class Webhook:
    """POSTs each question once it waits, across restarts, until it is accepted or answered.

    Sessions do not wait for it: it reads what is to be sent from the store.

    Args:
        settings: where to, and the secret.
        store: has the questions, and remembers which were sent.
        approvals: says when there are new ones.
        client: sends.
        now: monotonic seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        settings: WebhookSection,
        store: Store,
        approvals: Approvals,
        client: httpx.AsyncClient,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._key = signing_key(settings.secret.get_secret_value())
        self._store = store
        self._approvals = approvals
        self._client = client
        self._now = now
        self._sleep = sleep
        self._changed = asyncio.Event()
        self._retries: dict[str, _Retry] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}
        # A receiver that is slow to refuse what it has refused before keeps nothing new waiting.
        self._first, self._again = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        self._approvals.on_change.append(self._changed.set)
        self._changed.set()  # there may be questions from before a restart
        try:
            while True:
                await self._woken()
                self._changed.clear()
                await self._begin_round()
        finally:
            self._approvals.on_change.remove(self._changed.set)
            telling = [*self._telling.values()]
            for task in telling:
                task.cancel()
            await asyncio.gather(*telling, return_exceptions=True)

    async def _woken(self) -> None:
        """Until something has changed, or the next retry is due."""
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self._changed.wait())]
        due = [each.due_seconds for key, each in self._retries.items() if key not in self._telling]
        if due:
            wait_seconds = max(0.0, min(due) - self._now())
            waits.append(asyncio.ensure_future(self._sleep(wait_seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _begin_round(self) -> None:
        """Begin to report questions that are new, or due again."""
        waiting = await self._store.unnotified()
        keys = {record.question.key for record in waiting}
        self._retries = {key: retry for key, retry in self._retries.items() if key in keys}
        now = self._now()
        for record in waiting:
            key = record.question.key
            retry = self._retries.get(key)
            if key not in self._telling and (retry is None or retry.due_seconds <= now):
                task = asyncio.create_task(self._tell(record), name=f"webhook {key}")
                self._telling[key] = task
                task.add_done_callback(partial(self._told, key))

    def _told(self, key: str, _: asyncio.Task[None]) -> None:
        """What came meanwhile, and the next retry, are looked for again."""
        del self._telling[key]
        self._changed.set()

    async def _tell(self, record: ApprovalRecord) -> None:
        key = record.question.key
        async with self._again if key in self._retries else self._first:
            try:
                problem = await self._post(record)
                if problem is None:
                    await self._store.commit(self._store.notified(key))
            except Exception as error:  # one question is not to keep the others from being told
                logger.exception("the webhook cannot tell of %s", key)
                problem = f"{type(error).__name__}: {error}"
        if problem is None:
            self._retries.pop(key, None)
            return
        before = self._retries.get(key)
        attempts = 1 if before is None else before.attempts + 1
        wait_seconds = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(attempts - 1, 20))
        self._retries[key] = _Retry(self._now() + wait_seconds, attempts)
        logger.warning(
            "the webhook was not told of %s: %s; again in %g s", key, problem, wait_seconds
        )

    async def _post(self, record: ApprovalRecord) -> str | None:
        """Send one question; None if it was accepted, otherwise why not."""
        approval = await approval_object(self._store, record)
        told = {
            "type": "approval.requested",
            "approval": approval.model_dump(mode="json", by_alias=True),
        }
        body = json.dumps(told, separators=(",", ":")).encode()
        headers = signature_headers(self._key, record.question.key, int(time.time()), body)
        try:
            response = await self._client.post(
                self._settings.url,
                content=body,
                headers={"Content-Type": "application/json", **headers},
                timeout=self._settings.timeout_seconds,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"{type(error).__name__}: {error}"
        return None if response.is_success else f"status {response.status_code}"
