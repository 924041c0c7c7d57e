"""The evaluation and calibration sets: JSON lines with prompt, answer and tag."""

import json
import random
from pathlib import Path

from . import grammar

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = REPOSITORY / "tests" / "data"
EVAL, CALIB = DATA / "pico-eval.jsonl", DATA / "pico-calib.jsonl"
SETS = {EVAL: (20261, 150), CALIB: (20262, 75)}  # file: (seed, questions per tag)


def questions(seed: int, per_tag: int, taken: set):
    """`per_tag` questions of every tag; none twice, none already taken."""
    rng = random.Random(seed)
    for tag in grammar.TAGS:
        n, in_vain = 0, 0
        while n < per_tag:
            sample = grammar.sample(rng, tag)
            key = grammar.key(sample.prompt)
            if key in taken:
                in_vain += 1
                if in_vain > 1000 + 100 * per_tag:
                    raise SystemExit(f"{tag}: found {n} of {per_tag} different questions and hardly any more; ask for fewer")
                continue
            taken.add(key)
            n += 1
            yield sample


def write(path: Path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        for s in samples:
            file.write(json.dumps({"prompt": s.prompt, "answer": s.answer, "tag": s.tag}) + "\n")


def read(path: Path) -> list:
    """The questions of a file, one a line. What is wrong with it is told with the number of the line."""
    samples = []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        try:
            record = json.loads(line)
            sample = grammar.Sample(record["prompt"], record["answer"], record["tag"])
            if not all(isinstance(text, str) for text in (sample.prompt, sample.answer, sample.tag)):
                raise TypeError("not all of them are strings")
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path}, line {number}: expected prompt, answer and tag: {error!r}")
        if sample.tag not in grammar.TAGS:
            raise SystemExit(f"{path}, line {number}: the tag {sample.tag!r} found, expected one of {', '.join(grammar.TAGS)}")
        samples.append(sample)
    if not samples:
        raise SystemExit(f"{path}: no questions in it")
    return samples


def excluded_keys() -> frozenset:
    """The keys of all questions that training must never ask."""
    return frozenset(grammar.key(s.prompt) for path in SETS for s in read(path))


def fresh(path: Path, seed: int, per_tag: int):
    """Other questions, for figures finer than the committed sets allow."""
    committed = set(excluded_keys())
    samples = list(questions(seed, per_tag, committed))
    write(path, samples)
    print(f"{path}: {len(samples)} questions, seed {seed}")


def committed():
    taken = set()
    for path, (seed, per_tag) in SETS.items():
        samples = list(questions(seed, per_tag, taken))
        write(path, samples)
        print(f"{path.relative_to(REPOSITORY)}: {len(samples)} questions, seed {seed}")
