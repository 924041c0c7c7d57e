#!/usr/bin/env python3
"""Measure decoding with less memory than the model has: the table of README's section on that.

    larger-than-memory.py [-m FILE] [--ouro PATH] [--ram 600M,400M,250M] [--rounds N] [--max-new N]
                          [--threads N] [--llama PATH]... [--time-limit SECONDS] [--json]

Each run is in a control group of its own that counts the page cache too, so it has to be root where those can
be made. Before and after each, as much as a loop fetches is read over and over past the page cache by a program
that does nothing else; a run with all in memory, outside of any group, tells what computing alone allows. Figures
are medians over the rounds. "of the bound" is the speed divided by what the slower of this disk and computing
would allow.

--llama is llama.cpp's `llama-cli`, `llama-completion` or `llama-bench`; each is run in the same groups, as it
is and without repacking, until it ends, is killed by the system, or --time-limit is over: any of these is a
result. It must know the model's architecture. Without -m, Ouro-1.4B's shape with random Q4_0 weights is made
(0.8 GB, in the current folder, and removed after). Let nothing else run.
"""

import argparse
import ctypes
import json
import mmap
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
GROUPS = pathlib.Path("/sys/fs/cgroup")


class Group:
    """A control group with a limit of memory; leaving it kills what is in it."""

    def __init__(self, limit: int):
        old = GROUPS / "memory"
        self.folder = (old if old.is_dir() else GROUPS) / f"ouro-larger-{os.getpid()}"
        self.limit = "memory.limit_in_bytes" if old.is_dir() else "memory.max"
        self.peaks = ["memory.max_usage_in_bytes", "memory.peak"]
        self.bytes = limit

    def __enter__(self):
        try:
            self.folder.mkdir()
            (self.folder / self.limit).write_text(str(self.bytes))
            swap = self.folder / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")
        except OSError as error:
            sys.exit(f"no control group for memory: {error}; be root where they can be made")
        return self

    def __exit__(self, *_):
        for pid in (self.folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        for _ in range(100):
            try:
                return self.folder.rmdir()
            except OSError:
                time.sleep(0.1)

    def peak(self) -> int | None:
        found = [self.folder / name for name in self.peaks if (self.folder / name).exists()]
        return int(found[0].read_text()) if found else None

    def run(self, command: list[str], limit: float) -> tuple[int | None, str, str]:
        """Exit status (negative: a signal; None: out of time), standard output and errors."""
        inside = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.folder), *command]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            child = subprocess.Popen(inside, stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
            try:
                status = child.wait(limit)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                status = None
            for file in (out, errors):
                file.seek(0)
            return status, out.read(), errors.read()


def bytes_of(text: str) -> int:
    units = {"K": 10, "M": 20, "G": 30}
    return int(float(text[:-1]) * 2 ** units[text[-1].upper()]) if text[-1].upper() in units else int(text)


TILE = 2 << 20  # of a block buffer of 4 MiB, and a huge page


def disk(path: str, length: int, passes: int = 4) -> float:
    """Bytes per second of reading the end of a file again and again, tile by tile into a huge page."""
    whole = os.path.getsize(path) // TILE
    if whole == 0:
        sys.exit(f"{path}: {os.path.getsize(path)} bytes found, expected at least {TILE}")
    tiles = min(max(length // TILE, 1), whole)
    memory = mmap.mmap(-1, 2 * TILE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    first = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % TILE
    try:
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError as error:
        sys.exit(f"{path}: {error}; it has to be on a file system that reads past the page cache")
    began = time.monotonic()
    with memoryview(memory)[first:first + TILE] as tile:
        for _ in range(passes):
            for index in range(whole - tiles, whole):
                os.preadv(file, [tile], index * TILE)
    took = time.monotonic() - began
    os.close(file)
    return passes * tiles * TILE / took


def ouro(args: argparse.Namespace, new: int, *more: str) -> list[str]:
    command = [args.ouro, "run", "-m", args.model, "--tokens", "1,2,3,4", "--ignore-eos", "--exit", "fixed"]
    return [*command, "--max-new", str(new), "--threads", str(args.threads), "--json", *more]


def speed(report: dict) -> float:
    """Tokens per second; the first one comes out of the prompt."""
    return (len(report["tokens"]) - 1) / report["seconds"]["decode"]


def in_group(args: argparse.Namespace, ram: str, new: int) -> tuple[dict, int | None]:
    with Group(bytes_of(ram)) as group:
        command = ouro(args, new, "--ram", ram)
        status, out, errors = group.run(command, args.time_limit)
        if status != 0:
            sys.exit(f"{' '.join(command)}\nended with {status}:\n{errors.strip()[-2000:]}")
        return json.loads(out), group.peak()


def llama(args: argparse.Namespace, program: str, ram: str, more: list[str]) -> str:
    """Tokens per second, or how it ended."""
    is_bench = "bench" in pathlib.Path(program).name
    command = [program, "-m", args.model, "-n", str(args.max_new), "-t", str(args.threads), "-ngl", "0"]
    if is_bench:
        command += ["-p", "0", "-r", "1", "-o", "json"]
    else:
        command += ["-p", "The", "-c", "64", "--ignore-eos", "--no-warmup", "-no-cnv"]
    forget(args.model)
    began = time.monotonic()
    with Group(bytes_of(ram)) as group:
        status, out, errors = group.run([*command, *more], args.time_limit)
    took = f"{time.monotonic() - began:.0f} s"
    if status is None:
        return f"not done after {took}"
    if status > 128:
        status = 128 - status  # as a shell between tells it
    if status < 0:
        return f"killed ({signal.Signals(-status).name}) after {took}"
    if status != 0:
        last = (errors.strip() or out.strip()).splitlines()[-1:]
        return f"ended with {status}: {' '.join(last)}"
    if is_bench:
        return f"{json.loads(out)[0]['avg_ts']:.3g}"
    found = re.search(r" eval time = .*?([\d.]+) tokens per second", re.sub("prompt eval time", "", errors + out))
    return found[1] if found else "no speed in what it printed"


def forget(path: str) -> None:
    """Empties the page cache of a file: a group is not charged for pages that others have read."""
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def measure(args: argparse.Namespace, ram: str) -> dict:
    def fetched(report: dict) -> int:
        return report["counters"]["bytes_fetched"]

    first, _ = in_group(args, ram, 1)
    loops = max(first["depths"])
    per_loop = (fetched(in_group(args, ram, 2)[0]) - fetched(first)) // loops
    rows = []
    for _ in range(args.rounds):
        before = disk(args.model, per_loop)
        report, group = in_group(args, ram, args.max_new)
        there = (before + disk(args.model, per_loop)) / 2
        whole = json.loads(subprocess.run(ouro(args, args.max_new), check=True, capture_output=True).stdout)
        if report["tokens"] != whole["tokens"]:
            sys.exit(f"--ram {ram} gives other tokens than a model in memory: please report it")
        per_token = (fetched(report) - fetched(first)) / (args.max_new - 1)
        bound = min(there / max(per_token, 1), speed(whole))
        rows.append({
            "tokens_per_second": speed(report),
            "bytes_per_token": per_token,
            "process_bytes": report["counters"]["peak_resident_bytes"],
            "group_bytes": group or 0,
            "read_per_second": per_token * speed(report),
            "disk_per_second": there,
            "in_memory": speed(whole),
            "of_the_bound": speed(report) / bound,
            "waited": report["seconds"]["stalled"],
        })
    row = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    row["ram"] = ram
    row["llama"] = {}
    for program in args.llama:
        no_repack = ["--repack", "0"] if "bench" in pathlib.Path(program).name else ["--no-repack"]
        for more in ([], no_repack):
            name = " ".join([pathlib.Path(program).name, *more])
            row["llama"][name] = llama(args, program, ram, more)
    return row


def table(rows: list[dict]) -> str:
    heads = ["`--ram`", "tokens/s", "read per token", "the process at most", "the group at most", "read at",
             "the disk alone", "all in memory", "of the bound", *rows[0]["llama"]]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        mib = [f"{row[key] / 2**20:.0f} MiB" for key in ("process_bytes", "group_bytes")]
        rates = [f"{row[key] / 1e9:.2f} GB/s" for key in ("read_per_second", "disk_per_second")]
        lines.append([row["ram"], f"{row['tokens_per_second']:.2f}", f"{row['bytes_per_token'] / 1e6:.0f} MB", *mib,
                      *rates, f"{row['in_memory']:.2f}", f"{row['of_the_bound']:.0%}", *row["llama"].values()])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    description, _, epilog = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", help="a GGUF file, larger than the memory")
    parser.add_argument("--ouro", default=str(REPOSITORY / "target/release/ouro"))
    parser.add_argument("--ram", default="600M,400M,250M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-new", type=int, default=5, help="tokens of an answer, at least 2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--llama", action="append", default=[], metavar="PATH")
    parser.add_argument("--time-limit", type=float, default=540, help="seconds for each run [540]")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.max_new < 2 or args.rounds < 1:
        parser.error("--max-new is at least 2, as the first token comes out of the prompt; --rounds at least 1")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        if args.model is None:
            args.model = str(pathlib.Path(folder) / "random.gguf")
            subprocess.run([args.ouro, "random", "--like", "ouro-1.4b", "--type", "q4_0", args.model], check=True)
        rows = [measure(args, ram) for ram in args.ram.split(",")]
    print(json.dumps(rows, indent=2) if args.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
