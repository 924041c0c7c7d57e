"""Exact match by tag, at every depth and under exit policies.

An answer counts when every token of it, the end included, is what the model would say.
Greedy decoding says the answer exactly if and only if each token of it is the best one
after the tokens before it, so one pass over prompt and answer decides. All positions run
all loops here, with every loop's K/V: an exit only chooses which loop's logits are read. What
a shared KV cache makes of the answers, and of early exits, `ouro eval` measures.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from . import evalset, grammar
from .model import exit_distribution
from .quant import TYPES
from .tokenizer import IM_END, PAD, chat

Q_EXITS = [0.3, 0.5, 0.7, 0.9]
CONFIDENCES = [0.8, 0.9, 0.95, 0.99]


@dataclass
class Outcome:
    """For every answer token, by loop; [T, tokens] unless said otherwise."""

    right: torch.Tensor
    confidence: torch.Tensor
    gate: torch.Tensor  # before its sigmoid
    question: torch.Tensor  # [tokens], which question it belongs to
    tags: list  # the tag of every question

    @property
    def loops(self) -> int:
        return len(self.right)

    def depth(self, policy: str, threshold: float):
        """The loop (from 0) at which each token leaves, [tokens]."""
        if policy == "fixed":
            return torch.full_like(self.question, int(threshold) - 1)
        if policy == "q":
            leave = exit_distribution(self.gate).exp().cumsum(0) >= threshold
        elif policy == "confidence":
            leave = self.confidence >= threshold
        else:
            raise ValueError(policy)
        leave = leave.clone()
        leave[-1] = True
        return leave.float().argmax(0)

    def exact(self, depth):
        """Whether each question is answered exactly, [questions]."""
        right = self.right.gather(0, depth[None])[0].float()
        return torch.ones(len(self.tags)).scatter_reduce(0, self.question, right, "amin")

    def row(self, policy: str, threshold: float) -> dict:
        """Percent exact by tag and over all questions, and the mean depth of answer tokens."""
        depth = self.depth(policy, threshold)
        exact = self.exact(depth)
        row = {}
        for tag in dict.fromkeys(self.tags):
            row[tag] = 100 * exact[torch.tensor([t == tag for t in self.tags])].mean().item()
        row["all"] = 100 * exact.mean().item()
        row["depth"] = 1 + depth.float().mean().item()
        return row


def quantized(model, kind: str):
    """A copy of the model whose matrices went through a GGML type; norms and gate stay."""
    import copy

    out = copy.deepcopy(model)
    for name, p in out.named_parameters():
        if p.ndim == 2 and "early_exit_gate" not in name:
            p.data = TYPES[kind](p.data)
    return out


def ids(tokenizer, sample):
    """The prompt's tokens, and the answer's with the one that ends it."""
    return tokenizer.encode(chat(sample.prompt)).ids, tokenizer.encode(sample.answer).ids + [IM_END]


def questions(path: Path, tokenizer, context: int) -> list:
    """The questions of a file; refused with the line's number if one is longer than the context."""
    samples = evalset.read(path)
    for number, sample in enumerate(samples, 1):
        prompt, answer = map(len, ids(tokenizer, sample))
        if prompt + answer > context:
            raise SystemExit(
                f"{path}, line {number}: the prompt has {prompt} tokens and the answer {answer}, expected at most {context} "
                "together, the model's context; leave this line out"
            )
    return samples


@torch.no_grad()
def run(model, tokenizer, samples, loops=None, batch=48) -> Outcome:
    texts = [ids(tokenizer, sample) for sample in samples]
    order = sorted(range(len(samples)), key=lambda i: sum(map(len, texts[i])))
    right, confidence, gate, question = [], [], [], []
    for at in range(0, len(order), batch):
        part = order[at : at + batch]
        length = max(sum(map(len, texts[i])) for i in part) - 1
        tokens = torch.full((len(part), length), PAD)
        target = torch.full((len(part), length), -1)
        for row, i in enumerate(part):
            prompt, answer = texts[i]
            line = torch.tensor(prompt + answer)
            tokens[row, : len(line) - 1] = line[:-1]
            target[row, len(prompt) - 1 : len(line) - 1] = line[len(prompt) :]
        positions = torch.arange(length).expand(len(part), -1)
        causal = torch.ones(length, length, dtype=torch.bool).tril().expand(len(part), -1, -1)
        asked = target >= 0
        states = model(tokens, positions, causal, loops)[:, asked]
        probability = model.head(states).softmax(-1)
        right.append(probability.argmax(-1) == target[asked])
        confidence.append(probability.amax(-1))
        gate.append(model.gate(states))
        question.append(torch.tensor(part)[:, None].expand(-1, length)[asked])
    return Outcome(*(torch.cat(x, 1) for x in (right, confidence, gate)), torch.cat(question), [s.tag for s in samples])


def table(rows: dict) -> str:
    """Markdown, one line per named row."""
    columns = [tag for tag in [*grammar.TAGS, "all", "depth"] if any(tag in row for row in rows.values())]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [f"{row[c]:.2f}" if c == "depth" else f"{row[c]:.1f}" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(model, tokenizer, samples, kinds=("f32", "q8_0", "q4_0")) -> dict:
    """Every depth and policy, for every type of the weights: {name: row}."""
    rows = {}
    for kind in kinds:
        outcome = run(quantized(model, kind), tokenizer, samples)
        for loops in range(1, outcome.loops + 1):
            rows[f"{kind}, {loops} loops"] = outcome.row("fixed", loops)
        for q in Q_EXITS:
            rows[f"{kind}, q={q}"] = outcome.row("q", q)
        for c in CONFIDENCES:
            rows[f"{kind}, confidence={c}"] = outcome.row("confidence", c)
    return rows
