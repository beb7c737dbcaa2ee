#!/usr/bin/env bash
# The suite on other versions of Python and torch, each in a new environment. Run by hand; it takes a while for each.
#
#   bash tests/versions.sh                     # all of VERSIONS
#   bash tests/versions.sh 3.12:2.13.0         # only these
#   bash tests/versions.sh 3.11:lowest         # the lower bounds of pyproject.toml
#
# Each Python is found as python3.X, or by pyenv.
set -uo pipefail
cd "$(dirname "$0")/.."

VERSIONS=(3.11:2.14.1 3.12:2.13.0 3.13:2.13.0 3.11:lowest)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python_of() {  # the program of a version: 3.12
    "python$1" -c "import sys; print(sys.executable)" 2>/dev/null ||
        ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python 2>/dev/null | tail -1
}

lowest() {  # the lower bounds of what users install, as constraints; the tests' own packages are the newest
    "$python" - <<'END'
import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [each for name, group in project["optional-dependencies"].items() if name != "test" for each in group]
for each in (*project["dependencies"], *extras):
    if bound := re.match(r"([\w-]+)>=([\d.]+)", each):
        print(f"{bound[1]}=={bound[2]}")
END
}

failed=0
for version in "${@:-${VERSIONS[@]}}"; do
    python=$(python_of "${version%%:*}")
    torch=${version##*:}
    if [ -z "$python" ]; then
        echo "$version: there is no Python ${version%%:*}"
        failed=1
        continue
    fi
    "$python" -m venv "$scratch/$version"
    echo "torch==$torch" > "$scratch/constraints.txt"
    warnings=()
    if [ "$torch" = lowest ]; then
        lowest > "$scratch/constraints.txt"
        warnings=(-W ignore::DeprecationWarning)  # old packages use what the new ones beside them deprecate
    fi
    (
        export PIP_CONSTRAINT="$scratch/constraints.txt" PIP_DISABLE_PIP_VERSION_CHECK=1
        source "$scratch/$version/bin/activate"
        pip install --quiet --upgrade pip && pip install --quiet -e '.[test]' && pytest -q "${warnings[@]}"
    ) > "$scratch/$version.log" 2>&1
    code=$?
    [ "$code" = 0 ] || { failed=1; grep -E "^(FAILED|ERROR)" "$scratch/$version.log"; }
    echo "Python $version: $(tail -1 "$scratch/$version.log")"
    rm -rf "${scratch:?}/$version"
done
exit $failed
