#!/usr/bin/env python3
"""Writes what `ouro eval` and `ouro calibrate` measured into Ouro-Pico's README.

Called by make-pico.sh with the README, the folder of the JSON files and the file of questions.
"""

import json
import sys
from pathlib import Path

BEGIN = "<!-- figures: made by host-tools/scripts/make-pico.sh, do not edit -->"
END = "<!-- end of figures -->"


def read(name):
    return json.loads((folder / f"{name}.json").read_text())


def column(name, loops, exit="fixed"):
    """Percent exact by tag, and the row over all questions."""
    rows = [row for row in read(f"eval-{name}") if (row["loops"], row["exit"]) == (loops, exit)]
    return {row["tag"]: row for row in rows}


def table(head, lines):
    yield "| " + " | ".join(head) + " |"
    yield "|---" + "|--:" * (len(head) - 1) + "|"
    yield from ("| " + " | ".join(line) + " |" for line in lines)


def by_tag(name):
    """Every depth and policy measured, and the mean depth of each."""
    settings = list(dict.fromkeys((row["loops"], row["exit"]) for row in read(f"eval-{name}")))
    columns = [column(name, *setting) for setting in settings]
    head = [f"D={loops}" if exit == "fixed" else exit.split("=")[0] for loops, exit in settings]
    if name == "Q4_0":
        columns += [column("per-loop", 4), column("window", 2), column("window", 3)]
        head += ["D=4, `--kv per-loop`", "D=2, `--kv-window 3`", "D=3, the same"]
    lines = [
        [tag, str(row["n"])] + [f"{column[tag]['exact']:.1f}" for column in columns]
        for tag, row in columns[0].items()
    ]
    lines.append(["mean depth", ""] + [f"{column['all']['mean_depth']:.2f}" for column in columns])
    return table([f"{name}, exact %", "n", *head], lines)


def by_policy():
    lines = []
    for fit in read("Q4_0")["policies"]:
        name = f"{fit['policy']} = {fit['threshold']:.5g}"
        row = next(
            (row for row in read("eval-Q4_0")
             if row["tag"] == "all" and row["exit"] != "fixed"
             and row["exit"].split("=")[0] == fit["policy"]),
            None,
        )  # fmt: skip
        agreement = f"{100 * fit['agreement']:.2f}"
        if row is None:
            lines.append([name, agreement, "target not reached", "", ""])
        else:
            cells = [f"{row['exact']:.1f}", f"{row['mean_depth']:.2f}", f"{row['loops_saved']:.0f}"]
            lines.append([name, agreement, *cells])
    fixed = column("Q4_0", 4)["all"]
    lines.append(["fixed, D = 4", "100.00", f"{fixed['exact']:.1f}", "4.00", "0"])
    return table(["Q4_0, policy", "agreement % (decoding the calibration set)", "exact %", "mean depth", "loops saved %"], lines)


readme, folder, questions = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
chosen = read("Q4_0")["chosen"]
figures = [
    BEGIN,
    f"Exact answers to `{questions}`, greedy, in percent, at fixed depths and with the thresholds of the last table:",
    "",
    *by_tag("Q4_0"),
    "",
    *by_tag("Q8_0"),
    "",
    *by_tag("F32"),
    "",
    "The F32 file has the checkpoint's gate, not one that was fitted again: hence its depth by `q`.",
    "",
    f"Thresholds fitted by `ouro calibrate` (target {read('Q4_0')['target']}); the files ask for "
    f"`{chosen['policy']}`:",
    "",
    *by_policy(),
    END,
]
text = readme.read_text()
if BEGIN in text and END in text:
    before, rest = text.split(BEGIN, 1)
    text = before + "\n".join(figures) + rest.split(END, 1)[1]
else:
    text = text.rstrip("\n") + "\n\n## Figures\n\n" + "\n".join(figures) + "\n"
readme.write_text(text)
