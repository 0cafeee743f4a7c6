#!/usr/bin/env bash
# A production machine: a model is asked in an environment of its own, which has the packages of requirements-predict.txt
# and nothing else, as the Dockerfile makes it. The rows must be those of the whole gaussad.
# Usage: scripts/light.sh WHEEL MODEL IMAGES PREDICTED [PYTHON]     PREDICTED: rows of gaussad predict MODEL IMAGES
set -euo pipefail
wheel=$1 model=$2 images=$3 predicted=$4 python=${5:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --requirement "$root/requirements-predict.txt"
"$work/venv/bin/pip" install --quiet --no-deps "$wheel"
if "$work/venv/bin/python" -c 'import torch' 2> /dev/null; then echo "light: torch is there"; exit 1; fi
gaussad=$work/venv/bin/gaussad

rows() { sed 's/,[^,]*$//' "$1"; } # without the last column, the time
"$gaussad" predict "$model" "$images" > "$work/rows.csv"
diff <(rows "$predicted") <(rows "$work/rows.csv") > /dev/null \
    || { echo "light: other rows than those of the whole gaussad"; exit 1; }
first=("$images"/*)
"$gaussad" explain "$model" "${first[0]}" --out "$work/explained"
"$gaussad" export "$model" --out "$work/model.onnx"
cp -r "$images" "$work/new" # not in the test folder of a data set, which update refuses
"$gaussad" update "$model" --normal "$work/new" --allow-anomalous --out "$work/updated.gaussad"
"$gaussad" info "$work/updated.gaussad"
"$work/venv/bin/pip" freeze
echo "light: passed; $(du -sm "$work/venv" | cut -f1) MB"
