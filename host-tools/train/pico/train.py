"""Stage I: the looped model learns the language.

The loss is the cross-entropy of every loop, weighted by the exit distribution of the
model's own gate, less an entropy bonus that keeps that distribution from collapsing
(arXiv 2510.25741, a uniform prior). The schedule follows CPU time: the learning rate
falls along a cosine over the last quarter of the hours given, and over the last 15 %
the forward pass sees weights as Q4_0 will store them. In further hours answers are said
through a shared KV cache as well (`shared.py`), at a rate that falls from half, with
quantized weights.
"""

import hashlib
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from . import data, evalset, grammar, shared, tokenizer
from .data import NO_TARGET, Stream
from .model import Config, LoopedModel, exit_distribution, layer
from .muon import Muon
from .quant import straight_through


@dataclass(frozen=True)
class Recipe:
    """What a checkpoint can't be resumed without."""

    seed: int = 1
    rows: int = 8
    muon_lr: float = 0.01
    adam_lr: float = 2e-3
    weight_decay: float = 0.02
    entropy: float = 0.05
    floor: float = 0.2  # share of the loss that every loop gets, whatever the exit distribution
    lookahead: float = 0.5  # weight of the loss of the token after next
    trace: float = 1.5  # weight of the loss of the hops on the way
    advance: float = 0.9  # accuracy on the current number of hops at which more are asked
    decay_from: float = 0.75  # of the hours
    noise_from: float = 0.85  # of the hours: quantized weights in the forward pass
    shared_rate: float = 0.5  # factor of the learning rate at which the shared cache begins


@dataclass(frozen=True)
class Moment:
    """What the schedule says: the factor of the learning rates, whether the forward pass sees
    quantized weights, and whether answers are also said through a shared cache."""

    rate: float
    noise: bool
    share: bool


def core_seconds() -> float:
    """CPU time of this process, of each of its threads: what the schedule goes by, so that a busy
    machine makes training take longer but not end earlier."""
    return time.process_time() / torch.get_num_threads()


def cosine(x: float, top: float) -> float:
    """From `top` at x = 0 to 0.02 at x = 1."""
    return 0.02 + (top - 0.02) * 0.5 * (1 + math.cos(math.pi * min(1.0, x)))


def schedule(recipe: Recipe, hours: float, shared_hours: float, now: float) -> Moment:
    """After `now` hours of `hours` by per-loop K/V and `shared_hours` more by a shared cache."""
    if now >= hours:
        return Moment(cosine((now - hours) / shared_hours, recipe.shared_rate), True, True)
    done = now / hours
    falling = max(0.0, done - recipe.decay_from) / (1 - recipe.decay_from)
    return Moment(cosine(falling, 1.0), done >= recipe.noise_from, False)


def tensors(batch):
    tokens, positions, targets, *mask = map(
        torch.from_numpy, (batch.tokens, batch.positions, batch.targets, batch.context_mask, batch.group_mask)
    )
    return tokens, positions, targets, tuple(mask)


class Helpers(torch.nn.Module):
    """Heads for training only; their losses fade with the learning rate.

    `lookahead` says the token after next, so the state at the last token of a prompt must
    hold a whole device, kind and digit, which is what the next hop starts from. `trace` says
    at that token, after every layer, which device the chain has reached, if every layer hops
    once as soon as the names are read, which takes the first loop and a layer. With 3 layers
    and 4 loops that makes 8 hops.
    """

    def __init__(self, c: Config):
        super().__init__()
        self.lookahead = torch.nn.Linear(c.hidden, c.vocab, bias=False)
        self.trace = torch.nn.Linear(c.hidden, 2 * c.vocab, bias=False)
        self.layers = c.layers

    def ahead_loss(self, states, target, question, p):
        """states: [T, n, hidden] and p: [T, n] of the n answer tokens."""
        two = question[1:] == question[:-1]  # the next answer token belongs to the same question
        said = self.lookahead(states[:, :-1][:, two])
        ce = F.cross_entropy(said.flatten(0, 1), target[1:][two].repeat(len(states)), reduction="none")
        return (p.detach()[:, :-1][:, two] * ce.view(len(states), -1)).sum() / len(target)

    def trace_loss(self, watched, paths, targets: int):
        """watched: [loops * layers, chains, hidden]"""
        reached = [
            [path[min(len(path) - 1, max(0, n - self.layers - 1))] for path in paths]
            for n in range(self.layers, len(watched) + 1)
        ]
        said = self.trace(watched[self.layers - 1 :]).unflatten(-1, (2, -1))
        ce = F.cross_entropy(said.flatten(0, 2), torch.tensor(reached).flatten(), reduction="sum")
        return ce / len(reached) / targets


