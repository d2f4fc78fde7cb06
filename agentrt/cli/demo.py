"""`agentrt demo`: the example's conversations on a stock engine, then with agentrt, and what it changed."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrt.cli.arguments import add_command, positive, whole
from agentrt.errors import AgentRTError, ConfigError

if TYPE_CHECKING:
    from agentrt.cli.passes import Demo, DemoOptions, PassOutcome
    from agentrt.evaluation.report import Comparison

SESSIONS, CONCURRENCY, SEED, MAX_TOKENS = 20, 8, 0, 256
TIME_SCALE = 1.0

ANCHOR_BLOCKS = 300
"""What the six agents' shared prompts take together."""

CONTEXT_BLOCKS = 108
"""What one live session's histories take, on average."""

PRESSURE = 0.75
"""Default pool, as a share of the live working set. Above 1 everything fits and any order is as good."""

_DESCRIPTION = """\
Runs N conversations of a software team (planner, architect, coder, tester, reviewer, documenter) twice: on a stock
engine, then with agentrt attached, and compares hit rate, prefill tokens, time to first token and throughput.

Without --base-url it starts an embedded engine: real HTTP, a real block pool and real LangGraph, but simulated
time and scripted replies. With --base-url it uses your vLLM server, started with the agentrt plugin and

  VLLM_PLUGINS=agentrt vllm serve MODEL --enable-prompt-tokens-details \\
      --enable-auto-tool-choice --tool-call-parser hermes

(`agentrt doctor` checks the plugin; --no-tools does without the last two flags)."""

_EXAMPLES = """\
  agentrt demo
  agentrt demo --json --sessions 16 > result.json
  agentrt demo --blocks 4000                    a pool that holds everything: agentrt cannot help, nor hurt
  agentrt demo --repeat 3 --picture demo.png    A B A B A B, with the spread
  OPENAI_API_KEY=secret agentrt demo --base-url http://localhost:8000 --model Qwen/Qwen3-8B"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_command(
        commands,
        "demo",
        summary="show what agentrt changes, on a simulated engine or on your server",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    load = parser.add_argument_group("load")
    load.add_argument(
        "--sessions", type=whole(1, 100_000), default=SESSIONS, metavar="N", help=f"conversations ({SESSIONS})"
    )
    load.add_argument(
        "--concurrency", type=whole(1, 1024), default=CONCURRENCY, metavar="N", help=f"at once ({CONCURRENCY})"
    )
    load.add_argument(
        "--seed", type=whole(0, 2**31 - 1), default=SEED, metavar="N", help=f"same seed, same load ({SEED})"
    )
    load.add_argument(
        "--repeat", type=whole(1, 100), default=1, metavar="N", help="pairs of passes, stock and agentrt in turn (1)"
    )
    embedded = parser.add_argument_group("embedded engine")
    embedded.add_argument(
        "--blocks",
        type=whole(64, 10_000_000),
        metavar="N",
        help=f"pool size in blocks of 16 tokens (default: about {PRESSURE:g} of the live working set)",
    )
    embedded.add_argument(
        "--time-scale",
        type=positive,
        default=TIME_SCALE,
        metavar="X",
        help=f"slow down simulated time ({TIME_SCALE:g})",
    )
    server = parser.add_argument_group("your server")
    server.add_argument("--base-url", metavar="URL", help="an OpenAI-compatible server with the agentrt plugin")
    server.add_argument("--model", metavar="NAME", help="model to ask for (default: the server's first)")
    server.add_argument(
        "--max-tokens",
        type=whole(1, 100_000),
        default=MAX_TOKENS,
        metavar="N",
        help=f"per reply, at most ({MAX_TOKENS})",
    )
    server.add_argument("--no-tools", action="store_true", help="for servers without tool calls")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else, on stdout")
    output.add_argument("--picture", type=Path, metavar="PATH", help="also draw it (.png, .svg, .pdf)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the passes and print the comparison. Raises AgentRTError when no conversation of a mode completed."""
    options = _options(args)
    from agentrt.cli.passes import Demo  # noqa: PLC0415 - the extra `demo` is needed from here on
    from agentrt.cli.progress import DemoProgress  # noqa: PLC0415
    from agentrt.cli.summary import compare  # noqa: PLC0415
    from agentrt.evaluation.picture import check_picture_path  # noqa: PLC0415

    if args.picture is not None:
        check_picture_path(args.picture)
    demo = Demo.prepare(options)
    quiet = args.json and not sys.stderr.isatty()
    with DemoProgress(quiet=quiet) as progress:
        progress.console.print(_introduction(demo))
        demo.warm_up()
        outcomes = []
        for number in range(args.repeat):
            for mode in ("stock", "agentrt"):
                title = mode if args.repeat == 1 else f"{mode} {number + 1}"
                outcomes.append(demo.run_pass(mode, number, progress.watch(title, options.sessions)))
    comparison = compare(demo, outcomes)
    _check_something_completed(comparison)
    _print(comparison, as_json=args.json)
    if args.picture is not None:
        _draw(args.picture, comparison, outcomes)
    return 0


