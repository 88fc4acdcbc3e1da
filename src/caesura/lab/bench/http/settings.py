"""What a comparison of servers runs."""

from collections.abc import Sequence
from typing import Annotated, Self
from urllib.parse import urlsplit

from cyclopts import Parameter
from pydantic import Field, PositiveInt, SecretStr, model_validator

from caesura.lab.bench.settings import DrawnSettings
from caesura.lab.settings import ENGINE, Distinct, Listed
from caesura.policy_options import Option

_NOT_HERE = Parameter(parse=False)  # settings of engines that are started


class HttpSettings(DrawnSettings):
    """A comparison of servers that run already.

    Attributes:
        base_urls: An OpenAI-compatible server, such as http://127.0.0.1:8000/v1. Repeatable.
        policies: What the servers are called in tables and figures, in the same order; ratios are
            against stock. Default: their addresses.
        model: As the servers call it. Default: the first that each one names.
        api_key: For all servers. Default: the variable OPENAI_API_KEY.
        session_ids: Send X-Session-ID, one for each session; else clients are as they always were.
        max_context_tokens: Truncate sessions to this many tokens. Default: what the servers say.
    """

    base_urls: Annotated[Listed[str], Field(min_length=1), Parameter("--base-url", metavar="URL")]
    policies: Annotated[Distinct[str], Parameter("--names", show_default=False)] = ("",)
    model: Annotated[str | None, Parameter(group=ENGINE)] = None
    api_key: Annotated[
        SecretStr | None,
        Field(exclude=True),
        Parameter(group=ENGINE, env_var="OPENAI_API_KEY", show_env_var=False),
    ] = None
    session_ids: bool = False
    max_context_tokens: Annotated[PositiveInt | None, Parameter("--max-context")] = None
    policy_options: Annotated[dict[str, Option], _NOT_HERE] = Field(default_factory=dict)
    kv_memory_bytes: Annotated[int | None, _NOT_HERE] = None
    host_memory_bytes: Annotated[int, _NOT_HERE] = 0
    shared_prefix_tokens: Annotated[int, _NOT_HERE] = 0
    trace_path: Annotated[None, _NOT_HERE] = None

    @model_validator(mode="before")
    @classmethod
    def _name_by_address(cls, values: object) -> object:
        if isinstance(values, dict) and not values.get("policies"):
            urls = values.get("base_urls") or ()
            if isinstance(urls, Sequence) and not isinstance(urls, str):
                values = {**values, "policies": [urlsplit(url).netloc or url for url in urls]}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.policies) != len(self.base_urls):
            raise ValueError(
                f"there are {len(self.base_urls)} servers and {len(self.policies)} names: give "
                "--names one name for each --base-url"
            )
        for url in self.base_urls:
            if urlsplit(url).scheme not in ("http", "https"):
                raise ValueError(f"{url!r} is no address: it begins with http:// or https://")
        return self

    @property
    def extent(self) -> str:
        """How long a run is, for people."""
        ids = "with" if self.session_ids else "without"
        return f"{self.sessions} sessions per run over HTTP, {ids} session ids"
