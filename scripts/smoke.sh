#!/usr/bin/env bash
# The main job as a user meets it: the wheel, checked and installed in a clean virtual environment, and the demo.
# Usage: scripts/smoke.sh [PYTHON]
set -euo pipefail
python=${1:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$root/scripts/package.sh" "$work/dist" "$python"
"$python" -m venv "$work/venv"
wheel=$(echo "$work"/dist/gaussad-*.whl)
"$work/venv/bin/pip" install --quiet "$wheel[demo]"
cd "$work" # nothing of the source tree is in reach
"$work/venv/bin/gaussad" demo | tee demo.txt
"$work/venv/bin/gaussad" evaluate --backbone efficientnet-lite0 --mode npca --var 0.01 \
    --cache gaussad-demo/cache --out gaussad-demo/results | tee evaluation.txt
# The experiments come with the wheel.
"$work/venv/bin/gaussad" run --config table3 --data gaussad-demo/data --dry-run | tee plan.txt
# A detector as an engineer trains one: no backbone is named, and nothing is downloaded.
images=gaussad-demo/data/textile
"$work/venv/bin/gaussad" train --normal "$images/train/good" --out textile.gaussad --fpr 0.05
"$work/venv/bin/gaussad" predict textile.gaussad "$images/test/global" > predicted.csv

# 8 scorings x (9 levels + sum) x 5 folds, and their header
rows=$(wc -l < gaussad-demo/results/demo/metrics.csv)
test "$rows" -eq 401 || { echo "smoke: $rows lines in metrics.csv, not 401"; exit 1; }
for part in "Table I\." "Table III\." "gaussad-demo/results/demo/metrics.csv" "Next, on your own images"; do
    grep -q "$part" demo.txt || { echo "smoke: the demo did not print $part"; exit 1; }
done
anomalous=$(grep -c ',anomalous,' predicted.csv || true)
test "$anomalous" -ge 15 || { echo "smoke: $anomalous of 100 anomalous textiles found"; exit 1; }
grep -q 'efficientnet-b4' plan.txt || { echo "smoke: the plan of table3 has no network"; exit 1; }
grep -q '^sum ' evaluation.txt || { echo "smoke: evaluate printed no sum"; exit 1; }
"$root/scripts/light.sh" "$wheel" textile.gaussad "$images/test/global" predicted.csv "$python"
echo "smoke: passed"
