from urllib.parse import parse_qsl, unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from caesura.tools.environment import Environment
from caesura.tools.failure import InvalidArguments
from caesura.tools.http_request import RequestError, RequestTemplate, request_template
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import HttpTool

URL = "http://user.example:8080/v1/{place}/items?fixed=1&q={query}"


def template(**settings: JsonValue) -> RequestTemplate:
    names = ("place", "query", "other")
    parameters: JsonValue = {"required": ["place"], "properties": {name: {} for name in names}}
    data = {"type": "http", "url": URL, "parameters": parameters, **settings}
    tool = HttpTool.model_validate(data, context=Environment({}))
    return request_template(tool, ArgumentSchema.closed(tool.parameters))


def path_segments(request: httpx.Request) -> list[str]:
    return request.url.raw_path.decode().partition("?")[0].split("/")


@given(st.text(), st.text(max_size=50), st.text(max_size=50))
def test_no_value_changes_host_path_structure_or_the_names_in_the_query(
    place: str, query: str, other: str
) -> None:
    arguments: dict[str, JsonValue] = {"place": place, "query": query, "other": other}
    try:
        request = template(query={"extra": "<{other}>"}).request(arguments)
    except InvalidArguments:
        return
    assert (request.url.scheme, request.url.host, request.url.port) == (
        "http",
        "user.example",
        8080,
    )
    assert request.headers["host"] == "user.example:8080"
    segments = path_segments(request)
    assert (segments[:2], segments[3:]) == (["", "v1"], ["items"])
    encodable = place.encode(errors="replace").decode()
    assert unquote(segments[2]) == encodable
    pairs = parse_qsl(request.url.query.decode(), keep_blank_values=True)
    assert [name for name, _ in pairs] == ["fixed", "q", "extra"]
    assert pairs[1][1] == query.encode(errors="replace").decode()
    assert pairs[2][1] == f"<{other}>".encode(errors="replace").decode()


@pytest.mark.parametrize(
    "place", ["", ".", "..", "a/b", "../admin", "a\\b", "a\r\nHost: evil", "a\0b", "x" * 9000]
)
def test_a_value_that_would_be_structure_is_refused(place: str) -> None:
    with pytest.raises(InvalidArguments, match=r"path|address"):
        template().request({"place": place, "query": ""})


def test_dots_around_a_value_are_no_way_up_either() -> None:
    with pytest.raises(InvalidArguments, match="cannot be"):
        template(url="http://h/a/.{place}/b").request({"place": "."})


@given(st.text())
def test_no_value_adds_a_header(place: str) -> None:
    made = template(
        url="http://h/{other}",
        headers={"X-Place": "at {place}"},
        parameters={
            "required": ["other"],
            "properties": {"place": {}, "other": {}},
        },
    )
    plain = dict(made.request({"other": "x"}).headers)
    try:
        request = made.request({"other": "x", "place": place})
    except InvalidArguments:
        assert any(not " " <= c <= "~" for c in place)
        return
    headers = dict(request.headers)
    assert headers.pop("x-place") == f"at {place}".strip()
    assert headers == plain
    assert len(request.headers.raw) == len(plain) + 1


def test_lists_repeat_a_name_and_null_leaves_it_out() -> None:
    made = template(query={"tag": "{other}"})
    listed = made.request({"place": "a", "query": None, "other": ["x", 2, True]})
    assert listed.url.query == b"fixed=1&tag=x&tag=2&tag=true"


def test_the_rest_is_the_body_or_the_query() -> None:
    arguments: dict[str, JsonValue] = {"place": "a", "query": "b", "other": {"c": [1]}}
    assert template(method="POST").request(arguments).content == b'{"other":{"c":[1]}}'
    get = template().request(arguments)
    assert (get.content, get.url.query) == (b"", b"fixed=1&q=b&other=%7B%22c%22%3A%20%5B1%5D%7D")


def test_a_body_keeps_types_and_leaves_out_what_is_not_given() -> None:
    made = template(method="PUT", json={"n": "{other}", "q": "<{query}>", "fixed": True})
    full = made.request({"place": "a", "query": "b", "other": [1, 2]})
    assert full.content == b'{"n":[1,2],"q":"<b>","fixed":true}'
    assert made.request({"place": "a"}).content == b'{"fixed":true}'


@pytest.mark.parametrize(
    ("settings", "key", "message"),
    [
        ({"url": "ftp://h/"}, ("url",), "must begin with http"),
        ({"url": "http://{place}/"}, ("url",), "the host cannot come from an argument"),
        ({"url": "http://h{place}/"}, ("url",), "the host cannot come from an argument"),
        ({"url": "http://h:{place}/"}, ("url",), "the host cannot come from an argument"),
        ({"url": "http://h/#{place}"}, ("url",), "has a fragment"),
        ({"url": "http://h/a b"}, ("url",), "has white space"),
        ({"url": "http://h/{nobody}"}, ("url",), "is no argument"),
        ({"url": "http://h/{query}"}, ("url",), "can be missing"),
        ({"url": "http://h/{"}, ("url",), "a lone"),
        ({"url": "http://h/?{query}=1"}, ("url",), "names in the query"),
        ({"headers": {"X": "{"}}, ("headers", "X"), "a lone"),
        ({"headers": {"X": "a\nb"}}, ("headers", "X"), "only printable"),
        ({"query": {"q": "{nobody}"}}, ("query", "q"), "is no argument"),
        ({"json": ["{nobody}"]}, ("json",), "is no argument"),
    ],
)
def test_a_template_that_cannot_be_used_names_its_setting(
    settings: dict[str, JsonValue], key: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        template(**settings)
    assert caught.value.key == key
