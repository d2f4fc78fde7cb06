"""What the agent gets when a tool does not run: a refusal, or a stored result as if it were new."""

import asyncio
import contextlib
import copy
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.prebuilt.tool_node import msg_content_output
from langgraph.types import Command, Send

from agentrt.tools import Deny, Serve, ToolCall
from agentrt_langgraph.gating import Gated, note


def answered(gated: Gated | None, run: Callable[[], Any]) -> Any:
    """What the agent gets: what stands in for the tool, else what `run` returns, of which the gates are told.

    `run` is called at most once, and what it raises passes through. Waits for a result that is still being computed,
    as long as its policy allows.
    """
    if gated is None:
        return run()
    if (served := _awaited(gated)) is not None:
        with contextlib.suppress(Exception):  # late, failed or cancelled: the tool runs
            served[0].exception(served[1])
    message: Any = _message(gated)
    if message is None:
        message = run()
        _tell(gated, message)
    return message


async def aanswered(gated: Gated | None, run: Callable[[], Awaitable[Any]]) -> Any:
    """As `answered`, while other tasks of the event loop go on."""
    if gated is None:
        return await run()
    if (served := _awaited(gated)) is not None:
        with contextlib.suppress(Exception):
            await _settled(*served)
    message: Any = _message(gated)
    if message is None:
        message = await run()
        _tell(gated, message)
    return message


def _awaited(gated: Gated) -> tuple[Future[Any], float] | None:
    """The result that may still be being computed, if one is to be served, and for how long it is worth waiting."""
    answer = gated.answer
    if isinstance(answer, Serve) and isinstance(answer.result, Future):
        return answer.result, answer.wait_s
    return None


def _tell(gated: Gated, result: object) -> None:
    """Let the gates know what the tool returned, if it may stand in for later calls. Never raises."""
    if not isinstance(result, ToolMessage) or result.status == "error":
        return
    for source, call in gated.asked:
        gates = source.runtime.tool_gates
        try:
            if gates.listen:
                gates.tell(call, _fresh(result, None))
        except Exception as error:
            source.runtime.fault("tool_gates", error)


def _message(gated: Gated) -> ToolMessage | None:
    """What takes the tool's place; None when the tool is to run. Never raises."""
    answer = gated.answer
    if answer is None or gated.ruling is None:
        return None
    call, policy = gated.call, gated.ruling.policy
    if isinstance(answer, Deny):
        note(gated, "denied", policy, answer.reason)
        content = f"Tool {call.tool} was not run: {answer.reason}"
        return ToolMessage(content, name=call.tool, tool_call_id=call.tool_call_id, status="error")
    runtime = gated.source.runtime
    try:
        message = _served(call, answer)
    except Exception as error:
        runtime.fault("tool_gates", error)
        message = None
    if message is None:
        runtime.tool_gates.account(call.tool, policy, "lost")
    else:
        note(gated, "served", policy, answer.reason)
    return message


def _served(call: ToolCall, answer: Serve) -> ToolMessage | None:
    """The stored result as the answer to this call; None if it never came. Raises TypeError for what steers."""
    result = answer.result
    if isinstance(result, Future):
        if not result.done() or result.cancelled() or result.exception() is not None:
            return None
        result = result.result()
    if isinstance(result, ToolMessage):
        return _fresh(result, call.tool_call_id)
    if isinstance(result, (Command, Send)):
        raise TypeError(f"a {type(result).__name__} steers the graph and cannot be served")
    content: Any = msg_content_output(result)
    return ToolMessage(content, name=call.tool, tool_call_id=call.tool_call_id)


def _fresh(message: ToolMessage, tool_call_id: str | None) -> ToolMessage:
    """A copy that shares only the artifact.

    Messages get an `id` when they enter a graph's state: kept, the copy would replace the earlier message there.
    """
    update: dict[str, Any] = {"id": None}
    if tool_call_id is not None:
        update["tool_call_id"] = tool_call_id
    for field in ("content", "additional_kwargs", "response_metadata"):
        value = getattr(message, field)
        update[field] = value if isinstance(value, str) else copy.deepcopy(value)
    return message.model_copy(update=update)


async def _settled(future: Future[Any], wait_s: float) -> None:
    """Wait until the future is done. `asyncio.wrap_future` would cancel it when the waiting task is cancelled."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def wake(_: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(wake)
    await asyncio.wait_for(done.wait(), wait_s)
