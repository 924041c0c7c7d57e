"""A small byte-level BPE of Ouro's kind: every digit is a token of its own, then GPT-2's
byte-level rule; ChatML specials with the ids 0, 1, 2."""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from . import grammar

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PAD, IM_START, IM_END = 0, 1, 2
VOCAB = 384

# The ChatML of the published Ouro models, without a system message.
CHAT_TEMPLATE = (
    "{%- for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
USER, ASSISTANT = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


def chat(prompt: str) -> str:
    """The text the model is given; it answers and ends with `<|im_end|>`."""
    return USER + prompt + ASSISTANT


def build(seed: int = 0) -> Tokenizer:
    """Trains the tokenizer on text of the grammar."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(random.Random(seed)), trainer)
    return tokenizer


def corpus(rng: random.Random):
    """What merges are learned from. The words of every prompt come first in number, so
    that device kinds and the fixed words become single tokens within the small vocabulary."""
    for _ in range(2000):
        for tag in ["command", "command", "limit", "sum"]:
            sample = grammar.sample(rng, tag)
            yield f"user\n{sample.prompt}"
            yield f"assistant\n{sample.answer}"
        sample = grammar.chain(rng, rng.randint(1, grammar.MAX_K))
        yield f"user\n{sample.prompt}"
        yield f"assistant\n{sample.answer}"


def save(tokenizer: Tokenizer, folder: Path, context: int):
    """tokenizer.json and the two files beside it, as `transformers` writes them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": SPECIALS[1], "eos_token": SPECIALS[2], "pad_token": SPECIALS[0], "unk_token": SPECIALS[0]}
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        **names,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(names, indent=1) + "\n")
