"""The agent of smolagents that writes code, whose turns end at a stop string."""

from common import BASE, KEY, MODEL, get_time, get_weather, question
from smolagents import CodeAgent, OpenAIServerModel, tool

model = OpenAIServerModel(MODEL, api_base=BASE, api_key=KEY)
agent = CodeAgent([tool(get_weather), tool(get_time)], model, max_steps=4)
print(agent.run(question("code")))
