#!/usr/bin/env python3
"""Writes the tables of Ouro-Pico's card: the learning curve, and what `ouro eval` and `ouro calibrate` measured.

Called by make-pico.sh with the model's folder and that of the JSON files; with the first alone it writes the
learning curve only.
"""

import json
import sys
from pathlib import Path

TYPES = ["F32", "Q8_0", "Q4_0"]
PER_LOOP = ["Q8_0", "Q4_0"]  # those that the fresh set also asks with every loop's K/V
CHAINS = [f"chain{k}" for k in range(1, 9)]
TAGS = ["command", "limit", "sum", *CHAINS]


def table(head, lines):
    yield "| " + " | ".join(head) + " |"
    yield "|---" + "|--:" * (len(head) - 1) + "|"
    yield from ("| " + " | ".join(line) + " |" for line in lines)


# The learning curve ----------------------------------------------------------------------


def learning_curve():
    """Every second line of curve.jsonl, and the last."""
    curve = [json.loads(line) for line in (model / "curve.jsonl").read_text().splitlines()]
    kept = [row for i, row in enumerate(curve) if i % 2 == 0 or i == len(curve) - 1]
    lines = [
        [f"{row['hours']:.2f}", f"{row['tokens'] / 1e6:.1f}", f"{row['rate']:.2f}"]
        + [f"{row['exact'][tag][-1]:.0f}" if tag in row["exact"] else "" for tag in TAGS]
        for row in kept
    ]
    return table(["hours", "M tokens", "rate", *TAGS], lines)


# Figures ---------------------------------------------------------------------------------


def read(name):
    return json.loads((folder / f"{name}.json").read_text())


def settings(name):
    return list(dict.fromkeys((row["loops"], row["exit"]) for row in read(name)))


def column(name, loops=4, exit="fixed"):
    """The rows of one setting by tag."""
    return {row["tag"]: row for row in read(name) if (row["loops"], row["exit"]) == (loops, exit)}


def by_tag(kind, set_name):
    """Every depth and policy measured, and the mean depth of each."""
    name = f"{set_name}-{kind}"
    columns = {
        f"D={loops}" if exit == "fixed" else exit.split("=")[0]: column(name, loops, exit)
        for loops, exit in settings(name)
    }
    if set_name == "fresh" and kind in PER_LOOP:
        columns["D=4, `--kv per-loop`"] = column(f"fresh-per-loop-{kind}")
    lines = [[tag] + [f"{rows[tag]['exact']:.1f}" for rows in columns.values()] for tag in [*TAGS, "all"]]
    lines.append(["mean depth"] + [f"{rows['all']['mean_depth']:.2f}" for rows in columns.values()])
    return table([f"{kind}, exact %", *columns], lines)


def thresholds():
    lines = []
    for kind in TYPES:
        for fit in read(f"fit-{kind}")["policies"]:
            cells = [f"{100 * fit['agreement']:.2f}", f"{fit['mean_depth']:.2f}", f"{fit['loops_saved']:.0f}"]
            missed = "" if fit["reached"] else ", target not reached"
            lines.append([kind, f"{fit['policy']} = {fit['threshold']:.5g}{missed}", *cells])
    return table(["type", "policy", "agreement %", "mean depth", "loops saved %"], lines)


def mean(rows, tags):
    return sum(rows[tag]["exact"] for tag in tags) / len(tags)


def apart(a, b):
    """The largest difference of a row, in points."""
    return max(abs(a[tag]["exact"] - b[tag]["exact"]) for tag in TAGS)


def between_types(kind):
    """The largest difference of a row from F32, in points; of chain8 in its long set."""
    rows = {type: {**column(f"fresh-{type}"), **{"chain8": column(f"chain8-{type}")["chain8"]}} for type in ("F32", kind)}
    return apart(rows[kind], rows["F32"])


