"""Prints how well dispatches are seen: `python -m tests.identity --graphs 1000 --seed 1 [--json] [--show 5]`.

Exit status 1 when a limit does not hold. Progress goes to stderr.
"""

import argparse
import json
import os
import sys
from typing import Any

os.environ["LANGSMITH_TRACING"] = "false"

from tests.identity.runs import MODES, Observation, observe
from tests.identity.score import COUNT_LIMITS, SET_LIMITS, broken_limits, report


def main() -> int:
    """Run, score, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.identity", description=__doc__)
    parser.add_argument("--graphs", type=int, default=1000, help="how many random graphs (default 1000)")
    parser.add_argument("--seed", default="0", help="decides everything about them (default 0)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--show", type=int, default=0, help="print the first N differences of each mode to stderr")
    options = parser.parse_args()
    observations = []
    for index in range(options.graphs):
        observations.append(observe(f"{options.seed}/{index}"))
        if (index + 1) % 100 == 0:
            print(f"{index + 1} of {options.graphs} graphs", file=sys.stderr)
    for mode in MODES:
        _show(observations, mode, options.show)
    broken = broken_limits(observations)
    result = {
        "graphs": options.graphs,
        "compared": len(observations),
        "seed": options.seed,
        "modes": report(observations),
        "limits": {"sets": SET_LIMITS, "counts": COUNT_LIMITS},
        "broken": broken,
    }
    print(json.dumps(result) if options.json else _table(result))
    return 1 if broken or not observations else 0


def _table(result: dict[str, Any]) -> str:
    lines = [f"{result['compared']} graphs compared, seed {result['seed']}"]
    for mode, scores in result["modes"].items():
        for what, parts in scores.items():
            for part, score in parts.items():
                figures = f"precision {score['precision']:.4f}  recall {score['recall']:.4f}"
                lines.append(
                    f"{mode:10}{what:7}{part:15}{figures}  tp {score['tp']:6} fp {score['fp']:5} fn {score['fn']:5}"
                )
    return "\n".join(lines + [f"limit broken: {line}" for line in result["broken"]])


def _show(observations: list[Observation], mode: str, limit: int) -> None:
    wrong = [seen for seen in observations if seen.told[mode] != seen.truth]
    for seen in wrong[:limit]:
        extra, missing = dict(seen.told[mode] - seen.truth), dict(seen.truth - seen.told[mode])
        print(f"{mode}: graph {seen.seed} ({seen.kind}): extra {extra}, missing {missing}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
