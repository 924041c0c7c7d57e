"""The model against the original's numbers, packed rows against plain prompts, and the
trainer's refusals."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pico import data, evaluate, export, quant, tokenizer, train  # noqa: E402
from pico.model import Config, LoopedModel, exit_distribution  # noqa: E402

GOLDEN = Path(__file__).resolve().parents[3] / "tests" / "golden"
TINY = Config(layers=1, hidden=64, heads=2, ffn=128)


@pytest.mark.skipif(not (GOLDEN / "mha").exists(), reason="no golden data in tests/golden/mha")
@torch.no_grad()
def test_equals_the_original():
    """tests/golden/mha was made with the original PyTorch code of Ouro."""
    model, _ = export.read(GOLDEN / "mha")
    expected = load_file(GOLDEN / "mha" / "expected.safetensors")
    ids = expected["input_ids"].long().flatten()[None]
    n = ids.shape[1]
    states = model(ids, torch.arange(n)[None], torch.ones(1, n, n, dtype=torch.bool).tril())[:, 0]
    assert (states - expected["hidden"]).abs().max() < 1e-4
    assert (model.head(states) - expected["logits"]).abs().max() < 1e-4
    assert (model.gate(states) - expected["gate_logits"].view(len(states), n)).abs().max() < 1e-4


@torch.no_grad()
def test_a_packed_row_equals_plain_prompts():
    torch.manual_seed(0)
    model = LoopedModel(TINY)
    batch = data.Stream(tokenizer.build(), seed=0, rows=3, max_k=8).batch()
    tokens, positions, targets, mask = train.tensors(batch)
    packed = model(tokens, positions, mask)
    for row, column in list(zip(*np.nonzero(batch.targets != data.NO_TARGET)))[::17]:
        seen = data.visible(batch, row, column)
        n = len(seen)
        plain = model(tokens[row, seen][None], torch.arange(n)[None], torch.ones(1, n, n, dtype=torch.bool).tril())
        assert (plain[:, 0, -1] - packed[:, row, column]).abs().max() < 1e-4


def test_exit_distribution_sums_to_one():
    p = exit_distribution(torch.randn(4, 100) * 3).exp()
    assert torch.allclose(p.sum(0), torch.ones(100), atol=1e-5)


def test_quantization():
    w = torch.randn(8, 64)
    q4, q8 = quant.q4_0(w), quant.q8_0(w)
    groups = q4.view(-1, 32)
    assert all(len(g.unique()) <= 16 for g in groups)
    assert (q8 - w).abs().max() < w.abs().max() / 200 and (q4 - w).abs().max() < w.abs().max() / 7
    assert torch.equal(quant.q4_0(torch.zeros(1, 32)), torch.zeros(1, 32))


def test_resumes_and_refuses(tmp_path):
    recipe = train.Recipe(rows=2)

    def trainer(recipe=recipe, config=TINY):
        return train.Trainer(config, recipe, tmp_path, hours=1 / 3600, shared_hours=1 / 3600, compiled=False, dtype=torch.float32)

    first = trainer()
    first.train(log_every=1)
    again = trainer()
    assert again.step == first.step > 0
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters()))
    a, b = first.stream.batch(), again.stream.batch()
    assert (a.tokens == b.tokens).all()
    with pytest.raises(SystemExit, match="entropy 0.05 .asked for: 0.1"):
        trainer(train.Recipe(rows=2, entropy=0.1))
    with pytest.raises(SystemExit, match="layers 1 .asked for: 2"):
        trainer(config=Config(layers=2, hidden=64, heads=2, ffn=128))


def test_refuses_questions_by_line(tmp_path):
    good = '{"prompt": "60 plus 70?", "answer": "130", "tag": "sum"}'
    cases = {
        "not JSON": ("60 plus 70?", "expected prompt, answer and tag"),
        "no tag": ('{"prompt": "60 plus 70?", "answer": "130"}', "expected prompt, answer and tag"),
        "a number": (good.replace('"130"', "130"), "strings"),
        "unknown tag": (good.replace('"sum"', '"sums"'), "the tag 'sums' found, expected one of command, limit"),
        "too long": (good.replace('"130"', f'"{"1" * 40}"'), "the answer 41, expected at most 32 together"),
    }
    file = tmp_path / "questions.jsonl"
    tok = tokenizer.build()
    for line, expected in cases.values():
        file.write_text(f"{good}\n{line}\n")
        with pytest.raises(SystemExit) as refusal:
            evaluate.questions(file, tok, context=32)
        assert "questions.jsonl, line 2: " in str(refusal.value) and expected in str(refusal.value)
    file.write_text("")
    with pytest.raises(SystemExit, match="no questions"):
        evaluate.questions(file, tok, context=32)
    file.write_text(good + "\n")
    assert [sample.answer for sample in evaluate.questions(file, tok, context=32)] == ["130"]
