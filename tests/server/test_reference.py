from pathlib import Path

from caesura.server.reference import server_reference

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "reference" / "http-api.md"


def test_the_document_is_what_the_settings_say() -> None:
    assert server_reference() in DOCUMENT.read_text("utf-8"), (
        "put what `python -m caesura.server.reference` writes into docs/reference/http-api.md"
    )
