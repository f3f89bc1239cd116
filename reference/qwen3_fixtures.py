"""Qwen3 as a text encoder: hidden states of every layer and the pipeline's prompt embeddings."""

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from common import DTYPES, Rng, save

PART = "qwen3"

# heads * head_dim = 64 differs from hidden = 32, as in Klein 4B; two query heads share a key head.
CONFIG = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5,
          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "hidden_act": "silu",
          "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "max_position_embeddings": 512,
          "attention_bias": False, "tie_word_embeddings": True, "use_sliding_window": False}
PAD = 299
OUT_LAYERS = (1, 2, 4)


def tiny_qwen3(config, name, dtype=torch.float32):
    """A Qwen3 with random weights; rope_theta travels as transformers 5 wants it."""
    options = {k: v for k, v in config.items() if k != "rope_theta"}
    options["rope_parameters"] = {"rope_type": "default", "rope_theta": config["rope_theta"]}
    model = Rng(name).fill(Qwen3ForCausalLM(Qwen3Config(**options))).to(dtype)
    # .to(bfloat16) also rounds the rotary frequencies; from_pretrained, which everyone uses, does not.
    model.model.rotary_emb = Qwen3RotaryEmbedding(model.config)
    return model


def encode(model, ids, mask, layers):
    """All hidden states, and the embeddings exactly as Flux2KleinPipeline stacks them."""
    states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states
    stacked = torch.stack([states[k] for k in layers], dim=1)
    batch, channels, length, width = stacked.shape
    return states, stacked.permute(0, 2, 1, 3).reshape(batch, length, channels * width)


def make():
    length = 20
    ids = Rng("qwen3/ids").integers(2, length, high=PAD)
    mask = torch.ones(2, length, dtype=torch.int64)
    for row, real in enumerate((13, 7)):
        ids[row, real:] = PAD
        mask[row, real:] = 0
    for dtype, suffix in DTYPES:
        model = tiny_qwen3(CONFIG, "qwen3/text_encoder", dtype)
        states, embeds = encode(model, ids, mask, OUT_LAYERS)
        tensors = {"input_ids": ids, "attention_mask": mask, "prompt_embeds": embeds}
        # The last state alone has passed the final norm.
        tensors |= {f"hidden_states_{k}": state for k, state in enumerate(states)}
        config = CONFIG | {"text_encoder_out_layers": list(OUT_LAYERS), "pad_token_id": PAD}
        save(PART, "text_encoder" + suffix, tensors, model.model, None if suffix else config)
