"""The reference of the server's settings, written from the settings themselves."""

import sys

from pydantic import BaseModel

from caesura.server.settings import ServerSection, SessionsSection, WebhookSection
from caesura.tools.reference import settings_table

_SECTIONS: dict[str, type[BaseModel]] = {
    "sessions": SessionsSection,
    "server": ServerSection,
    "webhook": WebhookSection,
}


def server_reference() -> str:
    """The reference in Markdown, as `docs/reference/http-api.md` has it."""
    return "\n".join(
        f"### `[{name}]`\n\n{model.__doc__}\n\n{settings_table(model)}"
        for name, model in _SECTIONS.items()
    )


if __name__ == "__main__":
    sys.stdout.write(server_reference())
