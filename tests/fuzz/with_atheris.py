"""Let atheris look for bytes that break CML: `PYTHONPATH=tests python tests/fuzz/with_atheris.py`.

libFuzzer's options apply, such as `-max_total_time=60`, or a file that was found, to play it again.
"""

import sys

import atheris

with atheris.instrument_imports(include=["caesura.cml"]):
    from fuzz.fuzz_cml import check

if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