def asked_for():
    """What was asked of the model, and what it does with questions of the fresh set."""
    f32, shallow = column("fresh-F32"), column("fresh-F32", 1)
    n_chain8 = column("chain8-F32")["chain8"]["n"]
    lines = []

    def row(what, bound, found, met, goal=False):
        lines.append([what, "" if goal else bound, bound if goal else "", found, "yes" if met else "**no**"])

    def at_least(what, bound, found, goal=False):
        row(what, f"≥ {bound}", f"{found:.1f}", found >= bound, goal)

    def at_most(what, bound, found):
        row(what, f"≤ {bound}", f"{found:.1f}", round(found, 6) <= bound)

    for tag, bound in [("command", 99), ("limit", 99), ("sum", 98), ("chain1", 97), ("chain2", 97), ("chain3", 97), ("chain4", 88)]:
        at_least(f"{tag}, F32", bound, f32[tag]["exact"])
    at_least("mean of chain5 to chain8, F32", 75, mean(f32, CHAINS[4:]), goal=True)
    at_least("points that D=4 is above D=1, mean of chain3 to chain8, F32", 30, mean(f32, CHAINS[2:]) - mean(shallow, CHAINS[2:]))
    at_most(f"points between Q8_0 and F32, on the row where they differ most, chain8 in {n_chain8:,} questions", 0.3, between_types("Q8_0"))
    at_most("points between Q4_0 and F32, the same", 1, between_types("Q4_0"))
    full = column("fresh-Q4_0")["all"]
    exits = {exit: column("fresh-Q4_0", 4, exit)["all"] for _, exit in settings("fresh-Q4_0") if exit != "fixed"}
    costs = {exit.split("=")[0]: (round(full["exact"] - found["exact"], 1) + 0.0, found["mean_depth"]) for exit, found in exits.items()}
    found = ", ".join(f"{policy} {lost:.1f} at {depth:.2f}" for policy, (lost, depth) in costs.items())
    met = any(lost <= 1.5 and depth <= 2.5 for lost, depth in costs.values())
    row("points of all that some policy loses, at its mean depth, Q4_0", "≤ 1.5 at ≤ 2.5", found, met)
    for kind in PER_LOOP:
        shared, per_loop = column(f"fresh-{kind}"), column(f"fresh-per-loop-{kind}")
        lost = abs(shared["all"]["exact"] - per_loop["all"]["exact"])
        found = f"{lost:.1f} ({apart(shared, per_loop):.1f} on the row where they differ most)"
        row(f"points of all between a shared cache and `--kv per-loop`, {kind}", "≤ 0.5", found, lost <= 0.5)
    return table(["D=4 unless told otherwise", "required", "goal", "measured", "met"], lines)


def figures():
    n, all_fresh = column("fresh-F32")["sum"]["n"], column("fresh-F32")["all"]["n"]
    fit = read("fit-Q4_0")
    return [
        f"### A fresh set\n\n{n:,} questions of each tag, {all_fresh:,} in all, that are in none of the committed sets "
        f"(`python -m pico data --fresh fresh.jsonl --per-tag {n}` in `host-tools/train`), greedy, percent exact, by one shared KV "
        "cache unless told otherwise. What was asked of the model:\n",
        *asked_for(),
        "\nThe same by tag, depth and policy:",
        *(line for kind in TYPES for line in ("", *by_tag(kind, "fresh"))),
        f"\n{column('chain8-F32')['chain8']['n']:,} questions of chain8 alone, D=4 (`--per-tag 4000 --seed 77`): "
        + ", ".join(f"{kind} {column(f'chain8-{kind}')['chain8']['exact']:.1f}" for kind in TYPES)
        + " %.",
        f"\n### The evaluation set\n\n{column('eval-F32')['sum']['n']} questions of each tag (`ouro eval tests/data/pico-eval.jsonl "
        "-m FILE --loops 1,2,3,4 --exit fixed,POLICY=THRESHOLD,…`):",
        *(line for kind in TYPES for line in ("", *by_tag(kind, "eval"))),
        f"\n### Thresholds\n\nFitted by `ouro calibrate --data tests/data/pico-calib.jsonl --target {fit['target']} --refit-gate`, for "
        f"each type by itself, in {fit['decoded']:,} decoded tokens; the files ask for `{fit['chosen']['policy']}`:\n",
        *thresholds(),
    ]


def write(name, lines):
    """Replaces what stands between the two comments of this name in the card."""
    begin, end = f"<!-- {name}: made by host-tools/scripts/make-pico.sh, do not edit -->", f"<!-- end of {name} -->"
    text = card.read_text()
    if begin not in text or end not in text:
        raise SystemExit(f"{card}: expected the comments {begin} and {end}")
    before, rest = text.split(begin, 1)
    card.write_text("\n".join([before + begin, "", *lines, "", end]) + rest.split(end, 1)[1])


model = Path(sys.argv[1])
card = model / "README.md"
write("learning curve", learning_curve())
if len(sys.argv) > 2:
    folder = Path(sys.argv[2])
    write("figures", figures())
