#!/usr/bin/env python3
"""The speed of every format of weights on every back end of this machine: the tables of RECORDS.md.

    bench-table.py [--ouro PATH] [--like SHAPE] [--types T,…] [--backends B,…] [--threads N]
                   [--rounds N] [--json]

Random files of SHAPE are made in a temporary folder, one per type. Then `ouro bench` runs them in turn,
round after round, so that all meet whatever else the machine does; figures are medians over the
rounds. `of read` is the share of a plain read of the same bytes by the same threads in the same second,
`4 rows` and `8 rows` the time of such a pass over that of one row, `of peak` the share of bare integer
products.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

TYPES = "q4_0,q4_1,q8_0,q4_k,q5_k,q6_k"
BACKENDS = "scalar,avx2,avxvnni,avx512vnni,neon,dotprod,i8mm"


def measure(args: argparse.Namespace, file: pathlib.Path, backend: str) -> dict[str, float] | None:
    """One round; None where this machine lacks the back end."""
    few = ["--prompt", "8", "--generate", "2"] if backend == "scalar" else ["--prompt", "128", "--generate", "16"]
    command = [args.ouro, "bench", "-m", file, "--backend", backend, "--threads", args.threads]
    command += ["--repeat", "1", "--batch", "1,4,8", "--json", *few]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        print(ran.stderr.strip()[-300:], file=sys.stderr)
        return None
    rows = {(row["test"], row["tokens"]): row for row in json.loads(ran.stdout)["rows"]}
    one = rows["batch", 1]
    decode = next(row for (test, _), row in rows.items() if test == "generate")
    prompt = next(row for (test, _), row in rows.items() if test == "prompt")
    return {
        "tokens/s": decode["tokens_per_second"],
        "GB/s": decode["gb_per_second"],
        "of read": decode["of_read"],
        "4 rows": rows["batch", 4]["milliseconds"] / one["milliseconds"],
        "8 rows": rows["batch", 8]["milliseconds"] / one["milliseconds"],
        "prompt, tokens/s": prompt["tokens_per_second"],
        "GMAC/s": prompt["gmac_per_second"],
        "of peak": prompt["of_peak"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ouro", default="ouro", help="the program")
    parser.add_argument("--like", default="smollm2-135m", help="as `ouro random --like` has it")
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--backends", default=BACKENDS)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        files = {name: pathlib.Path(folder, f"{name}.gguf") for name in args.types.split(",")}
        for name, file in files.items():
            make = [args.ouro, "random", file, "--like", args.like, "--type", name]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        tests = [(name, backend) for name in files for backend in args.backends.split(",")]
        found: dict[tuple[str, str], list[dict[str, float]]] = {}
        for round_number in range(args.rounds):
            for name, backend in list(tests):
                print(f"round {round_number + 1} of {args.rounds}: {name} {backend}", file=sys.stderr)
                if figures := measure(args, files[name], backend):
                    found.setdefault((name, backend), []).append(figures)
                else:
                    tests.remove((name, backend))
    if not found:
        sys.exit(f"{args.ouro} bench runs with none of {args.backends} here")

    medians = {
        key: {column: statistics.median(row[column] for row in rows) for column in rows[0]}
        for key, rows in found.items()
    }
    if args.json:
        print(json.dumps([{"type": key[0], "backend": key[1], **row} for key, row in medians.items()]))
        return 0
    columns = list(next(iter(medians.values())))
    print("| type | back end | " + " | ".join(columns) + " |")
    print("|---|---|" + "--:|" * len(columns))
    for (name, backend), row in medians.items():
        print(f"| {name} | {backend} | " + " | ".join(f"{row[column]:.3g}" for column in columns) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
