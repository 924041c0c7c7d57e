"""The looped model: one stack of layers, applied T times to every token.

    h = embed(tokens)
    for loop in 1..=T:
        for layer in layers:                                          # same weights in every loop
            h = h + rms(attention(rms(h, input_layernorm)), input_layernorm_2)
            h = h + rms(swiglu(rms(h, post_attention_layernorm)), post_attention_layernorm_2)
        h = rms(h, norm)                                              # it feeds the next loop
        gate[loop] = sigmoid(early_exit_gate . h)
        logits[loop] = lm_head(h)

Parameters carry the names and shapes of the published Ouro checkpoints.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Config:
    vocab: int = 384
    hidden: int = 128
    layers: int = 3
    heads: int = 4
    ffn: int = 352
    loops: int = 4
    theta: float = 1e4
    eps: float = 1e-6
    context: int = 512

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    def asdict(self):
        return asdict(self)


def rms(x, weight, eps):
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x, cos, sin):
    """RoPE on pairs (i, i + d/2). x: [B, L, heads, d], cos and sin: [B, L, 1, d/2]"""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attend(q, k, v, mask):
    """softmax(q . k / sqrt(d)) . v for q, k, v of [B, heads, L, d]. The mask is true where a
    query may look at a key: [B, 1, L, L], or a pair for the packed rows of `data.py`,
    [B, 1, C, C] for the context and [B, 1, G, S, C + S] for the groups.

    Written out, because on a CPU this is faster than torch's fused kernel with a mask.
    """
    scale = q.shape[-1] ** -0.5

    def weights(scores, mask):
        return torch.softmax((scores.float() * scale).masked_fill(~mask, -1e9), -1).to(v.dtype)

    if not isinstance(mask, tuple):
        return weights(q @ k.transpose(2, 3), mask) @ v
    B, heads, _, d = q.shape
    _, _, G, S, C_S = mask[1].shape
    C = C_S - S
    qc, kc, vc = (x[:, :, :C] for x in (q, k, v))
    qg, kg, vg = (x[:, :, C:].reshape(B, heads, G, S, d) for x in (q, k, v))
    context = weights(qc @ kc.transpose(2, 3), mask[0]) @ vc
    to_context = (qg.reshape(B, heads, G * S, d) @ kc.transpose(2, 3)).view(B, heads, G, S, C)
    p = weights(torch.cat([to_context, qg @ kg.transpose(3, 4)], -1), mask[1])
    groups = (p[..., :C].reshape(B, heads, G * S, C) @ vc).view(B, heads, G, S, d) + p[..., C:] @ vg
    return torch.cat([context, groups.reshape(B, heads, G * S, d)], 2)


def layer(h, cos, sin, mask, w, heads, eps, past=None):
    """One layer. h: [B, L, hidden] in f32; w: the layer's `Weights`, of any dtype. `past` is a
    pair of K and V, [B, heads, P, d], that the mask [B, 1, L, P + L] covers first. Returns the
    new h, and the layer's K and V, [B, heads, L, d]."""
    B, L, hidden = h.shape
    dtype = w[0].dtype
    n1, n2, n3, n4 = w[4:]
    q, k, v = F.linear(rms(h, n1, eps).to(dtype), w[0]).view(B, L, 3, heads, hidden // heads).unbind(2)
    q, k = rotate(q, cos, sin).to(dtype), rotate(k, cos, sin).to(dtype)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [B, heads, L, d]
    if past is None:
        a = attend(q, k, v, mask)
    else:
        a = attend(q, torch.cat([past[0], k], 2), torch.cat([past[1], v], 2), mask)
    a = F.linear(a.transpose(1, 2).reshape(B, L, hidden), w[1])
    h = h + rms(a, n2, eps)
    gate, up = F.linear(rms(h, n3, eps).to(dtype), w[2]).float().chunk(2, -1)
    return h + rms(F.linear((F.silu(gate) * up).to(dtype), w[3]), n4, eps), k, v


class Attention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"]:
            setattr(self, name, nn.Linear(c.hidden, c.hidden, bias=False))


class Mlp(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden, c.ffn, bias=False)
        self.up_proj = nn.Linear(c.hidden, c.ffn, bias=False)
        self.down_proj = nn.Linear(c.ffn, c.hidden, bias=False)


class Norm(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c.hidden))


