"""Tiny models of mlx-lm with random weights, for the tests here."""

from __future__ import annotations

import numpy as np


def randomized(model):
    """Give every parameter random values; the zeros and ones that layers begin with would hide errors."""
    import mlx.core as mx
    from mlx.utils import tree_map

    rng = np.random.default_rng(0)

    def values(parameter):
        scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.5
        return mx.array((rng.standard_normal(parameter.shape) * scale).astype(np.float32))

    model.update(tree_map(values, model.parameters()))
    model.eval()
    return model


def make_rwkv7(module):
    ranks = {f"{name}_low_rank_dim": 8 for name in ("a", "v", "gate", "decay")}
    sizes = {
        "vocab_size": 50,
        "hidden_size": 64,
        "intermediate_size": 96,
        "head_dim": 32,
        "num_hidden_layers": 2,
    }
    return module.Model(module.ModelArgs(model_type="rwkv7", norm_eps=1e-5, **sizes, **ranks))


def make_mamba2(module):
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    state = {"num_heads": 4, "head_dim": 16, "state_size": 32, "n_groups": 2, "conv_kernel": 4}
    return module.Model(
        module.ModelArgs(
            model_type="mamba2",
            layer_norm_epsilon=1e-5,
            use_bias=False,
            use_conv_bias=True,
            tie_word_embeddings=True,
            time_step_limit=(0.0, 10.0),
            time_step_rank="auto",
            **sizes,
            **state,
        )
    )


def make_qwen3_next(module):
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    linear = {
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
    }
    experts = {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 2,
        "shared_expert_intermediate_size": 16,
        "moe_intermediate_size": 16,
        "mlp_only_layers": [],
    }
    return module.Model(
        module.ModelArgs(
            model_type="qwen3_next",
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=4,
            vocab_size=50,
            rms_norm_eps=1e-5,
            rope_theta=10000.0,
            partial_rotary_factor=0.5,
            max_position_embeddings=64,
            tie_word_embeddings=True,
            **heads,
            **linear,
            **experts,
        )
    )
