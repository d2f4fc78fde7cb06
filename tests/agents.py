"""Runs agents in every mode, for tests that do not care which."""

import asyncio
import itertools
from typing import Any

THREADS = itertools.count()


def thread() -> Any:
    """A conversation of its own."""
    return {"configurable": {"thread_id": f"t{next(THREADS)}"}}


def go(graph: Any, mode: str = "invoke", given: Any = None, config: Any = None) -> Any:
    """Run the graph; the final state, in every mode."""
    given = {"messages": "1+2?"} if given is None else given
    config = thread() if config is None else config

    async def last() -> Any:
        found = None
        async for chunk in graph.astream(given, config, stream_mode="values"):
            found = chunk
        return found

    if mode == "invoke":
        return graph.invoke(given, config)
    if mode == "ainvoke":
        return asyncio.run(graph.ainvoke(given, config))
    if mode == "stream":
        return list(graph.stream(given, config, stream_mode="values"))[-1]
    return asyncio.run(last())
