"""The reference of the configuration file, written from the settings themselves.

Run it from the root of a checkout: `python docs/generate/reference_pages.py`. It writes
docs/reference/configuration.md, and its part of docs/reference/http-api.md.
"""

import types
import typing
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from caesura.server.keys import KeySection
from caesura.server.settings import ServerSection, SessionsSection, WebhookSection
from caesura.tools.settings import (
    CommonSettings,
    HttpTool,
    HumanTool,
    McpServerSettings,
    ModelTool,
    PythonTool,
    SequenceStep,
    SequenceTool,
)

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
BEGIN, END = "<!-- docs/generate/reference_pages.py writes from here on -->", "<!-- to here -->"
_INTRODUCTION = """\
# Configuration of tools

Written by `docs/generate/reference_pages.py` from the settings' own descriptions; do not edit.

Tools that the server runs are named in one TOML file. Keys that are not listed here are refused,
and every error names file, line and key. `${NAME}` is taken from the environment where it says so;
a variable that is not set is an error at start. Settings of the server itself, in the same file:
[`docs/reference/http-api.md`](http-api.md#settings).
"""
_EXAMPLE = """\
```toml
[tools.search]
type = "http"
url = "https://search.example/v1/{index}"
headers = { Authorization = "Bearer ${SEARCH_KEY}" }
query = { q = "{query}" }
idempotent = true
retries = 2
[tools.search.parameters]
properties = { index = { type = "string" }, query = { type = "string" } }
required = ["index", "query"]

[tools.ask]
type = "human"

[mcp.files]
command = "mcp-files"
args = ["--root", "/srv/data"]
tools = ["read", "write"]
[mcp.files.settings.write]
approve = true
```
"""
_SERVER: dict[str, type[BaseModel]] = {
    "sessions": SessionsSection,
    "server": ServerSection,
    "keys.NAME": KeySection,
    "webhook": WebhookSection,
}
_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ('`type = "python"`', PythonTool),
    ('`type = "http"`', HttpTool),
    ('`type = "model"`', ModelTool),
    ('`type = "human"`', HumanTool),
    ('`type = "sequence"`', SequenceTool),
)
_PLAIN_NAMES = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    Path: "path",
    SecretStr: "text",
}


def pages() -> dict[Path, str]:
    """Each page with what it is to say; what else stands in it stays."""
    api = REFERENCE / "http-api.md"
    before, _, rest = api.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return {
        REFERENCE / "configuration.md": configuration_reference(),
        api: f"{before}{BEGIN}\n\n{server_reference()}\n{END}{after}",
    }


def server_reference() -> str:
    """The settings of the server."""
    return "\n".join(
        f"### `[{name}]`\n\n{model.__doc__}\n\n{settings_table(model)}"
        for name, model in _SERVER.items()
    )


def configuration_reference() -> str:
    """The settings of tools."""
    parts = [_INTRODUCTION, _EXAMPLE, "## `[tools.NAME]`\n", "### Every tool\n"]
    parts.append(settings_table(CommonSettings))
    for title, model in _SECTIONS:
        parts += [
            f"### {title}\n",
            f"{_first_line(model)}\n",
            settings_table(model, CommonSettings),
        ]
        if model is SequenceTool:
            parts += [f"{_first_line(SequenceStep)}\n", settings_table(SequenceStep)]
    parts += ["## `[mcp.NAME]`\n", f"{_text(McpServerSettings).strip()}\n"]
    parts.append(settings_table(McpServerSettings))
    return "\n".join(parts)


def _first_line(model: type[BaseModel]) -> str:
    return _text(model).partition("\n")[0]


def _text(model: type[BaseModel]) -> str:
    return "\n".join(line.strip() for line in (model.__doc__ or "").splitlines())


def settings_table(model: type[BaseModel], base: type[BaseModel] | None = None) -> str:
    """A table of a model's settings, without those that `base` describes just as well."""
    rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for name, info in model.model_fields.items():
        if name == "type" or (base is not None and _is_inherited(name, info, base)):
            continue
        kind = _type_name(info.annotation).replace("|", "\\|")
        meaning = (info.description or "").replace("|", "\\|")
        rows.append(f"| `{info.alias or name}` | {kind} | {_default(info)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _is_inherited(name: str, info: FieldInfo, base: type[BaseModel]) -> bool:
    above = base.model_fields.get(name)
    return above is not None and above.description == info.description


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "" if info.default_factory is not None else "required"
    if info.default is None:
        return ""
    return f"`{str(info.default).lower() if isinstance(info.default, bool) else info.default}`"


def _type_name(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_names_without_none(annotation))
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in typing.get_args(annotation))
    if origin is list:
        return f"list of {_type_name(typing.get_args(annotation)[0])}"
    if origin is dict:
        return "table"
    if origin is typing.Annotated:
        return _type_name(typing.get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(f'`"{value}"`' for value in annotation)
    return _PLAIN_NAMES.get(annotation, "any value")


def _names_without_none(annotation: Any) -> Iterator[str]:
    return (_type_name(kind) for kind in typing.get_args(annotation) if kind is not type(None))


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, "utf-8")
