#!/bin/sh
# Run tests with the lowest versions that pyproject.toml allows: sh scripts/test_lowest.sh VENV TESTS...
# TORCH says which torch (and TRITON which Triton) to take instead, where the lowest cannot be installed.
set -eu
venv=$1
shift
if [ ! -e "$venv/.installed" ] || [ constraints-lowest.txt -nt "$venv/.installed" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    sed -e "s/^torch==.*/torch==${TORCH:-2.11.0}/" constraints-lowest.txt >"$venv/constraints.txt"
    "$venv/bin/pip" install --quiet --constraint "$venv/constraints.txt" \
        --editable '.[app]' 'pytest>=8.4' 'pytest-timeout>=2.3' 'pytest-xdist>=3.8' 'hypothesis>=6.130' packaging
    touch "$venv/.installed"
fi
"$venv/bin/python" -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
OMP_NUM_THREADS=1 "$venv/bin/pytest" -n 2 --dist loadfile -m "not slow" "$@"
