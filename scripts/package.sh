#!/usr/bin/env bash
# Build the sdist, and the wheel from it, and check both: their metadata, that the wheel has every file of the package
# and of configs/ and nothing else, and that the sdist is enough to test and to document.
# Usage: scripts/package.sh FOLDER [PYTHON]     FOLDER gets the two files
set -euo pipefail
folder=$(realpath "${1:?usage: scripts/package.sh FOLDER [PYTHON]}")
python=${2:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet build twine
"$work/venv/bin/python" -m build --outdir "$work/dist" "$root" > "$work/build.txt" 2>&1 \
    || { cat "$work/build.txt"; exit 1; }
"$work/venv/bin/twine" check --strict "$work"/dist/*
wheel=$(echo "$work"/dist/gaussad-*.whl)

cd "$root"
{
    find gaussad_cli -type f ! -path '*/__pycache__/*'
    find configs -name '*.yaml' | sed 's,^,gaussad_cli/,'
} | LC_ALL=C sort > "$work/expected.txt"
"$python" -c 'import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist(), sep="\n")' "$wheel" > "$work/wheel.txt"
grep '^gaussad_cli/' "$work/wheel.txt" | LC_ALL=C sort | diff "$work/expected.txt" - \
    || { echo "package: these files are in the source tree only (<) or in the wheel only (>)"; exit 1; }
grep -q '/licenses/LICENSE$' "$work/wheel.txt" || { echo "package: the wheel has no LICENSE"; exit 1; }

tar tzf "$work"/dist/gaussad-*.tar.gz | sed 's,^[^/]*/,,' > "$work/sdist.txt"
for file in LICENSE README.md CHANGELOG.md CITATION.cff Makefile pyproject.toml constraints.txt configs/table3.yaml \
    docs/cli.md docs/pictures/table.svg results/README.md scripts/smoke.sh tests/conftest.py tests/cli/test_help.py; do
    grep -qx "$file" "$work/sdist.txt" || { echo "package: the sdist has no $file"; exit 1; }
done
mkdir -p "$folder"
mv "$work"/dist/* "$folder"
echo "package: passed"
