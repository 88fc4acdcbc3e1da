"""Large bodies: refused before anything is made of them, and nobody waits meanwhile."""

import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from caesura.server import body_scan
from caesura.server.answers.chat import ChatRequest
from caesura.server.answers.responses import ResponseRequest
from caesura.server.bodies import MOST_NAMES, ON_LOOP_BYTES, BodyLimits, read_json, require_shape
from caesura.server.body_scan import DEEPEST, MOST_VALUES
from caesura.server.errors import ApiError
from caesura.server.sessions.schemas import MOST_MESSAGES, CreateSession
from caesura.server.sessions.service import MOST_CHARACTERS_PER_TOKEN
from server.served import JSON, human, served
from support.draws import examples
from support.work import lines_counted, lines_run, most_memory

LARGE_BYTES = 4 * 2**20
ANY = BodyLimits(2**30)
MESSAGE = b'{"role":"user","content":"x"}'


def filled(begin: bytes, unit: bytes, end: bytes, size_bytes: int = LARGE_BYTES) -> bytes:
    """A body of about that size in which a unit is repeated, with commas between."""
    count = (size_bytes - len(begin) - len(end)) // (len(unit) + 1)
    return begin + b",".join([unit] * count) + end


REFUSED = {
    "empty messages": (b'{"messages":[', b'{"role":"user","content":""}', b"]}"),
    "wrong messages": (b'{"messages":[', b'{"role":"u"}', b"]}"),
    "lists in a field": (b'{"messages":[{"role":"user","content":"x","m":[', b"[]", b"]}]}"),
    "wrong parts": (b'{"messages":[{"role":"user","content":[', b'{"type":1}', b"]}]}"),
    "texts": (b'{"messages":[{"role":"user","content":"x"}],"tools":[', b'""', b"]}"),
    "numbers": (b'{"messages":[', b"1", b"]}"),
    "not even JSON": (b"", b'"', b""),
    "unknown names": (b"{", b'"a":1', b"}"),
}
DEEP = b"[" * LARGE_BYTES
TEXTS = {
    "one text": b'{"content":"%s"}' % (b"a" * LARGE_BYTES),
    "quotation marks": b'{"content":"%s"}' % (b'\\"' * (LARGE_BYTES // 2)),
    "backslashes": b'{"content":"%s"}' % (b"\\\\" * (LARGE_BYTES // 2)),
    "escapes": b'{"content":"%s"}' % (b"\\u00e9" * (LARGE_BYTES // 6)),
    "brackets and commas": b'{"content":"%s"}' % (b"[{,]}" * (LARGE_BYTES // 5)),
    "blanks": b'{"content":%s"x"}' % (b" " * LARGE_BYTES),
}


@pytest.mark.parametrize("body", [*(filled(*parts) for parts in REFUSED.values()), DEEP])
def test_what_has_too_many_values_is_refused_by_passing_over_it(body: bytes) -> None:
    def refused() -> None:
        with pytest.raises(ApiError) as error:
            read_json(body, ANY)
        assert (error.value.status_code, error.value.code) == (400, "body_too_complex")

    assert lines_run(refused) < 1000
    with most_memory() as memory:
        refused()
        assert memory() < 10 * len(body)


@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS)
def test_texts_may_have_anything(body: bytes) -> None:
    value = json.loads(body)
    assert lines_run(lambda: read_json(body, ANY)) < 4000  # some for each slice
    with most_memory() as memory:
        assert read_json(body, ANY) == value
        assert memory() < 10 * len(body)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("fits", "too_much"),
    [
        (as_json([0] * MOST_VALUES), as_json([0] * (MOST_VALUES + 1))),
        (b"[" * DEEPEST + b"]" * DEEPEST, b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1)),
        (b'{"a":' * DEEPEST + b"1" + b"}" * DEEPEST, b"[" + b'{"a":' * DEEPEST + b"1"),
        (
            as_json({str(n): 0 for n in range(MOST_NAMES)}),
            as_json([{str(n): 0 for n in range(MOST_NAMES + 1)}]),
        ),
    ],
    ids=["values", "lists", "objects", "names"],
)
def test_limits(fits: bytes, too_much: bytes) -> None:
    assert read_json(fits, ANY) == json.loads(fits)
    with pytest.raises(ApiError, match="the body has"):
        read_json(too_much, ANY)


def test_characters_are_counted_in_all_texts() -> None:
    body = json.dumps({"a": ["é" * 4, {"b": "\U0001f600" * 3}], "c": 1}).encode()
    assert read_json(body, BodyLimits(100, characters=7))
    with pytest.raises(ApiError) as refused:
        read_json(body, BodyLimits(100, characters=6))
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(ApiError, match=r"server\.body_limit"):
        read_json(body, BodyLimits(20))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text('ab"\\,[]{}:é\u2028\n'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('a"\\[,'), inner),
)


@settings(max_examples=examples(200), deadline=None)
@given(values, st.booleans())
def test_the_count_is_exact(value: object, escaped: bool) -> None:
    body = json.dumps(value, ensure_ascii=escaped).encode()
    count, depth = _shape(value)
    with pytest.MonkeyPatch.context() as changed:
        for most_values, deepest, fits in (
            (count, depth, True), (count - 1, depth, count == 0), (count, depth - 1, depth == 0)
        ):  # fmt: skip
            changed.setattr(body_scan, "MOST_VALUES", max(most_values, 0))
            changed.setattr(body_scan, "DEEPEST", max(deepest, 0))
            if fits:
                _require_unquoted(body)
                continue
            with pytest.raises(ApiError):
                require_shape(body)


def _require_unquoted(body: bytes) -> None:
    """The number of texts has a bound of its own."""
    if body.count(b'"') <= 4 * body_scan.MOST_VALUES:
        require_shape(body)


def _shape(value: object) -> tuple[int, int]:
    """Brackets and commas of a value, and its depth."""
    if not isinstance(value, list | dict):
        return 0, 0
    inner = [_shape(each) for each in (value.values() if isinstance(value, dict) else value)]
    counts = sum(count for count, _ in inner)
    depth = max((depth for _, depth in inner), default=0)
    return counts + max(1, len(inner)), depth + 1


@pytest.mark.parametrize(
    "wrong", [b'{"a": \\"1\\"}', b'"\\', b'"a"b"', b'["a\\\\"x"]', b"\xff", b'"']
)
def test_what_is_not_json_is_said_so(wrong: bytes) -> None:
    with pytest.raises((json.JSONDecodeError, ApiError), match=r"JSON|line 1|column"):
        read_json(wrong, ANY)


def test_other_encodings_than_utf8_are_refused() -> None:
    """Their bytes would not be what is counted."""
    assert read_json(b"\xef\xbb\xbf" + as_json({"a": 1}), ANY) == {"a": 1}
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        with pytest.raises(ApiError, match="UTF-8"):
            read_json('{"a": "b"}'.encode(encoding), ANY)


PLACES = ("/v1/sessions", "/v1/sessions/x/messages", "/v1/approvals/x", "/v1/chat/completions")


@pytest.mark.parametrize("kind", REFUSED)
async def test_no_route_does_more_on_the_loop_for_a_larger_body(tmp_path: Path, kind: str) -> None:
    async with served(tmp_path / "db", human(), body_limit=2 * LARGE_BYTES) as server:
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for place in PLACES:
                field = b'{"caesura": {"tools": "all"}, "more": ' if "chat" in place else b""
                end = b"}" if field else b""
                run = []
                for size_bytes in (ON_LOOP_BYTES * 2, LARGE_BYTES):
                    body = field + filled(*REFUSED[kind], size_bytes=size_bytes) + end
                    with lines_counted() as lines:
                        answer = await client.post(place, content=body, headers=JSON)
                    run.append(lines())
                    assert answer.status_code in (400, 404), (place, answer.text)
                small, large = run
                assert large < 2 * small + 1000


WRONG = {
    "messages": [{"role": "u"}] * (MOST_MESSAGES - 1),
    "parts": [{"role": "user", "content": [{"type": 1}] * 20_000}],
    "calls": [{"role": "assistant", "tool_calls": [{"a": 1}] * 20_000}],
    "items": [1] * (MOST_MESSAGES - 1),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("form", [CreateSession, ChatRequest, ResponseRequest])
def test_the_first_error_ends_the_validation(form: type[BaseModel], wrong: list[object]) -> None:
    """As many as a message may be kinds of, at most."""
    name = "input" if form is ResponseRequest else "messages"
    more = {} if form is CreateSession else {"caesura": {"tools": []}}
    with pytest.raises(ValidationError) as refused:
        form.model_validate({name: wrong, **more})
    assert refused.value.error_count() < 20


@pytest.mark.parametrize(
    ("form", "fields"),
    [(CreateSession, {}), (ChatRequest, {"caesura": {"tools": [1] * 20_000}})],
)
def test_names_of_tools_that_are_none_are_not_all_listed(
    form: type[BaseModel], fields: dict[str, object]
) -> None:
    with pytest.raises(ValidationError) as refused:
        form.model_validate(
            {"messages": [{"role": "user", "content": "x"}], "tools": [1] * 20_000, **fields}
        )
    assert refused.value.error_count() < 20


async def test_messages_have_a_number(tmp_path: Path) -> None:
    async with served(tmp_path / "db") as server:
        for place in ("/v1/sessions", "/v1/chat/completions", "/v1/responses"):
            name = "input" if "responses" in place else "messages"
            said = {"role": "user", "content": "x"}
            asked = {name: [said] * (MOST_MESSAGES + 1)}
            if "sessions" not in place:
                asked["caesura"] = {"tools": []}
            answer = await server.client.post(place, json=asked)
            assert answer.status_code == 400
            assert answer.json()["error"]["param"].startswith(name)


async def test_what_can_never_fit_the_context_is_not_tokenised(tmp_path: Path) -> None:
    async with served(tmp_path / "db", context_tokens=10) as server:
        made = await server.session("hello")
        most = 10 * MOST_CHARACTERS_PER_TOKEN
        for place in ("/v1/sessions", f"/v1/sessions/{made['id']}/messages"):
            text = "x" * most
            said = {"content": text} if "messages" in place else {"messages": [{"content": text}]}
            answer = await server.client.post(place, json=said | {"x" * 8: "x" * 8})
            assert answer.json()["error"]["code"] == "context_length_exceeded"
