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
    """Chat with a session of `caesura serve`: watch it, steer it, answer its questions.

    A message that you type while the model writes steers it. Answer a question where it is asked:
    y, or n and a reason; a text; a number; JSON. /help shows the commands.

    Ctrl-C pauses the session, a second Ctrl-C leaves. The session continues on the server, and
    --session returns to it. A broken connection is restored.

    Piped lines are sent one at a time, each when the session waits for its user. Exit status: 0
    answered; 1 the session failed, was cancelled or reached a limit; 2 error; 3 the session waits
    for a human; 130 interrupted.

    Args:
        url: The server.
        api_key: Its API key. A session belongs to the key that created it.
        model: Leave if the server serves another model than this.
        session: Continue this session instead of a new one.
        tools: Tools that new sessions may call, or all, or none; by default what the server
            is set to.
        message: Send only this message, write the answer to stdout and everything else to stderr,
            and leave. If the session waits for a human, this is the answer.
        function_calling: What new sessions do at a call: wait for its result, run adjacent calls
            in parallel, or keep writing. By default what the server is set to.
    """
    from caesura.chat import ChatSettings, run_chat

    chosen = _chosen(tools)
    return run_chat(ChatSettings(url, api_key, model, session, chosen, message, function_calling))


def _chosen(tools: str | None) -> tuple[str, ...] | Literal["all"] | None:
    match tools:
        case None | "all":
            return tools
        case "none":
            return ()
    return tuple(name.strip() for name in tools.split(",") if name.strip())
