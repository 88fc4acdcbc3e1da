"""Tools that are Python functions."""

import asyncio
import contextvars
import importlib
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, to_json

from caesura.tools.call import JournalUnavailable
from caesura.tools.callable_schema import CallableSchema, callable_schema
from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.failure import AttemptFailed, ToolError, ToolRaised
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import PythonTool

# A thread cannot be stopped. A tool that leaves so many behind is not run again.
_MAX_LEFT_THREADS = 64


class PythonEndpoint(Endpoint):
    """A Python function, awaited or run in a thread of its own.

    Args:
        name: the tool's name.
        settings: its settings.
        function: the function.

    Raises:
        ValueError: its signature cannot be offered to a model.
    """

    def __init__(self, name: str, settings: PythonTool, function: Callable[..., Any]) -> None:
        self._schema: CallableSchema = callable_schema(function)
        description = settings.description or self._schema.description
        super().__init__(
            Definition(name, description, ArgumentSchema(self._schema.document)), settings
        )
        self._function = function
        self._reference = settings.callable
        self._most_bytes = settings.max_result_bytes
        self._left_threads = 0

    @property
    def provider(self) -> str:
        """The function's reference."""
        return self._reference

    def check(self, arguments: Mapping[str, JsonValue]) -> None:
        """Check arguments, converting them where a person would ("5" is a number)."""
        self._schema.values(arguments)

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        """Call the function; what it returns becomes text, or JSON."""
        values = self._schema.values(arguments)
        if self._schema.context_parameter is not None:
            values[self._schema.context_parameter] = context
        try:
            if inspect.iscoroutinefunction(self._function):
                returned = await self._function(**values)
            else:
                returned = await self._in_thread(lambda: self._run(values))
            # Also for decorators around `async` functions, which give what is to be awaited.
            return await _result(returned, self._most_bytes)
        except (AttemptFailed, JournalUnavailable):
            raise
        except ToolError as error:
            raise AttemptFailed(str(error)) from None
        except (Exception, SystemExit) as error:
            raise ToolRaised(
                f"{self.definition.name} failed with {type(error).__name__}"
            ) from error

    def _run(self, values: dict[str, Any]) -> object:
        """Call the function; text, or what must be awaited."""
        returned = self._function(**values)
        if inspect.isawaitable(returned) or isinstance(returned, AsyncIterator):
            return returned
        if isinstance(returned, Iterator):
            pieces = _Pieces(self._most_bytes)
            for piece in returned:
                if not pieces.add(piece):
                    break
            returned = pieces.joined()
        return _as_text(returned)

    async def _in_thread(self, run: Callable[[], object]) -> object:
        """Run in a thread of its own: one that hangs then holds up neither others nor the end."""
        if self._left_threads >= _MAX_LEFT_THREADS:
            raise AttemptFailed(f"{self._left_threads} earlier calls of this tool still hang")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        variables = contextvars.copy_context()

        def finish(deliver: Callable[[], None]) -> None:
            if future.cancelled():
                self._left_threads -= 1
            else:
                deliver()

        def work() -> None:
            try:
                deliver = partial(future.set_result, variables.run(run))
            except BaseException as error:  # whatever it is, it belongs to the one who waits
                deliver = partial(future.set_exception, _deliverable(error))
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, deliver)

        threading.Thread(target=work, name=self.definition.name, daemon=True).start()
        try:
            return await future
        finally:
            if future.cancelled():
                self._left_threads += 1


def load_function(reference: str, directory: Path) -> Callable[..., Any]:
    """Import the function of a `module:function` reference.

    Args:
        reference: which.
        directory: where modules are looked for after all other places.

    Raises:
        ValueError: there is none; the message says why.
    """
    module_name, _, name = reference.partition(":")
    if str(directory) not in sys.path:
        sys.path.append(str(directory))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # an import runs code that may raise anything
        raise ValueError(
            f"cannot import {module_name!r}: {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"{module_name!r} has no function {name!r}; check its spelling")
    return function  # type: ignore[no-any-return]


def _deliverable(error: BaseException) -> Exception:
    """An exception that a future takes: not every one, `StopIteration` and `SystemExit` are not."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(type(error).__name__)


async def _result(value: object, most_bytes: int) -> str:
    """The text of what an `async` function gives: its result, or all that it yields."""
    if inspect.isawaitable(value):
        value = await value
    if isinstance(value, AsyncIterator):
        pieces = _Pieces(most_bytes)
        async for piece in value:
            if not pieces.add(piece):
                break
        value = pieces.joined()
    return _as_text(value)


class _Pieces:
    """What a generator yields, until it is more than a result may be."""

    def __init__(self, most_bytes: int) -> None:
        self._pieces: list[object] = []
        self._left = most_bytes

    def add(self, piece: object) -> bool:
        """Take one; whether more is wanted."""
        self._pieces.append(piece)
        self._left -= len(piece) if isinstance(piece, str) else 1
        return self._left >= 0

    def joined(self) -> object:
        """Texts as one text, all else as a list."""
        texts = [piece for piece in self._pieces if isinstance(piece, str)]
        return "".join(texts) if texts and len(texts) == len(self._pieces) else self._pieces


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    try:
        return to_json(value, inf_nan_mode="null").decode()
    except (PydanticSerializationError, ValueError, RecursionError):
        raise AttemptFailed(
            f"the tool returned a {type(value).__name__}, which is neither text nor JSON"
        ) from None
