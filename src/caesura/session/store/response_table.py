"""The tables of responses: what the Responses API has answered, for requests that refer to it."""

from collections.abc import Sequence
from dataclasses import dataclass

from caesura.session.database import Check, Row, Statement
from caesura.session.errors import UnknownResponse
from caesura.session.store.usage_table import UsageTable


@dataclass(frozen=True, slots=True)
class ResponseRecord:
    """One response. All texts are JSON in ASCII.

    Attributes:
        owner: its owner.
        id: its name, among the responses of its owner.
        output: the items that were generated, a line each.
        body: the response without its output.
        runs: it is being generated.
    """

    owner: str
    id: str
    output: str
    body: str
    runs: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a response stands.

    Attributes:
        number: of the response; a later one has a higher number.
        chain: the conversation that it is part of, with all that continue the same response.
        runs: it is being generated.
    """

    number: int
    chain: int
    runs: bool


class ResponseTable(UsageTable):
    """A row per response, and one per conversation.

    A response has only what it has added, and refers to the one that it continues. A conversation
    is kept or forgotten as a whole, so that no history lacks its beginning.
    """

    async def place(self, owner: str, response_id: str) -> Place:
        """Where a response stands.

        Raises:
            UnknownResponse: the owner has no response of that id.
        """
        number, chain, runs = await self._row("number, chain, runs", owner, response_id)
        return Place(number, chain, bool(runs))

    async def response(self, owner: str, response_id: str) -> ResponseRecord:
        """A response, without its events.

        Raises:
            UnknownResponse: the owner has no response of that id.
        """
        output, body, runs = await self._row("output, body, runs", owner, response_id)
        return ResponseRecord(owner, response_id, output, body, bool(runs))

    async def _row(self, columns: str, owner: str, response_id: str) -> Row:
        rows = await self._database.read(
            f"SELECT {columns} FROM responses WHERE owner = ? AND id = ?", (owner, response_id)
        )
        if not rows:
            raise UnknownResponse(response_id)
        return rows[0]

    async def response_events(self, owner: str, response_id: str) -> str:
        """The events of a response's stream, a line each; empty if they were not kept."""
        rows = await self._database.read(
            "SELECT events FROM responses WHERE owner = ? AND id = ?", (owner, response_id)
        )
        return str(rows[0][0]) if rows else ""

    async def lines_until(self, place: Place, most_bytes: int) -> list[tuple[str, str]]:
        """What all responses of a conversation up to one have added, the oldest first.

        Args:
            place: of the last one.
            most_bytes: no more are read once they are as long as this.

        Returns:
            Input and output of each: items as JSON, a line each.
        """
        rows = await self._database.read(
            "WITH RECURSIVE line (number, input, output, previous) AS ("
            " SELECT number, input, output, previous FROM responses WHERE number = ?"
            " UNION ALL SELECT r.number, r.input, r.output, r.previous FROM line"
            " JOIN responses AS r ON r.number = line.previous)"
            " SELECT input, output FROM line ORDER BY number",
            (place.number,),
            most_bytes=most_bytes,
        )
        return [(str(given), str(written)) for given, written in rows]

    async def responses_running(self, owner: str) -> int:
        """How many responses of an owner are being generated, and are kept."""
        rows = await self._database.read(
            "SELECT COUNT(*) FROM responses WHERE owner = ? AND runs", (owner,)
        )
        return int(rows[0][0])

    def add_response(
        self, record: ResponseRecord, given: str, previous: Place | None
    ) -> list[Statement | Check]:
        """Keep a response.

        Args:
            record: the response.
            given: the items that its request has added, a line each.
            previous: the one that it continues.
        """
        row = (
            record.owner,
            record.id,
            previous.number if previous is not None else None,
            record.runs,
            given,
            record.output,
            record.body,
        )
        insert = "INSERT INTO responses (chain, owner, id, previous, runs, input, output, body)"
        if previous is None:
            return [
                Statement(
                    "INSERT INTO response_chains (owner, used_seconds) VALUES (?, ?)",
                    (record.owner, self.clock()),
                ),
                Statement(f"{insert} VALUES (last_insert_rowid(), ?, ?, ?, ?, ?, ?, ?)", row),
            ]
        return [
            Check(
                "SELECT EXISTS (SELECT 1 FROM responses WHERE number = ?)",
                (previous.number,),
                UnknownResponse("the response that it continues"),
            ),
            Statement(
                "UPDATE response_chains SET used_seconds = ? WHERE number = ?",
                (self.clock(), previous.chain),
            ),
            Statement(f"{insert} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (previous.chain, *row)),
        ]

    def finish_response(self, record: ResponseRecord, events: str) -> Statement:
        """A response that was kept while it was generated is complete.

        Args:
            record: the response.
            events: of its stream, a line each; empty if they are not kept.
        """
        return Statement(
            "UPDATE responses SET runs = FALSE, output = ?, body = ?, events = ?"
            " WHERE owner = ? AND id = ?",
            (record.output, record.body, events, record.owner, record.id),
        )

    async def lost_responses(self) -> list[ResponseRecord]:
        """Responses that were being generated by a server that is gone."""
        rows = await self._database.read(
            "SELECT owner, id, output, body FROM responses"
            f" WHERE runs AND {self._database.of_nobody}"
        )
        return [
            ResponseRecord(owner, response_id, output, body, runs=True)
            for owner, response_id, output, body in rows
        ]

    def delete_response(self, owner: str, place: Place) -> Sequence[Statement]:
        """Forget a response; those that continue it keep their history."""
        return (
            Statement(
                "UPDATE responses SET previous = before.previous,"
                " input = before.input || before.output || responses.input"
                " FROM responses AS before"
                " WHERE responses.previous = ?1 AND before.number = ?1 AND before.owner = ?2",
                (place.number, owner),
            ),
            Statement(
                "DELETE FROM responses WHERE number = ? AND owner = ?", (place.number, owner)
            ),
            Statement(
                "DELETE FROM response_chains WHERE number = ?1"
                " AND NOT EXISTS (SELECT 1 FROM responses WHERE chain = ?1)",
                (place.chain,),
            ),
        )

    def forget_responses(self, owner: str, before_seconds: float) -> Statement:
        """Forget an owner's conversations that nobody has continued since."""
        return Statement(
            "DELETE FROM response_chains WHERE owner = ? AND used_seconds < ?",
            (owner, before_seconds),
        )
