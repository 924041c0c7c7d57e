"""The second pass of shared.py against decoding token by token, as the runtime does it."""

import pytest
import torch

from pico import grammar, shared, tokenizer
from pico.data import Stream, visible
from pico.model import Config, LoopedModel
from pico.train import tensors


def first_pass(model, tokens):
    """K and V of every loop and layer, all tokens run together."""
    n, cache = len(tokens), []
    model(tokens[None], torch.arange(n)[None], torch.ones(1, n, n).tril().bool(), cache=cache)
    return cache


def decoded(model, tokens, prompt: int, depth, stale=None):
    """States [T, n - prompt, hidden] of the tokens behind the prompt, one at a time: older
    positions by the K/V of their last loop `depth[position]`, those in the window by that of
    the query's loop, or of their last one if that is less. With `stale`, a first pass, last loops
    of tokens behind the prompt are read from there."""
    layers, loops = model.config.layers, model.config.loops
    cache, states = first_pass(model, tokens[:prompt]), []
    for p in range(prompt, len(tokens)):

        def past(loop, i):
            j = torch.arange(p)
            inside = (p - j <= shared.WINDOW) & (loop <= depth[:p])
            t = torch.where(inside, loop, depth[:p])
            rerun = inside | (j < prompt) if stale else j >= 0

            def keys(part):
                new, old = ([c[u * layers + i][part][0, :, :p] for u in range(loops)] for c in (cache, stale or cache))
                new, old = torch.stack(new)[t, :, j], torch.stack(old)[t, :, j]  # [p, heads, d]
                return torch.where(rerun[:, None, None], new, old).transpose(0, 1)[None]

            return keys(0), keys(1)

        own = []
        mask = torch.ones(1, 1, p + 1, dtype=torch.bool)
        states.append(model(tokens[None, p : p + 1], torch.tensor([[p]]), mask, past=past, cache=own)[:, 0])
        cache = [tuple(torch.cat(pair, 2) for pair in zip(a, b)) for a, b in zip(cache, own)]
    return torch.cat(states, 1)


def compare(exits: bool, stale: bool) -> int:
    """Compares every answer with decoding, where both should agree; returns how many."""
    torch.manual_seed(5)
    model = LoopedModel(Config(hidden=64, heads=2, layers=2, ffn=96))
    batch = Stream(tokenizer.build(), seed=7, rows=3, max_k=grammar.MAX_K).batch()
    tokens, positions, targets, mask = tensors(batch)
    question, loops = torch.from_numpy(batch.question), model.config.loops
    depth = torch.randint(0 if exits else loops - 1, loops, targets.shape)
    cache, compared = [], 0
    model(tokens, positions, mask, cache=cache)
    again = shared.answers(positions, targets, question, mask, depth, loops)
    states = shared.states(model, tokens, positions, again, cache)
    assert again.real.sum() == sum(max(0, (question == q).sum() - 1) for q in range(len(batch.tags)))
    for row in range(len(tokens)):
        for q in question[row][question[row] >= 0].unique():
            where = (question[row] == q).nonzero()[1:, 0].tolist()
            if not where or len(where) > shared.WINDOW and not stale:
                continue
            seen = visible(batch, row, where[-1])
            first = first_pass(model, tokens[row, seen]) if stale else None
            want = decoded(model, tokens[row, seen], len(seen) - len(where), again.depth[row, seen], first)
            at = [(again.index[row] == w).nonzero()[0, 0].item() for w in where]
            assert torch.allclose(states[:, row, at], want, atol=2e-4), (row, q)
            compared += 1
    return compared


@torch.no_grad()
def test_short_answers_are_what_decoding_computes():
    assert compare(exits=False, stale=False) > 20


@torch.no_grad()
@pytest.mark.parametrize("exits", [False, True])
def test_long_ones_and_exits_but_for_last_loops_of_the_first_pass(exits):
    assert compare(exits, stale=True) > 20
