"""The recipe of Ouro-Pico, from the grammar to an HF folder."""

import argparse
import json
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
RUN = HERE / "runs" / "pico"
MODEL = HERE.parents[1] / "models" / "ouro-pico"
GATE_BATCHES = 40  # of training rows, whose answers the exit gate learns from


def parser():
    top = argparse.ArgumentParser(prog="python -m pico", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    def command(name, help):
        p = commands.add_parser(name, help=help, description=help, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        p.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
        return p

    def stage_two(p):
        p.add_argument("--out", type=Path, default=MODEL, help="folder to export to")
        p.add_argument("--gain", choices=["past", "next", "rest"], default="rest", help="what the exit gate learns from")

    p = command("data", "Write the evaluation and calibration sets (tests/data/pico-*.jsonl), or with --fresh another set.")
    p.add_argument("--fresh", type=Path, metavar="FILE", help="write a set of other questions here")
    p.add_argument("--per-tag", type=int, default=1000, help="questions of every tag in a fresh set")
    p.add_argument("--seed", type=int, default=7, help="seed of a fresh set")

    p = command("train", "Stage I, then Stage II, then export. Goes on from the run's checkpoint if there is one.")
    p.add_argument("--hours", type=float, default=2.0, help="hours of a thread's CPU time before answers read a shared KV cache")
    p.add_argument("--shared-hours", type=float, default=1.0, help="further ones in which answers read a shared KV cache")
    p.add_argument("--run", type=Path, default=RUN, help="folder of the checkpoint and the log")
    p.add_argument("--layers", type=int, default=3, help="layers of the stack")
    p.add_argument("--hidden", type=int, default=128, help="width, a multiple of 32")
    p.add_argument("--seed", type=int, default=1, help="seed of the weights and of the questions")
    p.add_argument("--no-compile", action="store_true", help="no torch.compile: slower, but needs no C++ compiler")
    p.add_argument("--f32", action="store_true", help="f32 instead of bf16 products, for CPUs without bf16")
    p.add_argument("--smoke", action="store_true", help="the whole way in one minute with a tiny model, in runs/smoke")
    stage_two(p)

    p = command("export", "Stage II and export of a checkpoint, finished or not.")
    p.add_argument("--run", type=Path, default=RUN, help="folder of the checkpoint")
    stage_two(p)

    p = command("evaluate", "Exact match by tag, depth and exit policy, for f32, Q8_0 and Q4_0 weights, with every loop's K/V (`ouro eval` measures a shared cache).")
    p.add_argument("model", type=Path, nargs="?", default=MODEL, help="HF folder")
    p.add_argument("--data", type=Path, help="JSON lines with prompt, answer, tag (default: the evaluation set)")
    p.add_argument("--types", default="f32,q8_0,q4_0", help="types of the weights, separated by commas")
    p.add_argument("--json", type=Path, help="also write the rows here")

    p = command("curve", "Thin a run's log into a learning curve worth keeping.")
    p.add_argument("--run", type=Path, default=RUN, help="folder of the log")
    p.add_argument("--out", type=Path, default=MODEL / "curve.jsonl", help="file to write")
    p.add_argument("--every", type=int, default=10, help="keep every n-th line of the log")
    return top


def stage_two(run: Path, out: Path, gain: str, batches: int):
    """Trains the gate of the run's checkpoint, on the state of every loop's K/V, and exports the model with the lowest Q-exit
    threshold that keeps within half a point of full depth on the calibration set."""
    from . import evalset, evaluate, export, gate, grammar, tokenizer
    from .data import Stream

    model, state = export.from_checkpoint(run / "checkpoint.pt")
    tok = tokenizer.build()
    stream = Stream(tok, seed=state["identity"]["seed"] + 1000, excluded=evalset.excluded_keys(), max_k=grammar.MAX_K)
    loss = gate.train(model, stream, gain, batches)
    outcome = evaluate.run(model, tok, evalset.read(evalset.CALIB))
    full = outcome.row("fixed", outcome.loops)["all"]
    threshold = next((q / 20 for q in range(2, 20) if outcome.row("q", q / 20)["all"] >= full - 0.5), 1.0)
    export.write(model, tok, out, threshold)
    row = outcome.row("q", threshold)
    print(f"gate loss {loss:.3f}; full depth {full:.1f} %; q = {threshold}: {row['all']:.1f} % at mean depth {row['depth']:.2f}")
    print(f"wrote {out}")


def train(args):
    import torch

    from .model import Config
    from .train import Recipe, Trainer

    config, recipe = Config(layers=args.layers, hidden=args.hidden), Recipe(seed=args.seed)
    if args.smoke:
        args.run, args.out, args.no_compile = HERE / "runs" / "smoke", HERE / "runs" / "smoke" / "model", True
        args.hours, args.shared_hours = 15 / 3600, 5 / 3600
        config, recipe = Config(layers=1, hidden=64, heads=2, ffn=128), Recipe(seed=args.seed, rows=4)
        shutil.rmtree(args.run, ignore_errors=True)
    dtype = torch.float32 if args.f32 or args.smoke else torch.bfloat16
    Trainer(config, recipe, args.run, args.hours, args.shared_hours, not args.no_compile, dtype).train(log_every=10 if args.smoke else 50)
    stage_two(args.run, args.out, args.gain, batches=2 if args.smoke else GATE_BATCHES)


def export(args):
    stage_two(args.run, args.out, args.gain, GATE_BATCHES)


def evaluate(args):
    from . import evalset, evaluate, export

    model, tok = export.read(args.model)
    samples = evaluate.questions(args.data or evalset.EVAL, tok, model.config.context)
    rows = evaluate.report(model, tok, samples, args.types.split(","))
    print(evaluate.table(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def write_data(args):
    from . import evalset

    if args.fresh:
        evalset.fresh(args.fresh, args.seed, args.per_tag)
    else:
        evalset.committed()


def curve(args):
    lines = (args.run / "log.jsonl").read_text().splitlines()
    kept = [line for i, line in enumerate(lines) if i % args.every == 0 or i == len(lines) - 1]
    args.out.write_text("\n".join(kept) + "\n")
    print(f"{args.out}: {len(kept)} of {len(lines)} lines")


def main():
    args = parser().parse_args()
    if args.command == "data":
        write_data(args)
    elif args.command == "curve":
        curve(args)
    else:
        import torch  # only here, so that the others need no more than Python

        torch.set_num_threads(args.threads)
        {"train": train, "export": export, "evaluate": evaluate}[args.command](args)


main()