def losses(model, helpers, batch, recipe, dtype, fake_quantize, factor=1.0, share=False):
    """The loss and, for the log, the cross-entropy and the exactness of every question by
    loop: [loops], [loops, questions]. `factor` scales the helpers' loss. With `share`, answers
    are said a second time through a shared cache, and exact means by that."""
    tokens, positions, targets, mask = tensors(batch)
    asked = targets != NO_TARGET
    target, question = targets[asked], torch.from_numpy(batch.question)[asked]
    first = torch.cat([torch.ones(1, dtype=torch.bool), question[1:] != question[:-1]])  # ends of prompts
    chain = first & torch.tensor([len(path) > 0 for path in batch.paths])[question]
    watch = asked.flatten().nonzero()[chain, 0]
    options = {"dtype": dtype, "fake_quantize": fake_quantize}
    cache = [] if share else None
    states, watched = model(tokens, positions, mask, watch=watch, cache=cache, **options)
    states = states[:, asked]
    logits = model.head(states, fake_quantize)
    loss, ce, p = loop_loss(model, states, logits, target, recipe)
    if factor > 0:
        loss = loss + factor * recipe.lookahead * helpers.ahead_loss(states, target, question, p)
        if len(watch):
            paths = [batch.paths[q] for q in question[chain].tolist()]
            loss = loss + factor * recipe.trace * helpers.trace_loss(watched, paths, len(target))
    if share:
        depth = shared.exits(logits.detach(), asked)
        again = shared.answers(positions, targets, torch.from_numpy(batch.question), mask, depth, len(states))
        later = shared.states(model, tokens, positions, again, cache, **options)[:, again.real]
        later_logits = model.head(later, fake_quantize)
        loss = loss + loop_loss(model, later, later_logits, target[~first], recipe)[0]
        logits = logits.detach().clone()
        logits[:, ~first] = later_logits.detach()
    with torch.no_grad():
        right = (logits.argmax(-1) == target).float()
        index = question.expand(len(states), -1)
        exact = torch.ones(len(states), len(batch.tags)).scatter_reduce(1, index, right, "amin")
    return loss, ce.detach().mean(1), exact


def loop_loss(model, states, logits, target, recipe):
    """Stage I's loss over the loops; also the cross-entropies and the exit distribution,
    [T, n]. states: [T, n, hidden]; logits: [T, n, vocab]; target: [n]"""
    ce = F.cross_entropy(logits.flatten(0, 1), target.repeat(len(states)), reduction="none").view(len(states), -1)
    log_p = exit_distribution(model.gate(states))
    p = log_p.exp()
    weight = (1 - recipe.floor) * p + recipe.floor / len(states)
    return ((weight * ce).sum(0) + recipe.entropy * (p * log_p).sum(0)).mean(), ce, p


