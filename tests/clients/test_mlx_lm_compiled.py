"""Training steps and generation with small models of mlx-lm under `mx.compile`, kernels of the test's own and of the
catalogue in them: as without `mx.compile`, on every back end."""

from __future__ import annotations

import platform
from collections import Counter

import numpy as np
import pytest
from mlx_lm_models import make_mamba2, make_rwkv7, randomized

import zmlx
from zmlx.launch import hook, primitive, watch

pytestmark = pytest.mark.cpu

VOCABULARY = 50
TOKENS = 32

#: `mx.compile` fuses MLX's own operations. Where the compiler makes one rounding of a product and a sum, as for GPUs
#: and arm64, four steps of training carry on what that changes. For x86-64 in general there is no such instruction.
FUSED = {"rtol": 2e-5, "atol": 2e-6}


@pytest.fixture(autouse=True)
def _in_graphs(backend):
    if hook.current() is not None:
        pytest.skip("the checker looks at launches one by one, and none of them becomes part of a graph")
    reason = primitive.unavailable() if backend == "cpu" else ""
    if reason:
        pytest.skip(f"launches cannot be part of MLX's graph here: {reason}")


GATE = """
    uint i = thread_position_in_grid.x;
    float a = gate[i];
    out[i] = a / (1.0f + exp(-a)) * up[i];
"""

GATE_GRADIENT = """
    uint i = thread_position_in_grid.x;
    float a = gate[i], slope = cotangent[i];
    float sigmoid = 1.0f / (1.0f + exp(-a));
    d_gate[i] = slope * up[i] * sigmoid * (1.0f + a * (1.0f - sigmoid));
    d_up[i] = slope * a * sigmoid;
"""


def gate_of_the_tests_own():
    """``silu(gate) * up`` by a kernel, its gradients by another."""
    import mlx.core as mx

    with zmlx.install():
        forward = mx.fast.metal_kernel(
            name="gate", input_names=["gate", "up"], output_names=["out"], source=GATE
        )
        backward = mx.fast.metal_kernel(
            name="gate_gradient",
            input_names=["gate", "up", "cotangent"],
            output_names=["d_gate", "d_up"],
            source=GATE_GRADIENT,
        )

    def run(kernel, inputs, outputs):
        x = inputs[0]
        return kernel(
            inputs=inputs,
            grid=(x.size, 1, 1),
            threadgroup=(64, 1, 1),
            output_shapes=[x.shape] * outputs,
            output_dtypes=[x.dtype] * outputs,
        )

    @mx.custom_function
    def gated(gate, up):
        return run(forward, [gate, up], 1)[0]

    @gated.vjp
    def gated_vjp(primals, cotangent, _):
        return run(backward, [*primals, cotangent], 2)

    return gated


def gate_of_the_catalogue():
    """The same by `zmlx.kernels`, which takes both in one array."""
    import mlx.core as mx

    from zmlx.kernels import transformer

    return lambda gate, up: transformer.swiglu(mx.concatenate([gate, up], axis=-1))


GATES = {"own": gate_of_the_tests_own, "catalogue": gate_of_the_catalogue}


def llama(mlx_lm, gates):
    """A Llama of two layers with random weights, the gates of its perceptrons by a kernel, and its norms by the
    catalogue's where its gates are."""
    import mlx.core as mx
    import mlx.nn as nn

    from zmlx.kernels import norms

    module = mlx_lm("models.llama")
    gated = GATES[gates]()

    class Perceptron(module.MLP):
        def __call__(self, x):
            return self.down_proj(gated(self.gate_proj(x), self.up_proj(x)))

    class Norm(nn.RMSNorm):
        def __call__(self, x):
            return norms.rmsnorm(x, self.weight, self.eps)

    arguments = module.ModelArgs(
        model_type="llama",
        hidden_size=32,
        num_hidden_layers=2,
        intermediate_size=48,
        num_attention_heads=2,
        rms_norm_eps=1e-5,
        vocab_size=VOCABULARY,
    )
    mx.random.seed(0)
    model = module.Model(arguments)
    for layer in model.model.layers:
        layer.mlp = Perceptron(arguments)
        if gates == "catalogue":
            layer.input_layernorm = Norm(arguments.hidden_size, eps=arguments.rms_norm_eps)
            layer.post_attention_layernorm = Norm(arguments.hidden_size, eps=arguments.rms_norm_eps)
    mx.eval(model.parameters())
    return model


@pytest.fixture
def same(backend, check):
    """``same(name, actual, desired)``: bit for bit on the CPU of a PC, `FUSED` elsewhere."""
    exact = backend == "cpu" and platform.machine() in ("x86_64", "AMD64")
    tolerance = {"rtol": 0, "atol": 0} if exact else FUSED
    return lambda name, actual, desired: check(name, actual, desired, **tolerance)


def names_of(seen, backend):
    """How often each kernel was launched, all of them as kernels and on this back end."""
    assert {record.backend for record in seen} == {backend}
    assert "reference" not in {record.path for record in seen}
    return Counter(record.kernel.name for record in seen)


