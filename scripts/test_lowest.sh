#!/bin/sh
# Run tests with the lowest versions that pyproject.toml allows. Usage: sh scripts/test_lowest.sh VENV TESTS...
# Set TORCH to another version if the lowest cannot be installed.
set -eu
venv=$1
shift
if [ ! -e "$venv/.installed" ] || [ constraints-lowest.txt -nt "$venv/.installed" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    sed "s/^torch==.*/torch==${TORCH:-$(sed -n 's/^torch==//p' constraints-lowest.txt)}/" constraints-lowest.txt \
        >"$venv/constraints.txt"
    "$venv/bin/pip" install --quiet --constraint "$venv/constraints.txt" --editable '.[app,gpu,lid,optuna,ray]' \
        pytest pytest-timeout pytest-xdist hypothesis packaging
    touch "$venv/.installed"
fi
"$venv/bin/python" -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
OMP_NUM_THREADS=1 "$venv/bin/pytest" -n 2 --dist loadfile -m "not slow" "$@"
