"""An HF folder of the Ouro kind, as `ouro quantize` and `transformers` read it."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from . import tokenizer as tok
from .model import Config, LoopedModel


def config_json(c: Config, threshold: float) -> dict:
    return {
        "architectures": ["OuroForCausalLM"],
        "model_type": "ouro",
        "vocab_size": c.vocab,
        "max_position_embeddings": c.context,
        "hidden_size": c.hidden,
        "intermediate_size": c.ffn,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.heads,
        "head_dim": c.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": c.eps,
        "rope_theta": c.theta,
        "rope_scaling": None,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": c.layers,
        "layer_types": ["full_attention"] * c.layers,
        "total_ut_steps": c.loops,
        "early_exit_threshold": threshold,
        "tie_word_embeddings": False,
        "bos_token_id": tok.IM_START,
        "eos_token_id": tok.IM_END,
        "pad_token_id": tok.PAD,
        "torch_dtype": "float32",
    }


def write(model: LoopedModel, tokenizer: Tokenizer, folder: Path, threshold: float = 1.0):
    """`threshold` is the Q-exit threshold a runtime uses unless told otherwise; 1 runs all loops."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().float().contiguous() for name, p in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    c = model.config
    (folder / "config.json").write_text(json.dumps(config_json(c, threshold), indent=1) + "\n")
    generation = {
        "bos_token_id": tok.IM_START,
        "eos_token_id": [tok.IM_END, tok.PAD],
        "pad_token_id": tok.PAD,
        "do_sample": False,
        "max_new_tokens": 64,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    tok.save(tokenizer, folder, c.context)


def read(folder: Path):
    """The model and the tokenizer of a folder written by `write`."""
    j = json.loads((folder / "config.json").read_text())
    c = Config(
        j["vocab_size"], j["hidden_size"], j["num_hidden_layers"], j["num_attention_heads"], j["intermediate_size"],
        j["total_ut_steps"], j["rope_theta"], j["rms_norm_eps"], j["max_position_embeddings"],
    )  # fmt: skip
    model = LoopedModel(c)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


def from_checkpoint(path: Path):
    """The model of a training checkpoint."""
    if not path.exists():
        raise SystemExit(f"{path}: no checkpoint; run `python -m pico train` first")
    state = torch.load(path, weights_only=False)
    fields = {key: value for key, value in state["identity"].items() if key in Config.__dataclass_fields__}
    model = LoopedModel(Config(**fields))
    model.load_state_dict(state["model"])
    return model.eval(), state
