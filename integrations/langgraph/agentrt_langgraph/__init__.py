"""agentrt for LangGraph: who calls, for which conversation, and what comes next, without touching graph code.

graph = instrument(graph, runtime)          # one graph
@instrumented(runtime)                      # every graph a function builds
{"callbacks": [AgentRTCallbackHandler(runtime)]}
install(runtime)                            # every graph of the process
create_agent(..., middleware=[AgentRTMiddleware(runtime)])       # public interfaces only
add_node("a", wrap_node(fn, "planner"))     # the node's agent, said by its own code; `agentrt.agent` says it inside one
"""

from typing import TYPE_CHECKING, Any

from agentrt.ambient import current
from agentrt_langgraph.handler import AgentRTCallbackHandler
from agentrt_langgraph.instrument import install, instrument, instrumented, uninstall
from agentrt_langgraph.nodes import wrap_node
from agentrt_langgraph.raw_threads import propagate_threads

if TYPE_CHECKING:
    from agentrt_langgraph.middleware import AgentRTMiddleware

__all__ = [
    "AgentRTCallbackHandler",
    "AgentRTMiddleware",
    "current",
    "install",
    "instrument",
    "instrumented",
    "propagate_threads",
    "uninstall",
    "wrap_node",
]


def __getattr__(name: str) -> Any:
    """`AgentRTMiddleware` needs the langchain package, which nothing else here does: imported when asked for."""
    if name == "AgentRTMiddleware":
        from agentrt_langgraph.middleware import AgentRTMiddleware  # noqa: PLC0415 - as said

        return AgentRTMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
