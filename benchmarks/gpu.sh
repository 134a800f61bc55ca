#!/usr/bin/env bash
# Test and measure on a GPU in under eight minutes, also on a machine without network.
#
#   benchmarks/gpu.sh            or: make gpu
#   DRY_RUN=1 benchmarks/gpu.sh  tiny sizes on the CPU, to see that everything runs
#
# The machine needs Python with torch, torchvision, timm, OpenCV and Numba. What else is missing is
# named, and installed from a folder of wheels, outside of that Python. The most valuable step comes
# first, and the figures of each are written when it is done: OUT/STEP.json, OUT/STEP.log and
# OUT/summary.md. A step that fails or takes too long stops no other.
#
#   PYTHON   the Python with torch                             [python3]
#   WHEELS   folder of wheels (make gpu-wheels fills one)      [build/gpu-wheels]
#   OUT      folder of the results                             [work/gpu]
#   PHOTOS   folder of JPEGs, a few hundred                    [portraits are drawn]
#   LIMIT    seconds for all steps                             [460]
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} WHEELS=${WHEELS:-build/gpu-wheels} OUT=${OUT:-work/gpu}
PHOTOS=${PHOTOS:-} LIMIT=${LIMIT:-460}
device=cuda dry=()
[ -z "${DRY_RUN:-}" ] || { device=cpu dry=(--dry-run); }
export PYTHONUNBUFFERED=1 NO_ALBUMENTATIONS_UPDATE=1

missing=$("$PYTHON" benchmarks/gpu_wheels.py missing "$WHEELS" | xargs) || exit 2
if [ -n "$missing" ]; then
    version=$("$PYTHON" -c 'import sys; print(*sys.version_info[:2], sep=".")')
    echo "missing here: $missing"
    echo "On a machine with network run the next line, and bring the folder here as $WHEELS:"
    echo "  make gpu-wheels GPU_PYTHON=$version GPU_NEEDS=\"$missing\""
    exit 2
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$OUT" "$tmp/site"
ln -s "$PWD" "$tmp/site/cropfirst"  # the one import name over the root
mapfile -t absent < <("$PYTHON" benchmarks/gpu_wheels.py absent "$WHEELS")
if [ ${#absent[@]} -gt 0 ]; then
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --no-index --no-deps --target "$tmp/site" "${absent[@]}" || exit 2
fi
export PYTHONPATH="$tmp/site${PYTHONPATH:+:$PYTHONPATH}"

started=$SECONDS
failed=()
step() {  # step NAME SECONDS COMMAND...
    local name=$1 most=$2 left=$((LIMIT - SECONDS + started)) from=$SECONDS rc=0
    shift 2
    if [ "$left" -lt 5 ]; then
        echo "$name: left out, $LIMIT seconds are over" | tee "$OUT/$name.log"
        failed+=("$name")
        return
    fi
    timeout --kill-after=5 $((most < left ? most : left)) "$@" >"$OUT/$name.log" 2>&1 || rc=$?
    [ $rc -eq 0 ] || failed+=("$name")
    echo "$name: exit status $rc, $((SECONDS - from)) s, $OUT/$name.log"
}
mapfile -t tests < <(grep -rl "requires_cuda" tests --include="test_*.py")
groups=(draw parity detect train compile)
# On the CPU one process runs all steps, and one file stands for the tests: importing takes longest.
[ ${#dry[@]} -eq 0 ] || groups=("${groups[*]}") tests=(tests/stage1_detect/mtcnn/test_parity_fixture.py)
# Warnings of other versions than the pinned ones are no errors here.
step tests 120 "$PYTHON" -m pytest -q -p no:cacheprovider -W default -m requires_cuda "${tests[@]}"
[ -z "$PHOTOS" ] || groups=("${groups[@]/draw/}")
for names in "${groups[@]}"; do
    read -ra words <<<"$names"
    [ ${#words[@]} -eq 0 ] || step "${words[-1]}" 150 "$PYTHON" benchmarks/gpu.py "${words[@]}" \
        --photos "${PHOTOS:-$tmp/photos}" --out "$OUT" --device "$device" "${dry[@]}"
done
tail -n 3 "$OUT/tests.log"
[ ! -f "$OUT/summary.md" ] || cat "$OUT/summary.md"
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