def _options(args: argparse.Namespace) -> "DemoOptions":
    if args.base_url is None and args.model is not None:
        raise ConfigError("--model names a model of your server; give --base-url too")
    if args.base_url is not None and args.blocks is not None:
        raise ConfigError("--blocks sizes the embedded engine; a server's pool is set where it starts")
    from agentrt.cli.passes import DemoOptions  # noqa: PLC0415 - needs the extra `demo`

    return DemoOptions(
        sessions=args.sessions,
        concurrency=args.concurrency,
        seed=args.seed,
        blocks=args.blocks or default_blocks(min(args.concurrency, args.sessions)),
        time_scale=args.time_scale,
        max_tokens=args.max_tokens,
        use_tools=not args.no_tools,
        base_url=args.base_url,
        model=args.model,
    )


def default_blocks(concurrency: int) -> int:
    """A pool under real pressure for that many live sessions."""
    return round(PRESSURE * (ANCHOR_BLOCKS + CONTEXT_BLOCKS * concurrency))


def _introduction(demo: "Demo") -> str:
    options = demo.options
    load = f"{options.sessions} conversations of software_team, {options.concurrency} at once, seed {options.seed}"
    if options.base_url is not None:
        return f"Engine: {options.base_url}, model {demo.model}. {load}."
    return (
        f"Engine: embedded, {options.blocks} blocks of 16 tokens. Real HTTP and a real block pool, simulated time, "
        f"scripted replies; --base-url takes your server. {load}."
    )


def _print(comparison: "Comparison", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(comparison.to_json(), indent=2))
        return
    from rich.console import Console  # noqa: PLC0415 - optional

    console = Console()
    console.print(comparison.table())
    for line in comparison.why:
        console.print(line, highlight=False)


def _draw(path: Path, comparison: "Comparison", outcomes: "list[PassOutcome]") -> None:
    from agentrt.evaluation.picture import draw  # noqa: PLC0415 - optional
    from agentrt.evaluation.report import AGENTRT, STOCK, ttfts_s  # noqa: PLC0415

    draw(
        path,
        ttfts_s={m: [t for o in outcomes if o.mode == m for t in ttfts_s(o.load.calls)] for m in (STOCK, AGENTRT)},
        hit_rates={STOCK: comparison.stock.hit_rate, AGENTRT: comparison.agentrt.hit_rate},
    )


def _check_something_completed(comparison: "Comparison") -> None:
    """Failed conversations are in the table; a mode without a single good one measured nothing."""
    for mode, result in (("stock", comparison.stock), ("agentrt", comparison.agentrt)):
        if result.sessions_per_min == 0:
            cause = result.errors[0] if result.errors else "no reason given"
            raise AgentRTError(f"no conversation completed in mode {mode}: {cause}")
