#!/bin/bash
# Makes the GGUFs of Ouro-Pico from its Hugging Face folder, and measures them.
#
#   host-tools/scripts/make-pico.sh            all questions; writes models/ouro-pico/{*.gguf,README.md}
#   host-tools/scripts/make-pico.sh --files    only the GGUFs
#   host-tools/scripts/make-pico.sh --plot     depth.svg as well: accuracy against mean depth
#
# The tables go between the two marker comments of the README. $OURO names another binary to use;
# $QUESTIONS another file of questions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

case "${1:-}" in
    '' | --files | --plot) ;;
    *) echo "make-pico.sh: ${1}: expected --files, --plot or nothing" >&2; exit 2 ;;
esac
model=models/ouro-pico
questions=${QUESTIONS:-tests/data/pico-eval.jsonl}
calibration=tests/data/pico-calib.jsonl
# One token of the 3,810 of the calibration set's answers may differ from full depth's: an answer has up
# to 40, and each must be right. Margin and confidence tie; the choice must not turn with the noise.
fit=(--target agreement=0.9995 --policy margin --refit-gate)

if [ -z "${OURO:-}" ]; then
    # The program carries the file that is about to be made.
    [ -e $model/ouro-pico-Q4_0.gguf ] || : >$model/ouro-pico-Q4_0.gguf
    cargo build --release -p ouro
    OURO=target/release/ouro
fi
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

for type in F32 Q8_0 Q4_0; do
    echo "=== $type"
    file=$work/ouro-pico-$type.gguf
    "$OURO" quantize $model "$file" --type ${type,,}
    # F32 is here for its answers at full depth.
    [ $type = F32 ] || "$OURO" calibrate -m "$file" --data $calibration "${fit[@]}" --json >"$work/$type.json"
done
for type in Q8_0 Q4_0; do
    mv "$work/ouro-pico-$type.gguf" $model/
    size=$(stat -c %s $model/ouro-pico-$type.gguf)
    [ "$size" -le 1048576 ] || { echo "ouro-pico-$type.gguf has $size bytes, more than 1 MiB" >&2; exit 1; }
done
[ "${1:-}" != --files ] || exit 0

q4=$model/ouro-pico-Q4_0.gguf
policies=$(python3 -c '
import json, sys
fits = json.load(open(sys.argv[1]))["policies"]
print(",".join("{policy}={threshold}".format(**fit) for fit in fits if fit["reached"]))
' "$work/Q4_0.json")
ask() { "$OURO" eval "$questions" "$@"; }
all=(--loops 1,2,3,4 --exit "fixed,$policies")
ask -m "$work/ouro-pico-F32.gguf" "${all[@]}" --json "$work/eval-F32.json"
ask -m $model/ouro-pico-Q8_0.gguf "${all[@]}" --json "$work/eval-Q8_0.json"
ask -m $q4 "${all[@]}" --json "$work/eval-Q4_0.json"
ask -m $q4 --loops 4 --exit fixed --kv per-loop --json "$work/eval-per-loop.json"
ask -m $q4 --loops 2,3 --exit fixed --kv-window 3 --json "$work/eval-window.json"
[ "${1:-}" != --plot ] || ask -m $q4 --plot $model/depth.svg
python3 host-tools/scripts/pico-tables.py $model/README.md "$work" "$questions"
