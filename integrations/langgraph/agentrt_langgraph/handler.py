"""The callback handler: LangChain's events in, guarded, out to the tracker."""

# ruff: noqa: ARG002 - LangChain passes arguments by keyword: their names are its own, used or not

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from langgraph.callbacks import GraphCallbackHandler, GraphInterruptEvent

from agentrt_langgraph import completions, inject, tools
from agentrt_langgraph.attach import bound_handlers
from agentrt_langgraph.names import run_key
from agentrt_langgraph.port import RuntimePort
from agentrt_langgraph.structure import Binding
from agentrt_langgraph.trackers import tracker_of
from agentrt_langgraph.usage import NO_USAGE, read_usage

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import LLMResult


class AgentRTCallbackHandler(GraphCallbackHandler):
    """Observes every graph it is attached to: `graph.invoke(..., {"callbacks": [AgentRTCallbackHandler(runtime)]})`.

    Attach it as often as you like: a run told twice counts once. Handlers of one runtime share their state.
    `binding` is what `instrument` knows about a graph; leave it out.
    """

    raise_error = False
    # Otherwise async runs would call it in another context, and identity could not follow the request.
    run_inline = True

    def __init__(self, runtime: RuntimePort, *, binding: Binding | None = None) -> None:
        super().__init__()
        self._runtime = runtime
        self._binding = binding
        self._tracker = tracker_of(runtime)
        inject.enable(self._tracker)
        tools.enable(self._tracker)
        completions.enable(AgentRTCallbackHandler)

    @property
    def runtime(self) -> RuntimePort:
        """The runtime this handler reports to."""
        return self._runtime

    @property
    def ignore_retry(self) -> bool:
        """Retries are seen as runs."""
        return True

    @property
    def ignore_custom_event(self) -> bool:
        """The user's own events are not ours to read."""
        return True

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A graph, a node, or anything else runnable began."""
        try:
            name = kwargs.get("name") or ""
            self._tracker.chain_started(
                run_id.int, run_key(parent_run_id), name, metadata, tags, binding=self._binding, given=inputs
            )
        except Exception as error:
            self._runtime.fault("on_chain_start", error)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """It ended."""
        try:
            self._tracker.chain_ended(run_id.int, outputs)
        except Exception as error:
            self._runtime.fault("on_chain_end", error)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """It raised: an error, a hand-over to the parent graph, or an interrupt."""
        self._guard("on_chain_error", self._tracker.chain_failed, run_id.int, error)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: "list[list[BaseMessage]]",
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A chat model is about to be called."""
        try:
            self._tracker.call_started(run_id.int, run_key(parent_run_id), metadata)
        except Exception as error:
            self._runtime.fault("on_chat_model_start", error)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A completion model is about to be called."""
        self._guard("on_llm_start", self._tracker.call_started, run_id.int, run_key(parent_run_id), metadata)

    def on_llm_end(self, response: "LLMResult", *, run_id: UUID, **kwargs: Any) -> None:
        """The model answered."""
        usage = NO_USAGE
        try:
            usage = read_usage(response)
        except Exception as error:
            self._runtime.fault("read_usage", error)
        try:
            self._tracker.call_ended(run_id.int, usage)
        except Exception as error:
            self._runtime.fault("on_llm_end", error)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """The model did not answer, or its stream was left."""
        self._guard("on_llm_error", self._tracker.call_ended, run_id.int, failed=True)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A tool began. Of its arguments only a digest is taken."""
        name = (serialized or {}).get("name") or kwargs.get("name") or "tool"
        self._guard(
            "on_tool_start", self._tracker.tool_started, run_id.int, run_key(parent_run_id), name, metadata, inputs
        )

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """The tool ended. Its result is not looked at."""
        self._guard("on_tool_end", self._tracker.tool_ended, run_id.int)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """The tool raised."""
        self._guard("on_tool_error", self._tracker.tool_ended, run_id.int, failed=True)

    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A retriever began: followed only so that what it runs keeps its lineage."""
        self._guard("on_retriever_start", self._tracker.chain_started, run_id.int, run_key(parent_run_id), "", metadata)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """The retriever ended."""
        self._guard("on_retriever_end", self._tracker.chain_ended, run_id.int, None)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """The retriever raised."""
        self._guard("on_retriever_error", self._tracker.chain_ended, run_id.int, None)

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """The graph paused; this is the only word of a pause declared by `interrupt_before`."""
        self._guard("on_interrupt", self._tracker.interrupted, run_key(event.run_id))

    def on_resume(self, event: Any) -> None:
        """The graph goes on: seen as a run of the same session."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # users deep-copy graphs, and the copy reports to the same runtime

    def _guard(self, where: str, method: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Nothing of ours reaches the user's graph."""
        try:
            method(*args, **kwargs)
        except Exception as error:
            self._runtime.fault(where, error)


def is_instrumented(graph: Any, runtime: RuntimePort) -> bool:
    """Whether a handler of this runtime is bound to the graph."""
    return any(isinstance(h, AgentRTCallbackHandler) and h.runtime is runtime for h in bound_handlers(graph))
