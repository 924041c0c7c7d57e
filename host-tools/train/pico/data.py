"""Training rows: many questions in one row, each blind to the others.

A row is a context part and a few groups of equal length:

    | context: a chain's edges, or the prompts of commands | group | group | group | group |

Questions form trees. The edges of a chain are a root; each starting device (`From pump3, `)
is a child; each number of steps (`4 steps?`, then the answer) is a child of that. A token
sees its own node up to itself and the nodes above it, at the positions they have in the
prompt: exactly the prompt as it would stand alone. So one context pays for a dozen
questions. A node below the context lies within one group with the nodes between, so
attention only ever needs the context and the own group: a quarter of the full square.
"""

import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from . import grammar
from .tokenizer import ASSISTANT, PAD, USER

MIX = {"chain": 0.66, "command": 0.12, "sum": 0.14, "limit": 0.08}  # by tokens
NO_TARGET = -100

CONTEXT = 57  # nine edges behind the `user` header; any prompt of a command
GROUP = 46  # four numbers of steps below one start; any answer of a command
GROUPS = 4
LENGTH = CONTEXT + GROUPS * GROUP


@dataclass
class Batch:
    """B rows of L = LENGTH tokens."""

    tokens: np.ndarray  # [B, L] int64
    positions: np.ndarray  # [B, L] int64
    targets: np.ndarray  # [B, L] int64, NO_TARGET outside answers
    question: np.ndarray  # [B, L] int64, which question a target belongs to, -1 outside answers
    context_mask: np.ndarray  # [B, C, C] bool, true where a query (row) may look at a key (column)
    group_mask: np.ndarray  # [B, G, S, C + S] bool, the same for the queries of a group
    tags: list  # the tag of every question, as an index into grammar.TAGS
    paths: list  # for every chain question the token pairs (kind, digit) of hops 0..=k, else ()


def visible(batch: Batch, row: int, column: int) -> np.ndarray:
    """The columns that a token sees, in order (for tests)."""
    if column < CONTEXT:
        return np.flatnonzero(batch.context_mask[row, column])
    group, at = divmod(column - CONTEXT, GROUP)
    seen = np.flatnonzero(batch.group_mask[row, group, at])
    return np.where(seen < CONTEXT, seen, seen + group * GROUP)


class Part:
    """The context or a group of a row under construction."""

    def __init__(self, length: int):
        self.length = length
        self.tokens, self.positions, self.targets, self.question, self.node = [], [], [], [], []

    @property
    def room(self) -> int:
        return self.length - len(self.tokens)


class Row:
    def __init__(self):
        self.context = Part(CONTEXT)
        self.groups = [Part(GROUP) for _ in range(GROUPS)]
        self.parents, self.ends, self.tags, self.paths = [], [], [], []

    def add(self, part: Part, ids, parent=-1, answer=(), tag=None, path=()) -> int:
        """Appends a node to a part: the given ids, then the answer, whose last token is only
        a target. Returns the node's number."""
        node = len(self.parents)
        start = self.ends[parent] if parent >= 0 else 0
        ids = ids + answer[:-1] if answer else ids
        targets, question = [NO_TARGET] * len(ids), [-1] * len(ids)
        if answer:
            targets[-len(answer) :] = answer
            question[-len(answer) :] = [len(self.tags)] * len(answer)
            self.tags.append(grammar.TAGS.index(tag))
            self.paths.append(path)
        part.tokens += ids
        part.positions += range(start, start + len(ids))
        part.targets += targets
        part.question += question
        part.node += [node] * len(ids)
        self.parents.append(parent)
        self.ends.append(start + len(ids))
        return node

    def masks(self):
        """For the context [C, C] and for the groups [G, S, C + S]."""
        n = len(self.parents)
        above = np.eye(n + 1, dtype=bool)  # the last node holds all padding
        for child, parent in enumerate(self.parents):
            if parent >= 0:
                above[child] |= above[parent]

        def nodes(part):
            return np.array(part.node + [n] * part.room)

        context = nodes(self.context)
        groups = np.stack([nodes(group) for group in self.groups])
        own = above[groups[:, :, None], groups[:, None, :]] & np.tri(GROUP, dtype=bool)
        # Padding must see something, so it sees itself; but never the context's padding.
        up = above[groups[:, :, None], context[None, None, :]] & (context < n)
        return (
            above[context[:, None], context[None, :]] & np.tri(CONTEXT, dtype=bool),
            np.concatenate([up, own], 2),
        )

    def flat(self, name: str, padding) -> np.ndarray:
        out = []
        for part in [self.context, *self.groups]:
            out += getattr(part, name) + [padding] * part.room
        return np.array(out)


