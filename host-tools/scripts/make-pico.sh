#!/bin/bash
# Makes the GGUFs of Ouro-Pico from its Hugging Face folder, and measures them.
#
#   host-tools/scripts/make-pico.sh            all of it; writes models/ouro-pico/{*.gguf,depth.svg,README.md}
#   host-tools/scripts/make-pico.sh --files    only the GGUFs
#
# The figures go between marker comments of the README: those of the evaluation set, and of a fresh set, which
# nobody has seen before. $OURO names another binary to use; $PER_TAG the questions of each tag in the fresh
# set. All of it takes an hour of one core, most of it for F32.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

case "${1:-}" in
    '' | --files) ;;
    *) echo "make-pico.sh: ${1}: expected --files or nothing" >&2; exit 2 ;;
esac
model=models/ouro-pico
questions=tests/data/pico-eval.jsonl
calibration=tests/data/pico-calib.jsonl
# An answer has up to 37 tokens, and each must be right. Margin and confidence tie; the choice must not turn
# with the noise.
fit=(--target agreement=0.9995 --policy margin --refit-gate)

if [ -z "${OURO:-}" ]; then
    # The program carries the file that is about to be made.
    [ -e $model/ouro-pico-Q4_0.gguf ] || : >$model/ouro-pico-Q4_0.gguf
    cargo build --release -p ouro
    OURO=target/release/ouro
fi
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
file() { echo "$work/ouro-pico-$1.gguf"; }

for type in Q4_0 Q8_0 F32; do
    # Nobody ships the F32 file, and only its figures are of use.
    [ "$type ${1:-}" != "F32 --files" ] || continue
    echo "=== $type"
    "$OURO" quantize $model "$(file $type)" --type ${type,,}
    "$OURO" calibrate -m "$(file $type)" --data $calibration "${fit[@]}" --json >"$work/fit-$type.json"
done
for type in Q8_0 Q4_0; do
    size=$(stat -c %s "$(file $type)")
    [ "$size" -le 1000000 ] || { echo "ouro-pico-$type.gguf has $size bytes, more than 1 MB" >&2; exit 1; }
    cp "$(file $type)" $model/
done
[ "${1:-}" != --files ] || exit 0

(cd host-tools/train && python3 -m pico data --fresh "$work/fresh.jsonl" --per-tag "${PER_TAG:-500}")
# Those that reach the target, each type with thresholds of its own.
policies() {
    python3 -c '
import json, sys
fits = json.load(open(sys.argv[1]))["policies"]
print(",".join("{policy}={threshold}".format(**fit) for fit in fits if fit["reached"]))
' "$work/fit-$1.json"
}
ask() { "$OURO" eval "$2" -m "$(file "$1")" "${@:3}"; }
fresh=$work/fresh.jsonl
# The row where types differ most has to be longer, to tell a difference of a point.
chain8=$work/chain8.jsonl
(cd host-tools/train && python3 -m pico data --fresh "$work/many.jsonl" --per-tag 4000 --seed 77)
grep '"chain8"' "$work/many.jsonl" >"$chain8"

ask Q4_0 $questions --plot $model/depth.svg
for type in Q4_0 Q8_0 F32; do # F32 takes nine times as long
    ask $type $questions --loops 1,2,3,4 --exit "fixed,$(policies $type)" --json "$work/eval-$type.json"
    exits=fixed
    [ $type != Q4_0 ] || exits=fixed,$(policies $type)
    ask $type "$fresh" --loops 1,4 --exit "$exits" --json "$work/fresh-$type.json"
    ask $type "$chain8" --loops 4 --exit fixed --json "$work/chain8-$type.json"
    [ $type = F32 ] || ask $type "$fresh" --loops 4 --exit fixed --kv per-loop --json "$work/fresh-per-loop-$type.json"
done
python3 host-tools/scripts/pico-tables.py $model "$work"
