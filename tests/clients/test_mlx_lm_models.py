"""Whole models of mlx-lm, tiny and with random weights: where the library itself decides for its kernels, with its
layers and caches around them."""

from __future__ import annotations

import numpy as np
import pytest
from mlx_lm_models import make_mamba2, make_qwen3_next, make_rwkv7, randomized

import zmlx

pytestmark = pytest.mark.cpu


def logits(model, tokens, prompt):
    """The logits of a prompt of so many tokens, then of every token after it by itself, with a cache."""
    import mlx.core as mx

    cache = model.make_cache()
    pieces = [tokens[:, :prompt], *(tokens[:, i : i + 1] for i in range(prompt, tokens.shape[1]))]
    out = mx.concatenate([model(piece, cache=cache) for piece in pieces], axis=1)
    mx.eval(out)
    return out


def by_operations(model, tokens, prompt):
    """The same on the CPU, where mlx-lm takes its operations unless it is told otherwise."""
    import mlx.core as mx

    with mx.stream(mx.cpu):
        return logits(model, tokens, prompt)


#: Prompt of 3 tokens, then 3 more: launches of a prompt and of a token, by the layers that have the kernel.
@pytest.mark.parametrize(
    ("name", "make", "kernel", "count"),
    [
        ("rwkv7", make_rwkv7, "wkv7_kernel", 2 * 4),
        ("mamba2", make_mamba2, "ssm_kernel", 2 * 3),  # which is for single tokens
        ("qwen3_next", make_qwen3_next, "gated_delta_step", 3 * 4),
    ],
)
def test_model(mlx_lm, launches, operations, check, name, make, kernel, count):
    import mlx.core as mx

    model = randomized(make(mlx_lm(f"models.{name}")))
    tokens = mx.array(np.random.default_rng(1).integers(0, 50, (2, 6)))
    with operations():
        expected = by_operations(model, tokens, 3)
    with launches(*[kernel] * count), zmlx.pretend_metal("mlx_lm"):
        out = logits(model, tokens, 3)
    check(f"{name} model", out, expected, rtol=1e-3, atol=1e-4)


def test_muse_spark(mlx_lm, launches, check):
    """A model that has no path but its kernels: it must compute for a prompt what it computes token by token.

    In float32, since MLX's CPU multiplies by experts' matrices in nothing else.
    """
    import mlx.core as mx

    module = mlx_lm("models.muse_spark")
    text = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_hidden_layers": 2,
        "vocab_size": 50,
        "rms_norm_eps": 1e-5,
        "post_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": 10000.0},
        "layer_rope_theta": [10000.0, 0.0],
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 16,
        "final_logit_softcapping": 30.0,
        "output_multiplier": 1.0,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "moe_hidden_size": 48,
        "moe_intermediate_size": 32,
    }
    model = randomized(module.Model(module.ModelArgs(model_type="muse_spark", text_config=text)))
    tokens = mx.array(np.random.default_rng(1).integers(0, 50, (1, 6)))
    a_pass = [
        *("qk_norm_rope", "qk_norm", "norm_add"),
        *["rms_norm_sigmoid_gate", "expert_routing", "post_expert_norm_combine"] * 2,
        *["norm_add_norm"] * 3,
    ]
    with launches(*a_pass):
        whole = logits(model, tokens, 6)
    with launches(*a_pass * 4):
        steps = logits(model, tokens, 3)
    check("muse_spark model", steps, whole, rtol=2e-2, atol=5e-2)


def test_generation(mlx_lm, launches, operations):
    """mlx-lm's own generation loop, with its stream, prompt chunks and asynchronous evaluation."""
    import mlx.core as mx

    generate = mlx_lm("generate")
    model = randomized(make_mamba2(mlx_lm("models.mamba2")))
    prompt = mx.array([3, 1, 4, 1, 5])

    # Without a cache, each token costs the whole sequence, and never the kernel.
    expected = []
    with operations():
        for _ in range(4):
            whole = mx.concatenate([prompt, mx.array(expected, dtype=prompt.dtype)])
            expected.append(model(whole[None])[0, -1].argmax().item())
    # The loop works one token ahead, and gives the last token of the prompt to the model by itself.
    with launches(*["ssm_kernel"] * 2 * 5), zmlx.pretend_metal("mlx_lm.models"):
        tokens = [token for token, _ in generate.generate_step(prompt, model, max_tokens=4)]
    assert tokens == expected
