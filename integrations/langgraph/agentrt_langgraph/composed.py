"""The way in when `ToolNode` is not as we know it: its public arguments `wrap_tool_call` and `awrap_tool_call`.

Covers nodes built from then on. A question to a human is refused here: several calls of one node would ask at once,
and the answer to one could be taken by another.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from agentrt_langgraph.gating import Gated
from agentrt_langgraph.standin import aanswered, answered

Decide = Callable[[Any, Any], Gated | None]


def compose(original: Callable[..., Any], *, decide: Decide, is_wanted: Callable[[], bool]) -> Callable[..., Any]:
    """`ToolNode.__init__` with our wrappers around the user's, as long as they are wanted."""

    @wraps(original)
    def init(self: Any, *args: Any, wrap_tool_call: Any = None, awrap_tool_call: Any = None, **kwargs: Any) -> None:
        if not is_wanted():
            given = {"wrap_tool_call": wrap_tool_call, "awrap_tool_call": awrap_tool_call}
            original(self, *args, **given, **kwargs)
            return
        wrappers = {"wrap_tool_call": _wrap(wrap_tool_call, decide)}
        # A node with only a sync wrapper uses it in async runs too: another would leave the user's out.
        if awrap_tool_call is not None or wrap_tool_call is None:
            wrappers["awrap_tool_call"] = _awrap(awrap_tool_call, decide)
        original(self, *args, **wrappers, **kwargs)

    return init


def _wrap(theirs: Any, decide: Decide) -> Callable[..., Any]:
    def wrap(request: Any, execute: Any) -> Any:
        run = partial(theirs, request, execute) if theirs is not None else partial(execute, request)
        return answered(decide(request.tool_call, request.tool), run)

    return wrap


def _awrap(theirs: Any, decide: Decide) -> Callable[..., Any]:
    async def wrap(request: Any, execute: Any) -> Any:
        run = partial(theirs, request, execute) if theirs is not None else partial(execute, request)
        return await aanswered(decide(request.tool_call, request.tool), run)

    return wrap
