"""A call that waits for a human, also while the server is started again.

Run:    python examples/approval/run.py [--url URL] [--yes]
        and when it says so, stop the server and start it again with the same command.
Server: see examples/README.md. The tool `release` has approve = true there.
"""

import argparse
import asyncio

from caesura.chat import ApprovalView, EventKind, GivenAnswer, SessionEvent, SessionsClient
from caesura.chat.quoting import question_lines, quoted


async def main() -> None:
    """Make a session, wait until it asks, let the server be restarted, answer."""
    parser = argparse.ArgumentParser(description="An approval that survives a restart.")
    parser.add_argument("task", nargs="?", default="Release version 1.2.")
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--api-key")
    parser.add_argument("--yes", action="store_true", help="Agree without asking at the terminal.")
    chosen = parser.parse_args()
    async with SessionsClient(chosen.url, chosen.api_key) as client:
        session = await client.create(chosen.task, tools=["release"], keep_open=False)
        restarted = asyncio.Event()
        events = client.events(session.id, on_connection=lambda there: there and restarted.set())
        async with asyncio.TaskGroup() as tasks:
            async for event in events:
                report(event)
                if event.kind is EventKind.ASKED:
                    print("Now stop the server, and start it again.", flush=True)
                    approval_id = event.text("approval_id")
                    tasks.create_task(answer_later(client, approval_id, restarted, chosen.yes))


async def answer_later(
    client: SessionsClient, approval_id: str, restarted: asyncio.Event, agrees: bool
) -> None:
    """Answer when the server is there again."""
    await restarted.wait()
    approval = await client.approval(approval_id)
    print(f"The server is back, and the question is {approval.state}.")
    await client.answer(approval_id, GivenAnswer(accepted=agrees or await asks(approval)))


async def asks(approval: ApprovalView) -> bool:
    """Ask at the terminal; nothing in the call can hide or look like something else."""
    question = [*question_lines(approval, width=None), f"Run {approval.tool}? [y/n] "]
    return (await asyncio.to_thread(input, "\n".join(question))).strip().lower() == "y"


def report(event: SessionEvent) -> None:
    """Print what matters here."""
    match event.kind:
        case EventKind.ASKED:
            print(f"{event.text('tool')} wants to run, with {event.data['arguments']}.")
        case EventKind.RESULT:
            print(f"{event.text('name')} {event.text('ending')}:")
            print("\n".join(quoted(event.text("content"), width=None)))
        case EventKind.ENDED:
            print(f"The session is over: {event.text('ending')}.")


if __name__ == "__main__":
    asyncio.run(main())
