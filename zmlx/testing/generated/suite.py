"""`opinfo_tests`: all subjects, written into one test module."""

from __future__ import annotations

import sys
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from zmlx.testing.generated import claims, forward, gradients, invariance, large, properties, transforms
from zmlx.testing.generated.case import claimed_dtypes
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.project import find_project, load_ops

SUBJECTS = (forward, gradients, invariance, transforms, claims, large, properties)


def opinfo_tests(ops: Iterable[OpInfo], namespace: MutableMapping[str, Any] | None = None) -> None:
    """Write the tests of a table of operations into the calling test module.

    >>> from mypackage.ops import OPS          # tests/test_ops.py of a project, whole
    >>> from zmlx.testing import opinfo_tests
    >>> opinfo_tests(OPS)

    Functions ``test_forward``, ``test_gradient``, ``test_layouts``, ``test_runs_repeat``, ``test_joint_evaluation``,
    ``test_vmap``, ``test_compile``, ``test_errors``, ``test_other_dtypes_are_refused``, ``test_large`` and
    ``test_properties`` appear in it, as far as the table has something for them. Tolerances of the project's
    ``[tool.zmlx]`` count.

    Parameters
    ----------
    ops : iterable of OpInfo
        The table; at least one entry.
    namespace : mapping, optional
        Instead of the globals of the caller.

    Raises
    ------
    ValueError
        The table is empty, or the module has a function of one of these names already.
    zmlx.testing.project.ProjectError
        A tolerance of ``[tool.zmlx]`` is for no operation, or has no reason.
    """
    module = sys._getframe(1).f_globals if namespace is None else namespace
    table = tuple(ops)
    if not table:
        raise ValueError("opinfo_tests: expected at least one OpInfo, got an empty table.")
    if "__file__" in module:
        project = find_project(Path(module["__file__"]).parent)
        if project.tolerances and project.has_own_tables:
            # By all operations, of which a module may have some only.
            project.check_tolerances(load_ops(project.tables, project.root))
        table = project.with_tolerances(table)
    made = [test for subject in SUBJECTS for test in subject.tests(table)]
    for test in made:
        if test.__name__ in module:
            raise ValueError(
                f"opinfo_tests: the module has a {test.__name__} already. Give one of the two another name, or call "
                "opinfo_tests once, with all tables: opinfo_tests((*OPS, *MORE))."
            )
        module[test.__name__] = pytest.mark.usefixtures("mx_device")(test)
    module["zmlx_claimed"] = _claimed
    module["zmlx_ops"] = table  # for programs that run an example of a property-based test again


@pytest.fixture(autouse=True, name="zmlx_claimed")
def _claimed(request: pytest.FixtureRequest, backend: str) -> None:
    """Skips what an entry does not claim on this back end."""
    given = getattr(request.node, "callspec", None)
    parameters = dict(given.params) if given else {}
    case = parameters.get("case")
    op, dtype = (case.op, case.dtype) if case else (parameters.get("op"), parameters.get("dtype"))
    if op is not None and dtype in claimed_dtypes(op) and dtype not in op.dtypes_on(backend):
        pytest.skip(f"{op.name} does not claim {dtype} on {backend}")
