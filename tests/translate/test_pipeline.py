"""The list of passes of each target."""

from __future__ import annotations

import pytest

from zmlx.metal.signature import KernelSource
from zmlx.metal.statements import Unclear
from zmlx.translate import pipeline
from zmlx.translate.convergence import _LANE_FUNCTIONS, MATRIX_TYPES, SITED_FUNCTIONS, uses_lanes
from zmlx.translate.passes import Pass
from zmlx.translate.regions import GROUP_BARRIER

pytestmark = pytest.mark.cpu

METAL = "half h = x[0];\nout[0] = true ? h : 1.0;\n"


def test_every_target_has_its_list():
    assert set(pipeline.PIPELINES) == {"host-loop", "host-regions", "host-fibers", "checked", "cuda"}
    for name, passes in pipeline.PIPELINES.items():
        assert all(isinstance(step, Pass) for step in passes), name
        names = [step.name for step in passes]
        assert len(set(names)) == len(names)
        assert names.index("address-spaces") < names.index("overloads")


def test_only_the_last_pass_may_move_lines():
    for passes in pipeline.PIPELINES.values():
        assert not any(step.moves_lines for step in passes[:-1])


def test_without_small_floats_conditionals_stay():
    kernel = KernelSource("k", ("x",), ("out",), METAL)
    assert "true ? h : 1.0f" in pipeline.run(kernel, "cuda", False).body
    assert "true ? h : 1.0f" not in pipeline.run(kernel, "cuda", True).body


def test_what_cannot_be_taken_apart_is_unclear_to_regions_alone():
    source = "if (x[0] > 0) { goes: threadgroup_barrier(mem_flags::mem_none); }"
    kernel = KernelSource("k", ("x",), ("out",), source)
    with pytest.raises(Unclear):
        pipeline.run(kernel, "host-regions")
    assert pipeline.run(kernel, "host-fibers").uses_barrier


def test_every_name_that_threads_meet_by_has_a_sign_of_it():
    names = {*SITED_FUNCTIONS, *_LANE_FUNCTIONS, *MATRIX_TYPES, GROUP_BARRIER}
    assert all(uses_lanes(name) or name == GROUP_BARRIER for name in names)
    for name in names:
        assert pipeline.may_meet(KernelSource("k", (), (), f"{name}(1);"))
        assert pipeline.may_meet(KernelSource("k", (), (), "M(1);", f"#define M {name}"))
    assert pipeline.may_meet(KernelSource("k", (), (), "M(mat, rix);", "#define M(a, b) s##a##b"))
    assert not pipeline.may_meet(KernelSource("k", (), (), "out[0] = 1;"))
