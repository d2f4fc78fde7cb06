"""Run one conversation of the team and print what agentrt saw and did: `python -m examples.software_team`.

Without --base-url the model is agentrt's embedded engine: scripted replies, no GPU, no key.
"""

import argparse
import os
import sys
from typing import Any

from agentrt_langgraph import instrument

from agentrt.config import Settings
from agentrt.engines.base import Engine
from agentrt.engines.embedded import EmbeddedEngine
from agentrt.engines.vllm import VLLMEngine
from agentrt.errors import AgentRTError
from agentrt.runtime import Runtime

from . import TASKS, build_graph
from .prompts import ROLES


def main(argv: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    args = _parser().parse_args(argv)
    task = TASKS[args.task] if args.request is None else args.request
    try:
        with _engine(args.base_url) as engine, Runtime(engine) as runtime:
            graph = build_graph(
                base_url=f"{engine.base_url}/v1",
                model=args.model,
                api_key=os.environ.get("OPENAI_API_KEY", "none"),
                use_tools=not args.no_tools,
            )
            print(f"engine: {engine.capabilities().engine} at {engine.base_url}\nrequest: {task}\n")
            _run(instrument(graph, runtime), task)
            runtime.flush()
            _report(runtime)
    except AgentRTError as error:
        print(f"software_team: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.software_team", description=__doc__)
    parser.add_argument("request", nargs="?", help="what the team should build (default: one of the stored tasks)")
    parser.add_argument(
        "--task", type=int, choices=range(len(TASKS)), default=0, metavar="N", help="number of a stored task (0)"
    )
    parser.add_argument("--base-url", metavar="URL", help="a vLLM server with the agentrt plugin")
    parser.add_argument("--model", metavar="NAME", help="the model it serves; the key comes from OPENAI_API_KEY")
    parser.add_argument("--no-tools", action="store_true", help="for servers without tool calls")
    return parser


def _engine(base_url: str | None) -> Engine:
    if base_url is None:
        return EmbeddedEngine()
    engine = VLLMEngine(base_url, api_key=Settings.load().api_key or os.environ.get("OPENAI_API_KEY"))
    engine.check()
    return engine


def _run(graph: Any, task: str) -> None:
    """One conversation, each role's turn told as it comes."""
    config = {"configurable": {"thread_id": "software-team"}}
    for update in graph.stream({"task": task}, config, stream_mode="updates"):
        for node, change in update.items():
            for message in (change or {}).get("messages", []) if isinstance(change, dict) else []:
                calls = ", ".join(call["name"] for call in getattr(message, "tool_calls", []))
                said = calls and f"calls {calls}"
                print(f"{node:>12}  {said or message.text.splitlines()[0][:90]}")


def _report(runtime: Runtime) -> None:
    edges = [d for d in runtime.dispatches("software-team") if d.target in ROLES]
    print("\ndispatches:", " -> ".join(edge.target for edge in edges))
    print("rulings:")
    for ruling in runtime.rulings:
        outcome = ruling.outcome.status if ruling.outcome else "no answer yet"
        print(f"  {ruling.proposal.action_type:<28} {ruling.verdict:<9} {outcome:<9} {ruling.why}")


if __name__ == "__main__":
    sys.exit(main())
