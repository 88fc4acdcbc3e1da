"""LangGraph's agent on Anthropic's messages."""

from common import KEY, MODEL, SYSTEM, URL, get_time, get_weather, question
from langchain_anthropic import ChatAnthropic
from langgraph.prebuilt import create_react_agent

model = ChatAnthropic(model=MODEL, base_url=URL, api_key=KEY)
agent = create_react_agent(model, [get_weather, get_time], prompt=SYSTEM)
print(agent.invoke({"messages": [("user", question())]})["messages"][-1].text)
