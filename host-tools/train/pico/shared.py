"""Answers read through one shared KV cache.

A runtime with little memory keeps one K/V per layer and position, that of the last loop, and
those of every loop only for the newest WINDOW positions. A prompt runs as ever, all its
positions together, loop by loop; but a token of the answer sees, in every one of its loops,
what the prompt became in the last. A model that solves its task with the K/V of the loops
between must learn to answer that way, so training runs the tokens of answers a second time:

    key of an older position    K/V of its last loop, from the first pass
    key inside the window       K/V of the query's loop: of the first pass for a prompt, of
                                this pass for an answer
    own key                     of this pass

Older positions of the same answer are read from the first pass too, where a runtime has them
from a pass like this one: the two agree as far as both passes say the same.

In every second row tokens of answers leave early, as an exit policy makes them: at the first
loop whose best token has CONFIDENCE in the first pass. Their last loop is then that one; in the
window, a query in a later loop reads it too.
"""

from dataclasses import dataclass

import torch

from .data import NO_TARGET

WINDOW = 3  # the runtime's default for 4 loops
STEP = 64  # rows of answers are padded to a multiple, so that few shapes are compiled
CONFIDENCE = 0.95  # of the best token, at which an answer's token leaves


@dataclass
class Answers:
    """The answer tokens that are inputs, gathered from every row: A of them with padding."""

    index: torch.Tensor  # [B, A], their places in the row
    real: torch.Tensor  # [B, A], false for padding
    depth: torch.Tensor  # [B, L], the last loop of every position, from 0
    masks: list  # for every loop [B, A, 2 L + A]: last loops, keys of the prompt in the window, answers


def visible(context_mask, group_mask):
    """Who sees whom in a packed row, [B, L, L]."""
    B, C, _ = context_mask.shape
    G, S = group_mask.shape[1:3]
    seen = torch.zeros(B, C + G * S, C + G * S, dtype=torch.bool)
    seen[:, :C, :C] = context_mask
    for g in range(G):
        own = slice(C + g * S, C + (g + 1) * S)
        seen[:, own, :C] = group_mask[:, g, :, :C]
        seen[:, own, own] = group_mask[:, g, :, C:]
    return seen


def exits(logits, asked):
    """The last loop of every position, [B, L]: in odd rows that of CONFIDENCE for those that are
    asked. logits: [T, n, vocab] of the n positions asked, in order; asked: [B, L]"""
    leave = logits.softmax(-1).amax(-1) >= CONFIDENCE
    leave[-1] = True
    depth = torch.full(asked.shape, len(logits) - 1)
    depth[asked] = leave.float().argmax(0)
    depth[::2] = len(logits) - 1
    return depth


def answers(positions, targets, question, mask, depth, loops) -> Answers:
    """All but the first target of a question are said at an answer token; the first is said at
    the end of the prompt. A prompt runs all loops."""
    asked = targets != NO_TARGET
    first = torch.zeros_like(asked)
    first[:, 0] = asked[:, 0]
    first[:, 1:] = asked[:, 1:] & (question[:, 1:] != question[:, :-1])
    is_answer = asked & ~first
    depth = torch.where(is_answer, depth, loops - 1)
    most = max(1, int(is_answer.sum(1).max()))
    A = min(-(-most // STEP) * STEP, targets.shape[1])
    index = torch.argsort((~is_answer).int(), dim=1, stable=True)[:, :A]
    real = is_answer.gather(1, index)
    L = targets.shape[1]
    seen = visible(*mask).gather(1, index[..., None].expand(-1, -1, L)) & real[..., None]
    near = positions.gather(1, index)[..., None] - positions[:, None] <= WINDOW
    prompt = seen & near & ~is_answer[:, None]
    own = torch.eye(A, dtype=torch.bool)
    among = (seen & near).gather(2, index[:, None].expand(-1, A, -1)) & real[:, None]
    itself = index[..., None] == torch.arange(L)
    masks = []
    for loop in range(loops):
        left = near & (is_answer & (depth < loop))[:, None] & ~itself  # answers in the window that have left
        here = among & ~(depth.gather(1, index) < loop)[:, None] | own
        masks.append(torch.cat([seen & (~near | left), prompt, here], 2))
    return Answers(index, real, depth, masks)


def states(model, tokens, positions, answers: Answers, cache, **options):
    """The states of the answer tokens after every loop of the second pass, [T, B, A, hidden].
    `cache` is what the first pass filled."""
    layers, loops = model.config.layers, model.config.loops
    B, L = answers.depth.shape
    depth = answers.depth.view(1, B, 1, L, 1)

    def of_last_loop(i, part):
        by_loop = torch.stack([cache[loop * layers + i][part] for loop in range(loops)])
        return by_loop.gather(0, depth.expand(1, *by_loop.shape[1:]))[0]

    last = [[of_last_loop(i, part) for part in range(2)] for i in range(layers)]

    def past(loop, i):
        return tuple(torch.cat([older, newer], 2) for older, newer in zip(last[i], cache[loop * layers + i]))

    here = answers.index
    return model(tokens.gather(1, here), positions.gather(1, here), answers.masks, past=past, **options)
