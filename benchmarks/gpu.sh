#!/bin/sh
# Everything that a machine with a CUDA device can say about Dynat, in one go: tests on the device, then the times.
#   sh benchmarks/gpu.sh [folder for the results]
# PYTHON names the Python to use (default .venv/bin/python); it needs torch with CUDA and the packages of requirements-dev.txt.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${1:-benchmarks/results}
mkdir -p "$OUT"
"$PYTHON" -c 'import sys, torch; torch.cuda.is_available() or sys.exit("There is no CUDA device here; nothing was measured.")'
"$PYTHON" -m pytest tests/test_frozen.py -q -rs -p no:cacheprovider | tee "$OUT/gpu-tests.txt"
"$PYTHON" -m benchmarks.peers.gpu --results "$OUT/gpu.json"
