import doctest
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_examples_in_the_protocol_do_what_they_say() -> None:
    failed, attempted = doctest.testfile(str(DOCS / "reference" / "cml.md"), module_relative=False)
    assert attempted >= 15
    assert failed == 0
