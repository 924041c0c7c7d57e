"""The grammar's answers against an independent solver, and what training must never see."""

import json
import random
import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pico import evalset, grammar, tokenizer  # noqa: E402
from pico import data
from pico.data import Stream  # noqa: E402


def solve(prompt: str) -> str:
    """Answers a prompt by reading it; shares nothing with the generator."""
    if m := re.fullmatch(r"(\d+) plus (\d+)\?", prompt):
        return str(int(m[1]) + int(m[2]))
    if m := re.fullmatch(r"Limit (\d+), reading (\d+)\. Alarm\?", prompt):
        return "yes" if int(m[2]) > int(m[1]) else "no"
    if m := re.search(r" From (\w+), (\d) steps?\?$", prompt):
        feeds = dict(re.findall(r"(\w+) feeds (\w+)\.", prompt))
        device = m[1]
        for _ in range(int(m[2])):
            device = feeds[device]
        return device
    condition = re.match(r"if (\w+) is (above|over|below|under) (\d+), ", prompt)
    out = {}
    if condition:
        out["if"] = [condition[1], ">" if condition[2] in ("above", "over") else "<", int(condition[3])]
        prompt = prompt[condition.end() :]
    out["do"] = []
    words = {"start": "start run turn-on", "stop": "stop halt turn-off", "open": "open unlock release",
             "close": "close shut seal", "set": "set bring"}  # fmt: skip
    for part in re.split(" and | then ", prompt):
        verb, device, *number = re.fullmatch(r"(\D+) ([a-z]+\d)(?: to (\d+))?", part).groups()
        action = next(a for a, verbs in words.items() if verb.replace(" ", "-") in verbs.split())
        out["do"].append([action, device] + [int(n) for n in number if n])
    return json.dumps(out, separators=(",", ":"))


def test_answers():
    rng = random.Random(7)
    for tag in grammar.TAGS:
        for _ in range(300):
            s = grammar.sample(rng, tag)
            assert solve(s.prompt) == s.answer, s
    for _ in range(300):
        s = grammar.near_limit(rng)
        assert solve(s.prompt) == s.answer, s


def test_chains_follow_the_grammar():
    rng = random.Random(8)
    for k in range(1, grammar.MAX_K + 1):
        for _ in range(200):
            s = grammar.chain(rng, k)
            edges = re.findall(r"(\w+) feeds (\w+)\.", s.prompt)
            assert max(3, k) <= len(edges) <= 9
            assert len({device for edge in edges for device in edge}) == len(edges) + 1
            assert f", {k} step{'s' * (k > 1)}?" in s.prompt


def test_files_come_from_their_seeds():
    taken = set()
    for path, (seed, per_tag) in evalset.SETS.items():
        samples = list(evalset.questions(seed, per_tag, taken))
        assert samples == evalset.read(path)
        assert all(solve(s.prompt) == s.answer for s in samples)
        assert {s.tag for s in samples} == set(grammar.TAGS)
    assert len(evalset.excluded_keys()) == sum(n for _, n in evalset.SETS.values()) * len(grammar.TAGS)


def test_key_ignores_order():
    a = "pump1 feeds fan2. fan2 feeds belt3. belt3 feeds line4. From pump1, 2 steps?"
    b = "belt3 feeds line4. pump1 feeds fan2. fan2 feeds belt3. From pump1, 2 steps?"
    assert grammar.key(a) == grammar.key(b) != grammar.key(a.replace("2 steps", "3 steps"))
    assert grammar.key("7 plus 30?") == grammar.key("30 plus 7?")
    rng = random.Random(9)
    context = grammar.chain_context(rng, 6)
    assert grammar.key(context.sample(1, 3).prompt) == context.key(1, 3)


def test_training_never_asks_an_evaluation_question():
    excluded = evalset.excluded_keys()
    sums = [key for key in excluded if "plus" in key]
    stream = Stream(tokenizer.build(), seed=1, excluded=excluded, max_k=8)
    stream.record = []
    for _ in range(60):
        stream.batch()
    asked = set(stream.record)
    assert len(asked) > 3000 and not asked & excluded
    # Without the exclusion the same stream does meet some: the test can fail.
    free = Stream(stream_tokenizer := tokenizer.build(), seed=1, max_k=8)
    free.record = []
    for _ in range(60):
        free.batch()
    assert stream_tokenizer and sums and set(free.record) & excluded


def questions(tok, batch):
    """What the last token of each answer in a batch sees: the tag, prompt and answer, the ids."""
    for row, column in zip(*np.nonzero(batch.targets == tokenizer.IM_END)):
        visible = data.visible(batch, row, column)
        assert (batch.positions[row, visible] == np.arange(len(visible))).all()
        ids = batch.tokens[row, visible].tolist()
        text = tok.decode(ids, skip_special_tokens=False)
        prompt, answer = text.removeprefix(tokenizer.USER).split(tokenizer.ASSISTANT)
        yield grammar.TAGS[batch.tags[batch.question[row, column]]], prompt, answer, ids


def test_every_kind_of_question_can_be_excluded():
    """A stream whose beginning is excluded from itself asks none of that, by what its rows hold."""
    tok = tokenizer.build()
    free = Stream(tok, seed=5, max_k=8)
    met = {grammar.key(prompt): tag for tag, prompt, *_ in questions(tok, free.batch())}
    assert set(met.values()) == set(grammar.TAGS)
    stream = Stream(tok, seed=5, excluded=frozenset(met), max_k=8)
    for _ in range(3):
        asked = {grammar.key(prompt) for _, prompt, *_ in questions(tok, stream.batch())}
        assert asked and not asked & met.keys()


def test_rows_read_as_prompts():
    """What a token sees in a packed row is the chat text of one question, at its positions."""
    tok = tokenizer.build()
    stream = Stream(tok, seed=3, max_k=8)
    seen = set()
    for _ in range(4):
        for tag, prompt, answer, ids in questions(tok, stream.batch()):
            assert solve(prompt) == answer
            assert tok.encode(tokenizer.chat(prompt) + answer).ids == ids
            seen.add(tag)
    assert seen == set(grammar.TAGS)
