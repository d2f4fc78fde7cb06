"""The command `agentrt`. Exit codes: 0 done, 1 it failed, 2 it was asked for wrongly, 130 Ctrl-C.

Errors are one line on stderr, never a traceback.
"""

import argparse
import sys
from collections.abc import Sequence

import agentrt
from agentrt.cli import demo, doctor, serve
from agentrt.errors import AgentRTError, ConfigError

__all__ = ["main"]

_EPILOG = """\
examples:
  agentrt demo                                  what agentrt changes, on a simulated engine: no GPU, no key
  agentrt demo --base-url http://localhost:8000 the same on your vLLM server
  agentrt doctor --base-url http://localhost:8000
                                                is the plugin there, and is it working?
  agentrt serve-embedded --port 8000            the simulated engine as an OpenAI-compatible server

`agentrt COMMAND --help` explains a command. Settings are environment variables AGENTRT_*."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Bad usage leaves by SystemExit(2), as argparse does."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except ConfigError as error:
        return _said(error, 2)
    except AgentRTError as error:
        return _said(error, 1)
    except ImportError as error:
        if (error.name or "agentrt").startswith("agentrt"):
            raise
        return _said(f"`agentrt {args.command}` needs {error.name}: pip install 'agentrt[demo]'", 1)
    except OSError as error:
        return _said(error, 1)
    except KeyboardInterrupt:
        return _said("interrupted", 130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agentrt",
        description="The runtime tier between LangGraph and vLLM: KV-cache eviction that follows your agents.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"agentrt {agentrt.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for command in (demo, serve, doctor):
        command.add_parser(commands)
    return parser


def _said(problem: object, code: int) -> int:
    print(f"agentrt: {problem}", file=sys.stderr)
    return code
