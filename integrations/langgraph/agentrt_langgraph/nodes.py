"""Naming a node's agent from its own code, without renaming the node."""

from collections.abc import Callable
from typing import Any, Self, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from agentrt.ambient import Scoped, agent_name
from agentrt_langgraph.references import AGENT_MARK
from agentrt_langgraph.trackers import live_trackers

Node = TypeVar("Node", bound=Callable[..., Any] | Runnable[Any, Any])


def wrap_node(node: Node, agent: str, *, session: str | None = None, tenant: str | None = None) -> Node:
    """A node that stands for this agent, whatever the node itself is called.

        graph.add_node("step_1", wrap_node(plan, "planner"))

    `node`: a function, coroutine function or generator function, with any of the parameters LangGraph fills in, a
    callable object, or a Runnable, such as a compiled graph. Functions keep their signature and annotations
    (`Command[Literal[...]]` too) and Runnables come back as Runnables, so that LangGraph treats them as before.
    `session` and `tenant` say whose the calls inside are; None keeps those of the run. Outside observed graphs it only
    calls the node. Raises ValueError for names that cannot be an agent's, TypeError for what cannot be called.
    """
    scoped = _NodeScope(agent_name(agent), session=session, tenant=tenant)
    wrapped: Any
    if isinstance(node, Runnable):
        wrapped = _wrap_runnable(node, scoped)
    elif callable(node):
        wrapped = scoped(node)
    else:
        raise TypeError(f"wrap_node() takes a function or a Runnable, not {type(node).__name__}")
    setattr(wrapped, AGENT_MARK, agent)
    return cast("Node", wrapped)


class _NodeScope(Scoped):
    """Names the node that runs it. For what is inside, it is no agent under the node's: it is the node's."""

    def __init__(self, agent: str, *, session: str | None, tenant: str | None) -> None:
        super().__init__(None, session=session, tenant=tenant)
        self._agent = agent

    def __enter__(self) -> Self:
        for tracker in live_trackers():
            try:
                tracker.name_node(self._agent)
            except Exception as error:
                tracker.runtime.fault("wrap_node", error)
        return super().__enter__()


def _wrap_runnable(inner: Runnable[Any, Any], scoped: Scoped) -> Runnable[Any, Any]:
    def invoke(state: Any, config: RunnableConfig) -> Any:
        with scoped:
            return inner.invoke(state, config)

    async def ainvoke(state: Any, config: RunnableConfig) -> Any:
        with scoped:
            return await inner.ainvoke(state, config)

    return RunnableLambda(invoke, afunc=ainvoke, name=inner.get_name())