def assert_traced_once(traced, plain, backend, times):
    """Of so many calls only the first one launched its kernels, into the graph."""
    once = names_of(traced, backend)
    assert once
    assert {name: count * times for name, count in once.items()} == names_of(plain, backend)
    if backend == "cpu":  # on a GPU every launch is an operation of the graph
        assert {record.path for record in traced} == {"lazy"}


def train(model, compiled, steps=4):
    """The losses of a few steps of AdamW, and the parameters after them."""
    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers as optimizers
    from mlx.utils import tree_flatten

    optimizer = optimizers.AdamW(1e-3)
    optimizer.init(model.trainable_parameters())
    state = [model.state, optimizer.state]

    def loss(model, x, y):
        return nn.losses.cross_entropy(model(x), y, reduction="mean")

    def step(x, y):
        value, gradients = nn.value_and_grad(model, loss)(model, x, y)
        optimizer.update(model, gradients)
        return value

    if compiled:
        step = mx.compile(step, inputs=state, outputs=state)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(steps):
        tokens = mx.array(rng.integers(0, VOCABULARY, (3, 9)))
        losses.append(step(tokens[:, :-1], tokens[:, 1:]))
        mx.eval(losses, state)
    return mx.stack(losses), dict(tree_flatten(model.parameters()))


@pytest.mark.parametrize("gates", list(GATES))
def test_training_steps(mlx_lm, backend, same, gates):
    import mlx.core as mx

    before = llama(mlx_lm, gates).model.layers[0].mlp.gate_proj.weight
    with watch() as plain:
        losses, parameters = train(llama(mlx_lm, gates), compiled=False)
    with watch() as traced:
        compiled_losses, compiled_parameters = train(llama(mlx_lm, gates), compiled=True)
    assert_traced_once(traced, plain, backend, times=4)
    same(f"training losses, {gates} kernels", compiled_losses, losses)
    assert compiled_parameters.keys() == parameters.keys()
    flat = [
        mx.concatenate([p.flatten() for p in tree.values()]) for tree in (compiled_parameters, parameters)
    ]
    same(f"training parameters, {gates} kernels", *flat)
    trained = compiled_parameters["model.layers.0.mlp.gate_proj.weight"]
    assert np.abs(np.array(trained - before)).max() > 1e-3  # four steps of 1e-3 went somewhere


def generate_from_window(model, compiled):
    """Greedy tokens, each from all that came before it in a window of one size, which causal attention allows."""
    import mlx.core as mx

    def step(window, position):
        logits = mx.take(model(window)[0], position, axis=0)
        token = mx.argmax(logits).astype(window.dtype)
        return mx.where(mx.arange(window.shape[1]) == position + 1, token, window), logits

    if compiled:
        step = mx.compile(step)
    window = mx.zeros((1, TOKENS + 1), dtype=mx.int32)
    rows = []
    for position in range(TOKENS):
        window, logits = step(window, mx.array(position))
        rows.append(logits)
        mx.eval(window, logits)
    return window[0, 1 : TOKENS + 1].tolist(), mx.stack(rows)


@pytest.mark.parametrize("gates", list(GATES))
def test_generation(mlx_lm, backend, same, gates):
    model = llama(mlx_lm, gates)
    with watch() as plain:
        tokens, logits = generate_from_window(model, compiled=False)
    with watch() as traced:
        compiled_tokens, compiled_logits = generate_from_window(model, compiled=True)
    assert_traced_once(traced, plain, backend, times=TOKENS)
    assert compiled_tokens == tokens
    assert len(set(tokens)) > 1
    same(f"generation, {gates} kernels", compiled_logits, logits)


def generate_from_cache(model, compiled):
    """The same of a recurrent model, whose state is of one size and what `mx.compile` takes in and gives out; and the
    launches."""
    import mlx.core as mx

    caches = model.make_cache()
    token = mx.array([[1]], dtype=mx.uint32)
    with zmlx.pretend_metal("mlx_lm"):
        model(token, cache=caches)  # there are arrays in the cache from now on
        state = [cache.cache for cache in caches]

        def step(token):
            logits = model(token, cache=caches)[0, -1]
            return mx.argmax(logits)[None, None], logits

        if compiled:
            step = mx.compile(step, inputs=state, outputs=state)
        tokens, rows = [], []
        with watch() as seen:
            for _ in range(TOKENS):
                token, logits = step(token)
                mx.eval(token, logits, state)
                tokens.append(token.item())
                rows.append(logits)
    return tokens, mx.stack(rows), seen


@pytest.mark.parametrize(
    ("name", "make", "kernel"), [("rwkv7", make_rwkv7, "wkv7_kernel"), ("mamba2", make_mamba2, "ssm_kernel")]
)
def test_generation_by_kernels_of_mlx_lm(mlx_lm, backend, same, name, make, kernel):
    model = randomized(make(mlx_lm(f"models.{name}")))
    tokens, logits, plain = generate_from_cache(model, compiled=False)
    compiled_tokens, compiled_logits, traced = generate_from_cache(model, compiled=True)
    assert names_of(traced, backend) == {kernel: 2}  # one in each layer
    assert_traced_once(traced, plain, backend, times=TOKENS)
    assert compiled_tokens == tokens
    assert len(set(tokens)) > 1
    same(f"generation, {name}", compiled_logits, logits)
