"""Codex CLI, with a provider of one's own on responses."""

from command import run
from common import BASE, MODEL, question

PROVIDER = f'{{name="local", base_url="{BASE}", wire_api="responses", env_key="CLIENT_KEY"}}'
run(
    *("codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
    *("-m", MODEL, "-c", "model_provider=local", "-c", f"model_providers.local={PROVIDER}"),
    question("codex"),
)
