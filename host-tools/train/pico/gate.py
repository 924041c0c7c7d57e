"""Stage II: the model is frozen and its exit gate learns when another loop pays.

After loop t the gate should go on with probability sigmoid(slope * (gain - gamma)), where
the gain is a difference of the losses L_t of single tokens (arXiv 2510.25741, section on
adaptive exit). Three ways to read "gain":

    past    L_{t-1} - L_t    the paper's: the last loop paid, so go on
    next    L_t - L_{t+1}    the next loop will pay
    rest    L_t - L_T        the remaining loops together will pay

`rest` suits tasks whose loss stays flat until the loop that finds the answer.
"""

import torch
import torch.nn.functional as F

from .data import NO_TARGET
from .evaluate import quantized
from .train import tensors

SLOPE, GAMMA = 50.0, 0.05


@torch.no_grad()
def collect(model, stream, batches: int):
    """States [T, n, hidden] and losses [T, n] of answer tokens. Half of the batches see the
    weights as Q4_0 stores them, which is how the model is mostly run."""
    states, losses = [], []
    for i, m in enumerate([model, quantized(model, "q4_0")] * ((batches + 1) // 2)):
        batch = stream.batch()
        tokens, positions, targets, mask = tensors(batch)
        asked = targets != NO_TARGET
        h = m(tokens, positions, mask)[:, asked]
        logits = m.head(h)
        ce = F.cross_entropy(logits.flatten(0, 1), targets[asked].repeat(len(h)), reduction="none")
        states.append(h)
        losses.append(ce.view(len(h), -1))
    return torch.cat(states, 1), torch.cat(losses, 1)


def go_on(losses, gain: str):
    """The wanted probability of another loop, and the loops whose gate it is the target of."""
    if gain == "past":
        return torch.sigmoid(SLOPE * (losses[:-1] - losses[1:] - GAMMA)), slice(1, None)
    if gain == "next":
        return torch.sigmoid(SLOPE * (losses[:-1] - losses[1:] - GAMMA)), slice(0, -1)
    if gain == "rest":
        return torch.sigmoid(SLOPE * (losses[:-1] - losses[-1:] - GAMMA)), slice(0, -1)
    raise ValueError(f"gain {gain!r}: expected past, next or rest")


def train(model, stream, gain="past", batches=40, steps=400, lr=0.02) -> float:
    """Fits the gate's weight and bias; returns the last loss."""
    states, losses = collect(model, stream, batches)
    return fit(model, states, losses, gain, steps, lr)


def fit(model, states, losses, gain, steps=400, lr=0.02) -> float:
    target, where = go_on(losses, gain)
    states = states[where].flatten(0, 1)
    stop = 1 - target.flatten()
    gate = model.model.early_exit_gate
    optimizer = torch.optim.Adam(gate.parameters(), lr=lr)
    random = torch.Generator().manual_seed(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        part = torch.randint(len(states), (8192,), generator=random)
        loss = F.binary_cross_entropy_with_logits(gate(states[part]).squeeze(-1), stop[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()
