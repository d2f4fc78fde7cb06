"""What the agent gets when a tool does not run: a refusal, or a stored result as if it were new."""

import asyncio
import contextlib
import copy
from concurrent.futures import Future
from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.prebuilt.tool_node import msg_content_output
from langgraph.types import Command, Send

from agentrt.tools import Deny, Serve, ToolCall
from agentrt_langgraph.gating import Gated, note


def stand_in(gated: Gated) -> ToolMessage | None:
    """The message that takes the tool's place; None when the tool is to run. Never raises.

    Waits for a result that is still being computed, as long as its policy allows.
    """
    answer = gated.answer
    if isinstance(answer, Serve) and isinstance(answer.result, Future):
        with contextlib.suppress(Exception):  # late, failed or cancelled: the tool runs
            answer.result.exception(answer.wait_s)
    return _message(gated, answer)


async def astand_in(gated: Gated) -> ToolMessage | None:
    """As `stand_in`, while other tasks of the event loop go on."""
    answer = gated.answer
    if isinstance(answer, Serve) and isinstance(answer.result, Future):
        with contextlib.suppress(Exception):
            await _settled(answer.result, answer.wait_s)
    return _message(gated, answer)


def tell(gated: Gated, result: object) -> None:
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


def _message(gated: Gated, answer: Serve | Deny | None) -> ToolMessage | None:
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
