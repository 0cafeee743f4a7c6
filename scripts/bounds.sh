#!/usr/bin/env bash
# The dependency bounds of pyproject.toml at one end: a fresh virtual environment with the oldest or the newest allowed
# release of every direct dependency, then the tests of the core, of both engines and of the export, and the demo. Some 8 GB
# of disk, most of it torch's, for the time it runs; with UV_CACHE_DIR set, the downloads are kept there.
# docs/supply-chain.md has what came out.
# Usage: scripts/bounds.sh oldest|newest [PYTHON]
set -euo pipefail
case ${1:-} in
    oldest) resolution=lowest-direct ;;
    newest) resolution=highest ;;
    *) echo "usage: scripts/bounds.sh oldest|newest [PYTHON]" >&2; exit 2 ;;
esac
python=${2:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# pip always takes the newest release that it may; uv can take the oldest.
"$python" -m venv "$work/uv"
"$work/uv/bin/pip" install --quiet uv
uv=("$work/uv/bin/uv" --system-certs --cache-dir "${UV_CACHE_DIR:-$work/cache}")
"${uv[@]}" venv --quiet --python "$python" "$work/venv"
"${uv[@]}" pip install --quiet --python "$work/venv/bin/python" --resolution "$resolution" "${root}[dev]"
"${uv[@]}" pip freeze --python "$work/venv/bin/python"

cd "$root"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -m pytest -p no:cacheprovider tests/gaussian tests/evaluation tests/extraction \
    tests/datasets tests/tables tests/compare tests/backbones/test_registry.py tests/backbones/test_weights.py \
    tests/backbones/test_available.py tests/detector/test_export.py tests/detector/test_onnx_places.py \
    tests/cli/test_export.py tests/cli/test_train.py tests/cli/test_main_job.py tests/test_parallel.py
cd "$work" # nothing of the source tree is in reach
"$work/venv/bin/gaussad" demo
echo "bounds: $1 passed"
