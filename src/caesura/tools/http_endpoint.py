"""Tools behind HTTP."""

from collections.abc import Mapping

from pydantic import JsonValue

from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.http_client import HttpClient
from caesura.tools.http_request import RequestTemplate
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import HttpTool


class HttpEndpoint(Endpoint):
    """Sends a request and returns the answer's text.

    Args:
        name: the tool's name.
        settings: its settings.
        schema: of its arguments.
        template: how they become a request.
    """

    def __init__(
        self,
        name: str,
        settings: HttpTool,
        schema: ArgumentSchema,
        template: RequestTemplate,
    ) -> None:
        super().__init__(Definition(name, settings.description or "", schema), settings)
        self._template = template
        self._client = HttpClient("the tool's server")
        self.aclose = self._client.aclose

    @property
    def provider(self) -> str:
        """The method and the host, without a password."""
        scheme, _, host = self._template.origin.partition("://")
        return f"{self._template.method} {scheme}://{host.rpartition('@')[2]}"

    def check(self, arguments: Mapping[str, JsonValue]) -> None:
        """Check that the arguments fit and that a request can be made of them."""
        super().check(arguments)
        self._template.request(arguments)

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        """Send the request."""
        request = self._template.request(arguments)
        return await self._client.text(request, self.settings.max_result_bytes)