class Trainer:
    def __init__(self, config: Config, recipe: Recipe, run: Path, hours: float, shared_hours: float, compiled=True, dtype=torch.bfloat16):
        self.config, self.recipe, self.run, self.dtype = config, recipe, run, dtype
        self.hours, self.shared_hours = hours, shared_hours
        torch.manual_seed(recipe.seed)
        self.tokenizer = tokenizer.build()
        self.model = LoopedModel(config)
        if compiled:
            self.model.layer = torch.compile(layer, dynamic=False)
        self.helpers = Helpers(config)
        matrices = [p for name, p in self.model.named_parameters() if "_proj" in name]
        others = [p for name, p in self.model.named_parameters() if "_proj" not in name]
        self.optimizers = [
            (Muon(matrices, recipe.muon_lr, weight_decay=recipe.weight_decay), recipe.muon_lr),
            (torch.optim.AdamW(others, recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0), recipe.adam_lr),
            (torch.optim.AdamW(self.helpers.parameters(), recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0), recipe.adam_lr),
        ]
        self.stream = Stream(
            self.tokenizer, recipe.seed, evalset.excluded_keys(), recipe.rows
        )
        self.step, self.tokens, self.seconds, self.questions = 0, 0, 0.0, 0
        self.mastered = 0.0  # running accuracy on the current number of hops
        self.checkpoint = run / "checkpoint.pt"
        run.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self.resume()

    # checkpoints ----------------------------------------------------------------------------

    def identity(self):
        """What a checkpoint can't go on without: the model, the recipe, and the language."""
        language = (self.tokenizer.to_str(), grammar.TAGS, data.MIX, data.CONTEXT, data.GROUP, data.GROUPS)
        language = hashlib.sha256(repr(language).encode()).hexdigest()[:12]
        return {**self.config.asdict(), **asdict(self.recipe), "language": language}

    def save(self, path=None):
        """Writes the checkpoint whole or not at all."""
        path = path or self.checkpoint
        state = {
            "identity": self.identity(),
            "model": self.model.state_dict(),
            "helpers": self.helpers.state_dict(),
            "optimizers": [o.state_dict() for o, _ in self.optimizers],
            "stream": self.stream.state(),
            "torch_rng": torch.get_rng_state(),
            "progress": (self.step, self.tokens, self.seconds, self.questions, self.mastered),
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def resume(self):
        state = torch.load(self.checkpoint, weights_only=False)
        theirs, ours = state["identity"], self.identity()
        differing = [f"{key} {theirs.get(key)} (asked for: {ours.get(key)})" for key in sorted({*theirs, *ours}) if theirs.get(key) != ours.get(key)]
        if differing:
            raise SystemExit(
                f"{self.checkpoint} was made with another configuration: {', '.join(differing)}. "
                "Ask for the same one, or name another --run."
            )
        self.model.load_state_dict(state["model"])
        self.helpers.load_state_dict(state["helpers"])
        for (optimizer, _), saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.stream.restore(state["stream"])
        torch.set_rng_state(state["torch_rng"])
        self.step, self.tokens, self.seconds, self.questions, self.mastered = state["progress"]
        print(f"resumed at step {self.step}, {self.seconds / 3600:.2f} hours", flush=True)

    # training -------------------------------------------------------------------------------

    def train(self, log_every=50, save_every=120.0):
        recipe = self.recipe
        budget = (self.hours + self.shared_hours) * 3600
        window = Window(self.config.loops)
        last, saved = core_seconds(), time.monotonic()
        with open(self.run / "log.jsonl", "a") as log:
            while self.seconds < budget:
                moment = schedule(recipe, self.hours, self.shared_hours, self.seconds / 3600)
                factor = moment.rate * min(1.0, (self.step + 1) / 100)
                for optimizer, lr in self.optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = lr * factor
                batch = self.stream.batch()
                quantize = straight_through if moment.noise else lambda w: w
                loss, ce, exact = losses(
                    self.model, self.helpers, batch, recipe, self.dtype, quantize, moment.rate, moment.share
                )
                if not torch.isfinite(loss):
                    raise SystemExit(f"step {self.step}: the loss is {loss.item()}; resume from the last checkpoint with a lower rate")
                loss.backward()
                for optimizer, _ in self.optimizers:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                self.step += 1
                self.tokens += int((batch.tokens != tokenizer.PAD).sum())
                self.questions += len(batch.tags)
                now = core_seconds()
                self.seconds += now - last
                last = now
                window.add(loss, ce, exact, batch.tags)
                self.advance(exact[-1], batch.tags)
                if self.step % log_every == 0:
                    line = {
                        "step": self.step, "tokens": self.tokens, "questions": self.questions,
                        "hours": round(self.seconds / 3600, 4), "rate": round(factor, 4),
                        "noise": moment.noise, "shared": moment.share, "max_k": self.stream.max_k, **window.summary(),
                    }  # fmt: skip
                    log.write(json.dumps(line) + "\n")
                    log.flush()
                    print(show(line), flush=True)
                    window = Window(self.config.loops)
                if time.monotonic() - saved > save_every:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def advance(self, exact, tags):
        """Chains of one hop first, then of one or two, then of any number: each when nine in
        ten of the last are answered. From then on the trace head leads the way."""
        hardest = grammar.TAGS.index(f"chain{self.stream.max_k}")
        right = [e for e, tag in zip(exact.tolist(), tags) if tag == hardest]
        if right:
            weight = min(0.5, len(right) / 1500)
            self.mastered += weight * (sum(right) / len(right) - self.mastered)
        if self.mastered > self.recipe.advance and self.stream.max_k < grammar.MAX_K:
            self.stream.max_k = 2 if self.stream.max_k == 1 else grammar.MAX_K
            self.mastered = 0.0


class Window:
    """Sums since the last line of the log."""

    def __init__(self, loops):
        self.loss, self.ce, self.n = 0.0, torch.zeros(loops), 0
        self.right, self.asked = torch.zeros(loops, len(grammar.TAGS)), torch.zeros(len(grammar.TAGS))

    def add(self, loss, ce, exact, tags):
        tags = torch.tensor(tags)
        self.loss, self.ce, self.n = self.loss + loss.item(), self.ce + ce, self.n + 1
        self.right.index_add_(1, tags, exact)
        self.asked.index_add_(0, tags, torch.ones(len(tags)))

    def summary(self):
        """Exact answers of unseen questions, in percent, by tag and loop."""
        percent = 100 * self.right / self.asked
        return {
            "loss": round(self.loss / self.n, 4),
            "ce": [round(x, 4) for x in (self.ce / self.n).tolist()],
            "exact": {
                tag: [round(x, 1) for x in percent[:, i].tolist()]
                for i, tag in enumerate(grammar.TAGS)
                if self.asked[i]
            },
        }


def show(line) -> str:
    exact = " ".join(f"{tag.replace('chain', 'c')} {'/'.join(f'{x:.0f}' for x in by_loop)}" for tag, by_loop in line["exact"].items())
    return f"{line['step']} {line['hours']:.3f}h {line['tokens'] / 1e6:.1f}M lr {line['rate']:.2f} k {line['max_k']} loss {line['loss']:.3f} {exact}"
