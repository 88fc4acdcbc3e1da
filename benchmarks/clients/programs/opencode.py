"""opencode on chat completions; it asks for a title, too."""

import json
from pathlib import Path

from command import run
from common import BASE, KEY, MODEL, question

provider = {
    "npm": "@ai-sdk/openai-compatible",
    "name": "local",
    "options": {"baseURL": BASE, "apiKey": KEY},
    "models": {MODEL: {"name": MODEL}},
}
settings = {"provider": {"local": provider}, "permission": "allow"}
Path("opencode.json").write_text(json.dumps(settings))
run("opencode", "run", "-m", f"local/{MODEL}", question("opencode"))
