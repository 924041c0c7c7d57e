#!/usr/bin/env python3
"""What eight-bit activations cost, for groups of 32 values up to whole rows: the table in
runtime/src/kernels/README.md.

    activation-groups.py MODEL.gguf IDS.json

Computes a window of token ids (a JSON array) with the file's weights in f32, once with activations as
they are and once for each size of group with the input of every matrix rounded as that README says,
and prints the mean divergence (KL, nats) of the predictions and the share of equal choices. Integer
sums are exact, so that this is what integer kernels with such groups would give, but for the rounding
of f32 sums. Needs numpy and PyPI's gguf; knows the models that `ouro` runs.
"""

import json
import sys

import gguf
import numpy

GROUPS = (32, 64, 128, 256, None)  # None: a whole row


def rounded(x: numpy.ndarray, group: int | None) -> numpy.ndarray:
    """`[N, cols]` through int8, one scale for each group of a row; a rest is a group of its own."""
    out = numpy.empty_like(x)
    step = group or x.shape[1]
    for start in range(0, x.shape[1], step):
        part = x[:, start : start + step]
        largest = numpy.abs(part).max(axis=1, keepdims=True)
        per_level = numpy.divide(127, largest, out=numpy.zeros_like(largest), where=largest > 0)
        out[:, start : start + step] = numpy.rint(part * per_level) * (largest / numpy.float32(127))
    return out


class Model:
    def __init__(self, path: str):
        reader = gguf.GGUFReader(path)
        value = lambda key, default=None: reader.fields[key].contents() if key in reader.fields else default
        arch = value("general.architecture")
        self.layers = value(f"{arch}.block_count")
        self.loops = value(f"{arch}.num_loops", 1)
        self.heads = value(f"{arch}.attention.head_count")
        self.kv_heads = value(f"{arch}.attention.head_count_kv", self.heads)
        self.eps = numpy.float32(value(f"{arch}.attention.layer_norm_rms_epsilon"))
        self.theta = value(f"{arch}.rope.freq_base", 10000.0)
        self.tensors = {
            tensor.name.removesuffix(".weight"): gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            for tensor in reader.tensors
        }

    def norm(self, x: numpy.ndarray, name: str) -> numpy.ndarray:
        scale = 1 / numpy.sqrt((x * x).mean(axis=1, keepdims=True) + self.eps)
        return x * scale * self.tensors[name]

    def rope(self, x: numpy.ndarray) -> numpy.ndarray:
        """`[N, heads, dim]`; pairs are neighbours in a GGUF."""
        n, _, dim = x.shape
        angle = numpy.outer(numpy.arange(n), self.theta ** (-numpy.arange(0, dim, 2) / dim))
        cos, sin = numpy.cos(angle)[:, None], numpy.sin(angle)[:, None]
        a, b = x[..., 0::2], x[..., 1::2]
        return numpy.stack((a * cos - b * sin, a * sin + b * cos), axis=-1).reshape(x.shape).astype(numpy.float32)

    def attention(self, q: numpy.ndarray, k: numpy.ndarray, v: numpy.ndarray) -> numpy.ndarray:
        n, width = q.shape
        dim = width // self.heads
        q = self.rope(q.reshape(n, self.heads, dim))
        k = numpy.repeat(self.rope(k.reshape(n, self.kv_heads, dim)), self.heads // self.kv_heads, axis=1)
        v = numpy.repeat(v.reshape(n, self.kv_heads, dim), self.heads // self.kv_heads, axis=1)
        scores = numpy.einsum("nhd,mhd->hnm", q, k) / numpy.sqrt(numpy.float32(dim))
        scores[:, ~numpy.tri(n, dtype=bool)] = -numpy.inf
        scores = numpy.exp(scores - scores.max(axis=2, keepdims=True))
        scores /= scores.sum(axis=2, keepdims=True)
        return numpy.einsum("hnm,mhd->nhd", scores, v).reshape(n, width)

    def logits(self, ids: list[int], through) -> numpy.ndarray:
        """`[N, vocab]` after the last loop; every matrix reads `through(x)`."""
        t = self.tensors
        h = t["token_embd"][ids].astype(numpy.float32)
        post = lambda x, name: self.norm(x, name) if name in t else x
        for _ in range(self.loops):
            for layer in range(self.layers):
                name = lambda part: f"blk.{layer}.{part}"
                x = through(self.norm(h, name("attn_norm")))
                q, k, v = (x @ t[name(f"attn_{part}")].T for part in "qkv")
                x = through(self.attention(q, k, v)) @ t[name("attn_output")].T
                h = h + post(x, name("post_attention_norm"))
                x = through(self.norm(h, name("ffn_norm")))
                gate, up = x @ t[name("ffn_gate")].T, x @ t[name("ffn_up")].T
                x = through(gate / (1 + numpy.exp(-gate)) * up) @ t[name("ffn_down")].T
                h = h + post(x, name("post_ffw_norm"))
            h = self.norm(h, "output_norm")
        return through(h) @ t.get("output", t["token_embd"]).T


def log_probabilities(logits: numpy.ndarray) -> numpy.ndarray:
    logits = logits.astype(numpy.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - numpy.log(numpy.exp(logits).sum(axis=1, keepdims=True))


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    model, ids = Model(sys.argv[1]), json.load(open(sys.argv[2], encoding="utf-8"))
    exact = log_probabilities(model.logits(ids, lambda x: x))
    print(f"{sys.argv[1]}, {len(ids)} positions, {model.loops} loops")
    print("group  divergence  agreement %")
    for group in GROUPS:
        found = log_probabilities(model.logits(ids, lambda x: rounded(x, group)))
        divergence = (numpy.exp(exact) * (exact - found)).sum(axis=1).mean()
        agreement = 100 * (exact.argmax(axis=1) == found.argmax(axis=1)).mean()
        print(f"{group or 'row':>5}  {divergence:10.6f}  {agreement:11.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