class Stream:
    """An endless stream of batches from a seed. `excluded` holds the keys of the questions
    that must not occur; `max_k` is the curriculum's current number of hops."""

    def __init__(self, tokenizer, seed: int, excluded=frozenset(), rows=13, max_k=1, mix=MIX):
        self.rng = random.Random(seed)
        self.excluded = excluded
        self.rows, self.max_k, self.mix = rows, max_k, mix
        self.used = dict.fromkeys(mix, 0)  # tokens so far
        self.record = None  # set to a list to keep the key of every question asked

        @lru_cache(maxsize=20000)
        def encode(text):
            return tokenizer.encode(text).ids

        self.encode = encode

    # what is asked ----------------------------------------------------------------------------

    def edges(self) -> int:
        """Short contexts as long as one or two hops are asked, so that binding is learned
        first; then the whole range of the grammar."""
        most = 6 if self.max_k <= 2 else grammar.MAX_EDGES
        if self.rng.random() < 0.5:  # the longest chains ask the hardest questions
            return self.rng.randint(min(max(3, self.max_k), most), most)
        return self.rng.randint(3, most)

    def hops(self, most: int) -> set:
        """Four different numbers of hops out of 1..most (fewer if there are not as many), one
        of the hardest two among them."""
        if most <= 4:
            return set(range(1, most + 1))
        hard = self.rng.randint(most - 1, most)
        return {hard, *self.rng.sample([k for k in range(1, most + 1) if k != hard], 3)}

    def allowed(self, key: str) -> bool:
        if key in self.excluded:
            return False
        if self.record is not None:
            self.record.append(key)
        return True

    def behind(self, kinds) -> str:
        """The kind furthest behind its share."""
        return min(kinds, key=lambda kind: self.used[kind] / self.mix[kind])

    # filling a row ----------------------------------------------------------------------------

    def add_chain(self, row: Row) -> bool:
        make = self.rng.choices([grammar.chain_context, grammar.alike_context, grammar.distinct_context], [4, 3, 3])[0]
        context = make(self.rng, self.edges())
        text = self.encode(USER + context.text())
        if len(text) > row.context.room or all(group.room < 25 for group in row.groups):
            return False
        root = row.add(row.context, text)
        used = len(text)
        starts = list(range(context.edges))
        self.rng.shuffle(starts)
        if self.rng.random() < 0.7:  # starts from which the current number of hops is possible
            starts.sort(key=lambda start: context.edges - start < self.max_k)
        for start in starts:
            prefix = self.encode(f" From {context.path[start]}, ")
            # The steps follow as a digit, which is a token of its own.
            leaves = [
                (
                    self.encode(f"{k} {'step' if k == 1 else 'steps'}?" + ASSISTANT),
                    self.encode(context.answer(start, k) + "<|im_end|>"),
                    k,
                )
                for k in sorted(self.hops(min(self.max_k, context.edges - start)))
                if self.allowed(context.key(start, k))
            ]
            size = len(prefix) + sum(len(ask) + len(answer) - 1 for ask, answer, _ in leaves)
            group = next((group for group in row.groups if group.room >= size), None)
            if group is None or not leaves:
                continue
            node = row.add(group, prefix, root)
            for ask, answer, k in leaves:
                path = [self.encode(device) for device in context.path[start : start + k + 1]]
                row.add(group, ask, node, answer, f"chain{k}", path)
            used += size
        self.used["chain"] += used
        return True

    def add_command(self, row: Row) -> bool:
        """The prompt into the context, the answer into a group."""
        sample = grammar.command(self.rng)
        prompt = self.encode(USER + sample.prompt)
        ask, answer = self.encode(ASSISTANT), self.encode(sample.answer + "<|im_end|>")
        size = len(ask) + len(answer) - 1
        group = next((group for group in row.groups if group.room >= size), None)
        if group is None or len(prompt) > row.context.room:
            return False
        if self.allowed(grammar.key(sample.prompt)):
            row.add(group, ask, row.add(row.context, prompt), answer, "command")
            self.used["command"] += len(prompt) + size
        return True

    def add_short(self, group: Part, row: Row, kind: str) -> bool:
        if kind == "sum":
            sample = grammar.sum_(self.rng)
        else:
            sample = self.rng.choice([grammar.limit, grammar.near_limit])(self.rng)
        prompt = self.encode(USER + sample.prompt + ASSISTANT)
        answer = self.encode(sample.answer + "<|im_end|>")
        size = len(prompt) + len(answer) - 1
        if size > group.room:
            return False
        if self.allowed(grammar.key(sample.prompt)):
            row.add(group, prompt, answer=answer, tag=kind)
            self.used[kind] += size
        return True

    def row(self) -> Row:
        row = Row()
        add = self.add_chain if self.behind(["chain", "command"]) == "chain" else self.add_command
        while add(row):
            pass
        for group in row.groups:
            while self.add_short(group, row, self.behind(["sum", "limit"])):
                pass
        return row

    def batch(self) -> Batch:
        rows = [self.row() for _ in range(self.rows)]
        masks = [row.masks() for row in rows]
        question, tags = [], []
        for row in rows:
            numbers = row.flat("question", -1)
            question.append(np.where(numbers < 0, -1, numbers + len(tags)))
            tags += row.tags
        return Batch(
            np.stack([row.flat("tokens", PAD) for row in rows]),
            np.stack([row.flat("positions", 0) for row in rows]),
            np.stack([row.flat("targets", NO_TARGET) for row in rows]),
            np.stack(question),
            np.stack([context for context, _ in masks]),
            np.stack([groups for _, groups in masks]),
            tags,
            [path for row in rows for path in row.paths],
        )

    # checkpoints ------------------------------------------------------------------------------

    def state(self):
        return {"rng": self.rng.getstate(), "used": self.used, "max_k": self.max_k}

    def restore(self, state):
        self.rng.setstate(state["rng"])
        self.used, self.max_k = state["used"], state["max_k"]
