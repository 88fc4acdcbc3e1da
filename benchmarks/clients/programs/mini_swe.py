"""mini-swe-agent, by LiteLLM."""

import os

os.environ["MSWEA_COST_TRACKING"] = "ignore_errors"
os.environ["MSWEA_SILENT_STARTUP"] = "1"

import yaml
from common import BASE, KEY, MODEL, question
from minisweagent.agents.default import DefaultAgent
from minisweagent.config import builtin_config_dir
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models import get_model

settings = yaml.safe_load((builtin_config_dir / "mini.yaml").read_text())
model = get_model(
    f"hosted_vllm/{MODEL}",
    settings["model"] | {"model_kwargs": {"api_base": BASE, "api_key": KEY}},
)
agent_settings = {
    name: value for name, value in settings["agent"].items() if name not in ("mode", "confirm_exit")
}
agent = DefaultAgent(model, LocalEnvironment(**settings.get("environment", {})), **agent_settings)
print(agent.run(question("bash")))
