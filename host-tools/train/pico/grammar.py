"""The controller's language: one generator for training, calibration and evaluation.

Four kinds of question, each a one-line prompt with one short answer:

    command   if tank7 is above 15, stop belt7 and bring fan4 to 20
              {"if":["tank7",">",15],"do":[["stop","belt7"],["set","fan4",20]]}
    limit     Limit 70, reading 41. Alarm?                              no
    sum       60 plus 70?                                               130
    chain k   pump3 feeds fan1. fan1 feeds tank7. [...] From pump3, 2 steps?   tank7

To teach a model the language of another machine, replace this file: the rest of
the package only needs `sample`, `TAGS`, `key` and, for questions that share a
context, `ChainContext`.
"""

import random
import re
from dataclasses import dataclass

KINDS = ["belt", "fan", "heater", "line", "mixer", "motor", "pump", "sensor", "tank", "valve"]
DIGITS = list(range(1, 10))
DEVICES = [f"{kind}{digit}" for kind in KINDS for digit in DIGITS]

CONDITIONS = {"above": ">", "over": ">", "below": "<", "under": "<"}
VERBS = {
    "start": "start", "run": "start", "turn on": "start",
    "stop": "stop", "halt": "stop", "turn off": "stop",
    "open": "open", "unlock": "open", "release": "open",
    "close": "close", "shut": "close", "seal": "close",
    "set": "set", "bring": "set",
}
JOINTS = [" and ", " then "]

MAX_EDGES = 9
MAX_K = 8
CHAINS = [f"chain{k}" for k in range(1, MAX_K + 1)]
TAGS = ["command", "limit", "sum"] + CHAINS


@dataclass(frozen=True)
class Sample:
    prompt: str
    answer: str
    tag: str


# command ---------------------------------------------------------------------------------


def command(rng: random.Random) -> Sample:
    prompt, answer = "", "{"
    if rng.random() < 0.5:
        device, word, number = rng.choice(DEVICES), rng.choice(list(CONDITIONS)), rng.randrange(100)
        prompt += f"if {device} is {word} {number}, "
        answer += f'"if":["{device}","{CONDITIONS[word]}",{number}],'
    actions = []
    for i in range(rng.randint(1, 3)):
        # By action first, so that "set" with its two phrases is as frequent as the others.
        action = rng.choice(["start", "stop", "open", "close", "set"])
        phrase = rng.choice([v for v, a in VERBS.items() if a == action])
        device = rng.choice(DEVICES)
        prompt += rng.choice(JOINTS) if i else ""
        if action == "set":
            number = rng.randrange(100)
            prompt += f"{phrase} {device} to {number}"
            actions.append(f'["set","{device}",{number}]')
        else:
            prompt += f"{phrase} {device}"
            actions.append(f'["{action}","{device}"]')
    return Sample(prompt, answer + f'"do":[{",".join(actions)}]}}', "command")


# limit and sum ---------------------------------------------------------------------------


def limit_of(limit: int, reading: int) -> Sample:
    return Sample(f"Limit {limit}, reading {reading}. Alarm?", "yes" if reading > limit else "no", "limit")


def limit(rng: random.Random) -> Sample:
    return limit_of(rng.randrange(100), rng.randrange(100))


def near_limit(rng: random.Random) -> Sample:
    """A limit question with close numbers, where the answer is hard (training only)."""
    a = rng.randrange(100)
    return limit_of(a, min(99, max(0, a + rng.randint(-9, 9))))


def sum_(rng: random.Random) -> Sample:
    a, b = rng.randrange(100), rng.randrange(100)
    return Sample(f"{a} plus {b}?", str(a + b), "sum")


# chain -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChainContext:
    """A path of distinct devices and the order in which its edges are told."""

    path: tuple  # n + 1 devices
    order: tuple  # a permutation of range(n): which edge comes when

    @property
    def edges(self) -> int:
        return len(self.order)

    def text(self) -> str:
        return " ".join(f"{self.path[i]} feeds {self.path[i + 1]}." for i in self.order)

    def question(self, start: int, k: int) -> str:
        return f"From {self.path[start]}, {k} {'step' if k == 1 else 'steps'}?"

    def answer(self, start: int, k: int) -> str:
        return self.path[start + k]

    def sample(self, start: int, k: int) -> Sample:
        return Sample(f"{self.text()} {self.question(start, k)}", self.answer(start, k), f"chain{k}")

    def key(self, start: int, k: int) -> str:
        """Equal for all orders of the same edges with the same question."""
        edges = sorted(f"{a} feeds {b}." for a, b in zip(self.path, self.path[1:]))
        return " ".join(edges) + " " + self.question(start, k)


def shuffled_context(rng: random.Random, path) -> ChainContext:
    order = list(range(len(path) - 1))
    rng.shuffle(order)
    return ChainContext(tuple(path), tuple(order))


def chain_context(rng: random.Random, edges: int) -> ChainContext:
    return shuffled_context(rng, rng.sample(DEVICES, edges + 1))


def alike_context(rng: random.Random, edges: int) -> ChainContext:
    """A context in which devices share their kind or their digit (training only: binding a
    kind to its digit is what a small model learns last)."""
    while True:  # until the drawn kinds and digits give enough devices
        n_kinds, n_digits = rng.choice([(1, 9), (rng.randint(2, 4), rng.randint(2, 5))])
        kinds, digits = rng.sample(KINDS, n_kinds), rng.sample(DIGITS, n_digits)
        if n_kinds * n_digits > edges:
            pool = [f"{kind}{digit}" for kind in kinds for digit in digits]
            return shuffled_context(rng, rng.sample(pool, edges + 1))


def distinct_context(rng: random.Random, edges: int) -> ChainContext:
    """A context whose devices are all of different kinds, so that the kind alone tells them
    apart (training only: hopping is learned here first)."""
    kinds = rng.sample(KINDS, edges + 1)
    return shuffled_context(rng, [f"{kind}{rng.choice(DIGITS)}" for kind in kinds])


def chain(rng: random.Random, k: int) -> Sample:
    context = chain_context(rng, rng.randint(max(3, k), MAX_EDGES))
    return context.sample(rng.randint(0, context.edges - k), k)


# all kinds -------------------------------------------------------------------------------


def sample(rng: random.Random, tag: str) -> Sample:
    """One question of a tag, as it is evaluated."""
    if tag.startswith("chain"):
        return chain(rng, int(tag[len("chain"):]))
    return {"command": command, "limit": limit, "sum": sum_}[tag](rng)


def key(prompt: str) -> str:
    """What makes two prompts the same question: the edge set and the question of a chain,
    the unordered pair of a sum, otherwise the text."""
    if " feeds " in prompt:
        edges, question = prompt.rsplit(". From ", 1)
        return " ".join(sorted(re.findall(r"\S+ feeds \S+\.", edges + "."))) + " From " + question
    if m := re.fullmatch(r"(\d+) plus (\d+)\?", prompt):
        a, b = sorted(map(int, m.groups()))
        return f"{a} plus {b}?"
    return prompt
