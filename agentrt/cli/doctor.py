"""`agentrt doctor`: is the plugin there, does it work, and if not, what to do."""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import httpx

import agentrt
from agentrt.cli.arguments import add_command, positive
from agentrt.config import Settings
from agentrt.engines.reports import Capabilities
from agentrt.engines.vllm import VLLMEngine
from agentrt.errors import EngineError, EngineUnreachable, KeyRefused, PluginAbsent, ProtocolMismatch

_EXAMPLES = """\
  agentrt doctor --base-url http://localhost:8000
  AGENTRT_API_KEY=secret agentrt doctor --base-url https://vllm.example.org --json"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `warning` does not stop agentrt from working, `failed` does."""

    check: str
    outcome: Literal["ok", "warning", "failed"]
    detail: str
    remedy: str = ""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_command(
        commands,
        "doctor",
        summary="check a server and the plugin in it",
        description=(
            "Asks a vLLM server whether the agentrt plugin is loaded and orders eviction, and says what to do about\n"
            "everything that is not as it should be.\n\nExit code 0: agentrt works there; 1: it does not."
        ),
        examples=_EXAMPLES,
    )
    parser.add_argument("--base-url", required=True, metavar="URL", help="the server, such as http://localhost:8000")
    parser.add_argument("--timeout", type=positive, default=5.0, metavar="S", help="seconds per request (default 5)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 0 if none of them is a failure."""
    key = control_key(Settings.load())
    with VLLMEngine(args.base_url, api_key=key, timeout_s=args.timeout) as engine:
        findings = [*examine(engine, api_key=key, timeout_s=args.timeout), *examine_client()]
    healthy = all(finding.outcome != "failed" for finding in findings)
    if args.json:
        report = {"base_url": args.base_url, "healthy": healthy, "findings": [asdict(f) for f in findings]}
        print(json.dumps(report, indent=2))
    else:
        for finding in findings:
            print(f"{finding.outcome:>8}  {finding.check}: {finding.detail}")
            if finding.remedy:
                print(f"{'':>8}  -> {finding.remedy}")
        print(f"agentrt works at {args.base_url}" if healthy else f"agentrt does not work at {args.base_url}")
    return 0 if healthy else 1


def control_key(settings: Settings) -> str | None:
    """The key for a server's control plane: AGENTRT_API_KEY, or the one the chat API is called with."""
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    return os.environ.get("OPENAI_API_KEY")


def examine(engine: VLLMEngine, *, api_key: str | None, timeout_s: float) -> Iterator[Finding]:
    """Look at a server, one finding after the other; stops where nothing further can be asked."""
    yield _chat_api(engine.base_url, api_key, timeout_s)
    try:
        capabilities = engine.check()
    except EngineError as error:
        yield _failed_handshake(error)
        return
    yield Finding(
        check="plugin",
        outcome="ok",
        detail=f"{capabilities.engine} {capabilities.engine_version}, protocol {capabilities.protocol_version}",
    )
    yield _versions(capabilities)
    yield from _order(capabilities)
    try:
        yield _faults(engine)
    except EngineError as error:
        yield Finding(check="status", outcome="failed", detail=str(error), remedy="read the server's log")


def examine_client() -> Iterator[Finding]:
    """How an application in this environment would label its requests; nothing where LangGraph is not installed."""
    try:
        from agentrt_langgraph import inject  # noqa: PLC0415 - an optional extra, and slow to import
    except ImportError:
        return
    labelling = inject.trial()
    if labelling == "hook":
        yield Finding(check="requests", outcome="ok", detail="applications here label them in the OpenAI client")
    elif labelling == "fallback":
        yield Finding(
            check="requests",
            outcome="warning",
            detail="this openai package does not call its request hook; they are labelled at the HTTP client instead",
            remedy="costs about a millisecond for a prompt of 400 KB; another openai version may avoid it",
        )
    else:
        yield Finding(
            check="requests",
            outcome="warning",
            detail="no openai package here: applications in this environment cannot label requests",
            remedy="pip install openai, if an application is to run here",
        )


def _chat_api(base_url: str, api_key: str | None, timeout_s: float) -> Finding:
    """Whether the OpenAI API answers; a server may well guard it by another key, so that is a warning."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        answer = httpx.get(f"{base_url}/v1/models", headers=headers, timeout=timeout_s)
        answer.raise_for_status()
        names = [str(model["id"]) for model in answer.json()["data"]]
    except httpx.HTTPStatusError as error:
        return Finding(check="chat API", outcome="warning", detail=f"GET /v1/models: {error.response.status_code}")
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return Finding(check="chat API", outcome="warning", detail=f"GET /v1/models: {error or type(error).__name__}")
    return Finding(check="chat API", outcome="ok", detail=f"serves {', '.join(names) or 'no model'}")


def _failed_handshake(error: EngineError) -> Finding:
    checks: dict[type[EngineError], tuple[str, str]] = {
        EngineUnreachable: ("server", "start the server, or correct --base-url (host, port, http or https)"),
        PluginAbsent: ("plugin", "pip install agentrt in vLLM's environment, then VLLM_PLUGINS=agentrt vllm serve ..."),
        KeyRefused: ("API key", "export AGENTRT_API_KEY=<the value of the server's --api-key>"),
        ProtocolMismatch: ("protocol", f"install agentrt {agentrt.__version__} on the server, or its version here"),
    }
    check, remedy = checks.get(type(error), ("handshake", "read the server's log"))
    return Finding(check=check, outcome="failed", detail=str(error), remedy=remedy)


def _versions(capabilities: Capabilities) -> Finding:
    theirs, ours = capabilities.agentrt_version, agentrt.__version__
    if theirs == ours:
        return Finding(check="version", outcome="ok", detail=f"agentrt {ours} on both sides")
    detail = f"agentrt {theirs} on the server, {ours} here"
    return Finding(
        check="version", outcome="warning", detail=detail, remedy="they can talk; install the same to be safe"
    )


def _order(capabilities: Capabilities) -> Iterator[Finding]:
    pool = f"{capabilities.num_blocks} blocks of {capabilities.block_size_tokens} tokens"
    if capabilities.order == "agentrt":
        yield Finding(check="eviction", outcome="ok", detail=f"agentrt orders {pool}")
    else:
        detail = f"stock LRU orders {pool}; agentrt stepped aside"
        remedy = "read the reasons below and the server's first log lines"
        yield Finding(check="eviction", outcome="failed", detail=detail, remedy=remedy)
    for reason in capabilities.degraded:
        yield Finding(check="degraded", outcome="warning", detail=reason)


def _faults(engine: VLLMEngine) -> Finding:
    status = engine.status()
    detail = (
        f"{status.running} running, {status.waiting} waiting, {status.cached_blocks} of {status.total_blocks} blocks "
        f"hold a free cached prefix, {status.groups} owner groups, {status.faults} faults"
    )
    if status.faults:
        return Finding(
            check="status", outcome="warning", detail=detail, remedy="the server's log names each fault once"
        )
    return Finding(check="status", outcome="ok", detail=detail)
