"""What GGML's Q4_0 and Q8_0 make of a matrix: groups of 32 along the input dimension."""

import torch

GROUP = 32


def q4_0(w):
    """d = the value of largest magnitude / -8, rounded to f16; q = floor(x / d + 8.5) in 0..=15."""
    groups = w.reshape(-1, GROUP)
    extreme = groups.gather(1, groups.abs().argmax(1, keepdim=True))
    d = extreme / -8
    inverse = torch.where(d == 0, 0.0, 1 / d)
    q = torch.clamp(torch.floor(groups * inverse + 8.5), 0, 15)
    return ((q - 8) * d.half().float()).view_as(w)


def q8_0(w):
    """d = the largest magnitude / 127, rounded to f16; q = round(x / d)."""
    groups = w.reshape(-1, GROUP)
    d = groups.abs().amax(1, keepdim=True) / 127
    inverse = torch.where(d == 0, 0.0, 1 / d)
    return (torch.round(groups * inverse) * d.half().float()).view_as(w)


def straight_through(w):
    """Q4_0 in the forward pass, the identity in the backward pass."""
    return w + (q4_0(w.detach()) - w.detach())


TYPES = {"f32": lambda w: w, "q8_0": q8_0, "q4_0": q4_0}