class Layer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.self_attn, self.mlp = Attention(c), Mlp(c)
        self.input_layernorm, self.input_layernorm_2 = Norm(c), Norm(c)
        self.post_attention_layernorm, self.post_attention_layernorm_2 = Norm(c), Norm(c)

    def weights(self, dtype, fake_quantize):
        """The layer's weights as `layer` takes them: matrices of equal input joined, quantized
        in the forward pass if asked for, and cast once for all loops."""
        a, m = self.self_attn, self.mlp

        def join(*linears):
            return torch.cat([fake_quantize(x.weight) for x in linears]).to(dtype)

        return (
            join(a.q_proj, a.k_proj, a.v_proj),
            join(a.o_proj),
            join(m.gate_proj, m.up_proj),
            join(m.down_proj),
            self.input_layernorm.weight,
            self.input_layernorm_2.weight,
            self.post_attention_layernorm.weight,
            self.post_attention_layernorm_2.weight,
        )


class Stack(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab, c.hidden)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = Norm(c)
        self.early_exit_gate = nn.Linear(c.hidden, 1)


class LoopedModel(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.config = c
        self.model = Stack(c)
        self.lm_head = nn.Linear(c.hidden, c.vocab, bias=False)
        self.layer = layer  # may be replaced by a compiled one
        for name, p in self.named_parameters():
            if "norm" not in name:
                nn.init.zeros_(p) if "gate." in name and "exit" in name else nn.init.normal_(p, std=c.hidden**-0.5)
        nn.init.normal_(self.model.embed_tokens.weight, std=1.0)
        # Branches are normalized before they are added: start small, so that T * layers of
        # them do not drown the token.
        for block in self.model.layers:
            nn.init.constant_(block.input_layernorm_2.weight, 0.3)
            nn.init.constant_(block.post_attention_layernorm_2.weight, 0.3)

    def angles(self, positions):
        """cos and sin for RoPE, each [B, L, 1, head_dim / 2], computed in f32."""
        c = self.config
        i = torch.arange(0, c.head_dim, 2, dtype=torch.float64)
        inv_freq = (c.theta ** (-i / c.head_dim)).float()
        angle = positions[..., None, None].float() * inv_freq
        return angle.cos(), angle.sin()

    def forward(
        self, tokens, positions, mask, loops=None, dtype=torch.float32, fake_quantize=lambda w: w, watch=None, past=None, cache=None
    ):
        """The state after every loop, [loops, B, L, hidden]. tokens, positions: [B, L]; mask: see
        `attend`, without the dimension of the heads. With `watch`, numbers of tokens in the
        flattened batch, also their states after every layer, [loops * layers, watched, hidden].
        `past(loop, layer)` gives older K and V (see `layer`), and the mask may then be a list of
        one for every loop; to the list `cache` the K and V of every layer of every loop are appended."""
        c = self.config
        cos, sin = self.angles(positions)
        masks = mask if isinstance(mask, list) else [mask] * (loops or c.loops)
        masks = [tuple(m[:, None] for m in mask) if isinstance(mask, tuple) else mask[:, None] for mask in masks]
        weights = [block.weights(dtype, fake_quantize) for block in self.model.layers]
        h = F.embedding(tokens, fake_quantize(self.model.embed_tokens.weight))
        states, watched = [], []
        for t, mask in enumerate(masks):
            for i, w in enumerate(weights):
                h, k, v = self.layer(h, cos, sin, mask, w, c.heads, c.eps, past and past(t, i))
                if cache is not None:
                    cache.append((k, v))
                if watch is not None:
                    watched.append(rms(h.flatten(0, 1)[watch], self.model.norm.weight, c.eps))
            h = rms(h, self.model.norm.weight, c.eps)
            states.append(h)
        return torch.stack(states) if watch is None else (torch.stack(states), torch.stack(watched))

    def head(self, h, fake_quantize=lambda w: w):
        return F.linear(h, fake_quantize(self.lm_head.weight))

    def gate(self, h):
        """The gate before its sigmoid."""
        return self.model.early_exit_gate(h).squeeze(-1)


def exit_distribution(gate_logits):
    """p_t = lambda_t * prod_{j<t} (1 - lambda_j); the last loop takes the rest. Along axis 0.
    Returns log p."""
    stop, go = F.logsigmoid(gate_logits), F.logsigmoid(-gate_logits)
    survive = torch.cumsum(go, 0)
    survive = torch.cat([torch.zeros_like(survive[:1]), survive[:-1]])
    return torch.cat([(survive + stop)[:-1], survive[-1:]])
