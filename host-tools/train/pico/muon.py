"""Muon: momentum whose matrix is orthogonalized by Newton-Schulz iterations
(Jordan et al., 2024). For the matrices of the layers; everything else takes AdamW."""

import torch


def orthogonalize(g, steps=5):
    """The nearest orthogonal matrix, roughly, for a stack of matrices [n, rows, columns]. In
    bf16, which the iteration was made for."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if tall else g
    x = x.bfloat16() / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.transpose(1, 2)
        x = a * x + (b * s + c * s @ s) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                if p.grad is not None:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    by_shape.setdefault(p.shape, []).append((p, p.grad.lerp(buffer, group["momentum"])))
            for shape, items in by_shape.items():
                updates = orthogonalize(torch.stack([g for _, g in items]))
                scale = max(1, shape[0] / shape[1]) ** 0.5
                for (p, _), update in zip(items, updates):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-group["lr"] * scale)
