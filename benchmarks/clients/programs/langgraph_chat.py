"""LangGraph's agent on chat completions."""

from common import BASE, KEY, MODEL, SYSTEM, get_time, get_weather, question
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent

model = ChatOpenAI(model=MODEL, base_url=BASE, api_key=KEY)
agent = create_react_agent(model, [get_weather, get_time], prompt=SYSTEM)
print(agent.invoke({"messages": [("user", question())]})["messages"][-1].content)
