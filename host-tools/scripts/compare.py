#!/usr/bin/env python3
"""Compare ouro with llama.cpp on one file: prefill, decode and memory, side by side in one run.

    compare.py --llama-bench PATH -m FILE [--ouro PATH] [--threads N] [--prompt N] [--generate N]
               [--after N] [--rounds N] [--backend NAME] [--json]

The two take turns, so that both meet whatever else the machine does; figures are medians over the
rounds, and ratios are medians of each round's ratio. PATH is llama.cpp's `llama-bench`. Without a
checkout of llama.cpp: `pip download --no-deps --no-binary llama-cpp-python llama-cpp-python` has its
sources under vendor/, and `cmake -B build -DCMAKE_BUILD_TYPE=Release` there, then
`cmake --build build --target llama-bench`, takes a few minutes. Both programs must know the model:
SmolLM2-135M does (fetch-smollm2.py), Ouro needs a llama.cpp with Ouro support.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def run(command: list[str]) -> tuple[object, int]:
    """What a command prints, as JSON, and the most memory it had, in bytes."""
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        out = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            errors.seek(0)
            said = errors.read().strip()[-2000:]
            sys.exit(f"{' '.join(command)}\nended with {child.returncode}:\n{said}")
    scale = 1 if sys.platform == "darwin" else 1024
    return json.loads(out), usage.ru_maxrss * scale


def ours(args: argparse.Namespace) -> dict[str, float]:
    command = [args.ouro, "bench", "-m", args.model, "--json", "--repeat", "1", "--batch", "1"]
    command += ["--prompt", str(args.prompt), "--generate", str(args.generate)]
    command += ["--threads", str(args.threads), "--after", str(max(args.after, 1))]
    command += ["--backend", args.backend] if args.backend else []
    report, memory = run(command)
    speed = {row["test"]: row["tokens_per_second"] for row in report["rows"]}
    return {"prefill": speed["prompt"], "decode": speed["generate"], "memory": memory / 1e6}


def theirs(args: argparse.Namespace) -> dict[str, float]:
    command = [args.llama_bench, "-m", args.model, "-o", "json", "-r", "1", "-ngl", "0"]
    prompt = 0 if args.after else args.prompt  # what is in the cache before would hold for it too
    command += ["-p", str(prompt), "-n", str(args.generate), "-t", str(args.threads)]
    command += ["-d", str(args.after)] if args.after else []
    rows, memory = run(command)
    speed = {"prefill" if row["n_gen"] == 0 else "decode": row["avg_ts"] for row in rows}
    return {**speed, "memory": memory / 1e6}


def main() -> int:
    description, _, epilog = __doc__.partition("\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, epilog=epilog, formatter_class=raw)
    parser.add_argument("--llama-bench", required=True, metavar="PATH")
    parser.add_argument("-m", "--model", required=True, metavar="FILE")
    parser.add_argument("--ouro", metavar="PATH", default=str(REPOSITORY / "target/release/ouro"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--after", type=int, default=0, help="positions in the cache before decoding; then decoding alone is compared")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", metavar="NAME", help="ouro's, where that of llama.cpp was built for less than this CPU has")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for program in (args.ouro, args.llama_bench):
        if not os.access(program, os.X_OK):
            parser.error(f"{program} is no program; `cargo build --release -p ouro` makes ouro")

    rounds = []
    for number in range(args.rounds):
        # Neither is always the one that finds the file cached or the machine warm.
        order = [("ouro", ours), ("llama.cpp", theirs)][:: 1 if number % 2 == 0 else -1]
        rounds.append({name: measure(args) for name, measure in order})
        if sys.stderr.isatty():
            print(f"round {number + 1} of {args.rounds}", end="\r", file=sys.stderr)

    rows = []
    compared = (("prefill", "tokens/s"), ("decode", "tokens/s"), ("memory", "MB"))
    for key, unit in compared[1 if args.after else 0:]:
        row = {"figure": key, "unit": unit}
        for name in ("ouro", "llama.cpp"):
            row[name] = statistics.median(figures[name][key] for figures in rounds)
        ratios = [figures["ouro"][key] / figures["llama.cpp"][key] for figures in rounds]
        row["ratio"], row["ratios"] = statistics.median(ratios), [min(ratios), max(ratios)]
        rows.append(row)
    if args.json:
        print(json.dumps({"model": args.model, "threads": args.threads, "rounds": args.rounds, "rows": rows}))
        return 0
    print(f"{args.model}, {args.threads} threads, prompt {args.prompt}, generate {args.generate}, {args.rounds} rounds")
    print(f"{'':20}{'ouro':>10}{'llama.cpp':>11}{'ratio':>8}  (range)")
    for row in rows:
        low, high = row["ratios"]
        name = f"{row['figure']}, {row['unit']}"
        print(f"{name:20}{row['ouro']:>10.1f}{row['llama.cpp']:>11.1f}{row['ratio']:>8.2f}  ({low:.2f} to {high:.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
