"""`caesura chat`."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from caesura.cli.options import examples

app = App(
    "chat",
    help_epilogue=examples(
        "caesura chat --tools search,ask",
        "caesura chat --message 'Sum up the latest report' > summary.txt",
        "caesura chat --session sess_2f... --message y",
    ),
)


@app.default
def chat(
    *,
    url: str = "http://localhost:8000",
    api_key: Annotated[str | None, Parameter(env_var=["CAESURA_API_KEY", "VLLM_API_KEY"])] = None,
    model: str | None = None,
    session: str | None = None,
    tools: Annotated[str | None, Parameter(metavar="A,B,...")] = None,
    message: str | None = None,
    function_calling: Annotated[
        Literal["sync", "sync_parallel", "async"] | None, Parameter(show_choices=True)
    ] = None,
) -> int:
    """Talk to a session of `caesura serve`: watch it, steer it, answer what it asks.

    What you type while the model writes steers it. A question is answered where it is asked: y, or
    n and a reason; a text; a number; JSON. /help shows the commands.

    Ctrl-C stops the output, and once more leaves. The session goes on on the server, and --session
    comes back to it. A connection that breaks is made again.

    Piped lines are said one after the other, each when the session waits for its user. Exit
    status: 0 answered; 1 the session failed, was cancelled or reached a limit; 2 an error; 3 it
    waits for a human; 130 interrupted.

    Args:
        url: The server.
        api_key: Its API key. Sessions belong to the key that they were made with.
        model: Refuse to talk to another model than this.
        session: Go on with this session instead of a new one.
        tools: Tools that the model may call in new sessions, or none. All that the server has by
            default.
        message: Say only this, write the answer to stdout and all else to stderr, and leave. If
            the session waits for a human, this is the answer.
        function_calling: What happens at a call in new sessions: wait for it, run calls that
            follow each other together, or go on writing. As the server is set up by default.
    """
    from caesura.chat import ChatSettings, run_chat

    chosen = None if tools is None else () if tools == "none" else tuple(_names(tools))
    return run_chat(ChatSettings(url, api_key, model, session, chosen, message, function_calling))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
