"""`agentrt serve-embedded`: the simulated engine as an OpenAI-compatible server, in the foreground."""

import argparse
import signal
import threading
from typing import Any

from agentrt.cli.arguments import add_command, positive, whole

BLOCKS = 2048

_DESCRIPTION = """\
Runs the embedded engine as a server: /v1/chat/completions with streaming and tools, /v1/models, and /v1/agentrt.
The block pool, batching and eviction are real; replies are scripted and time is simulated. No GPU, no weights.
Ctrl-C stops it."""

_EXAMPLES = """\
  agentrt serve-embedded
  agentrt serve-embedded --port 8011 --blocks 600 --api-key secret
  curl http://127.0.0.1:8000/v1/agentrt/status"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_command(
        commands,
        "serve-embedded",
        summary="run the simulated engine as a server",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    parser.add_argument("--port", type=whole(0, 65535), default=8000, help="port; 0 takes a free one (8000)")
    parser.add_argument(
        "--blocks", type=whole(64, 10_000_000), default=BLOCKS, metavar="N", help=f"blocks of 16 tokens ({BLOCKS})"
    )
    parser.add_argument("--api-key", metavar="KEY", help="require this bearer token (default: none)")
    parser.add_argument("--model", default="agentrt-embedded", metavar="NAME", help="name of the model it serves")
    parser.add_argument("--seed", type=whole(0, 2**31 - 1), default=0, metavar="N", help="seed of the replies (0)")
    parser.add_argument(
        "--time-scale",
        type=positive,
        default=1.0,
        metavar="X",
        help="slow down simulated time; 0.1 is ten times faster (1)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    from agentrt.engines.embedded import EmbeddedEngine  # noqa: PLC0415 - needs the extra `embedded`

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with EmbeddedEngine(
        host=args.host,
        port=args.port,
        num_blocks=args.blocks,
        model=args.model,
        seed=args.seed,
        time_scale=args.time_scale,
        api_key=args.api_key,
    ) as engine:
        print(
            f"agentrt embedded engine at {engine.base_url} (simulated; {args.blocks} blocks). Ctrl-C stops it.",
            flush=True,
        )
        stop.wait()
    return 0
