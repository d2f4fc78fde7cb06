"""Teams of agents, as three libraries build them."""

from typing import Any

from deepagents import create_deep_agent
from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm

from tests.differential.cases import ASK, Kit, case
from tests.differential.graphs.agents import SUM, add, quietly


@case(ASK)
def supervisor(kit: Kit) -> Any:
    adder = quietly(create_agent, kit.calling(SUM), [add], name="adder")
    boss = kit.model([("transfer_to_adder", {})], "all", "is", "done")
    return quietly(create_supervisor, [adder], model=boss).compile(checkpointer=InMemorySaver())


@case(ASK, {"messages": "more"})
def swarm(kit: Kit) -> Any:
    to_bob = create_handoff_tool(agent_name="bob")
    alice = create_agent(kit.calling(("transfer_to_bob", {})), [to_bob], name="alice")
    bob = create_agent(kit.model("hi", "bob here"), [], name="bob")
    return create_swarm([alice, bob], default_active_agent="alice").compile(checkpointer=InMemorySaver())


@case(ASK)
def deep_agent(kit: Kit) -> Any:
    model = kit.model([("task", {"description": "add", "subagent_type": "adder"})], "all done")
    adder: Any = {
        "name": "adder",
        "description": "adds",
        "system_prompt": "Add.",
        "tools": [add],
        "model": kit.calling(SUM),
    }
    return create_deep_agent(model, subagents=[adder], checkpointer=InMemorySaver())
