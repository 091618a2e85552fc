"""``python -m zmlx new-kernel``: a kernel and its OpInfo, which pass their tests, from a template."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from zmlx.scaffold.render import ScaffoldError, check_name, render
from zmlx.scaffold.source_edit import Imports, add_imports, add_to_all, add_to_sequence, defines
from zmlx.testing.files import write_whole
from zmlx.testing.project import OWN_TABLE, Project, find_project, make_importable

_KERNEL_IMPORTS: Imports = (
    "typing:Any",
    "mlx.core as mx",
    "zmlx.kernels:_check",
    "zmlx.kernels._autodiff:differentiable",
    "zmlx.kernels._autodiff:gradient_reference",
    "zmlx.kernels._autodiff:value_reference",
    "zmlx.launch:metal_kernel",
)
_ENTRY_IMPORTS: Imports = (
    "collections.abc:Callable",
    "collections.abc:Iterator",
    "numpy as np",
    "zmlx.testing.op_db._shared:ITEMSIZE",
    "zmlx.testing.op_db._shared:kernel",
    "zmlx.testing.op_db._shared:rejected_arrays",
    "zmlx.testing.opinfo:OpInfo",
    "zmlx.testing.opinfo:SampleInput",
    "zmlx.testing.opinfo:SampleRng",
    "zmlx.testing.rivals:Rivals",
)
_PROJECT_IMPORTS: Imports = (
    "collections.abc:Callable",
    "collections.abc:Iterator",
    "typing:Any",
    "mlx.core as mx",
    "numpy as np",
    "zmlx",
    "zmlx.testing:ErrorInput",
    "zmlx.testing:OpInfo",
    "zmlx.testing:Rivals",
    "zmlx.testing:SampleInput",
)


def new_kernel(folder: Path, family: str, name: str) -> str:
    """Write a kernel ``family.name`` into the project of a folder; returns what to say.

    Parameters
    ----------
    folder : pathlib.Path
        Of zmlx's checkout, or of a project whose ``[tool.zmlx]`` names one table.
    family : str
        In the checkout the module of `zmlx.kernels`; in a project the first part of the operation's name.
    name : str
        Of the function.

    Raises
    ------
    ScaffoldError
        A name is taken or none that Python can import, or the table is not a tuple that can be added to.
    OSError
        A file cannot be written.
    """
    check_name(family, "FAMILY")
    check_name(name, "NAME")
    project = find_project(folder)
    if project.tables == (OWN_TABLE,):
        own = project.root / "zmlx" / "kernels"
        if not own.is_dir():
            raise ScaffoldError(
                f"{project.root} is neither zmlx's checkout nor a project with operations of its own. Make it one: "
                "python -m zmlx init"
            )
        texts = _catalogue(project.root, family, name)
    else:
        texts = _own(project, family, name)
    for path, text in texts.items():
        write_whole(path, text)
    wrote = "\n".join(f"wrote {path.relative_to(project.root)}" for path in texts)
    lint = ""
    if project.tables == (OWN_TABLE,):
        lint = "  python -m nox -s lint -- --fix\n  python -m zmlx.scaffold.tables\n"
    return (
        f"{wrote}\n\nNow change the formula, in kernel, gradient, reference and oracle, and its `source`. Then:\n"
        f"  python -m zmlx verify --kernel {family}.{name}\n"
        f"{lint}  python -m pytest -k {name}\n"
        f"  python -m zmlx golden record --kernel {family}.{name}"
    )


def _catalogue(root: Path, family: str, name: str) -> dict[Path, str]:
    values = {"family": family, "name": name}
    kernels = root / "zmlx" / "kernels" / f"{family}.py"
    entries = root / "zmlx" / "testing" / "op_db" / f"{family}.py"
    code = _read(kernels, "catalogue_kernel_head.py", values)
    table = _read(entries, "catalogue_opinfo_head.py", values)
    _refuse_taken(code, name, kernels)
    code = add_imports(code, _KERNEL_IMPORTS)
    code = add_to_all(code, name)
    code = f"{code.rstrip()}\n\n\n{render('catalogue_kernel.py', values)}"
    table = add_imports(table, _ENTRY_IMPORTS)
    table = _added(table, "OPS", render("catalogue_entry.py", values).rstrip().rstrip(","), entries)
    # The samples stand before the table that names them.
    head, ops, tail = table.rpartition("\nOPS")
    table = f"{head.rstrip()}\n\n\n{render('catalogue_opinfo.py', values)}\n{ops}{tail}"
    return {kernels: code, entries: table}


def _own(project: Project, family: str, name: str) -> dict[Path, str]:
    if len(project.tables) != 1:
        raise ScaffoldError(
            f"{project.table_name}: new-kernel adds to one table. Say which, by ops in [tool.zmlx], or add by hand."
        )
    module, _, variable = project.tables[0].partition(":")
    path = _module_file(project, module)
    text = path.read_text(encoding="utf-8")
    _refuse_taken(text, name, path)
    values = {"family": family, "name": name, "package": module.partition(".")[0]}
    head = "" if defines(text, "_launch") and defines(text, "DTYPES") else _helpers(values)
    body = "\n\n\n".join(
        part for part in (head, _part("kernel.py", values), _part("opinfo.py", values)) if part
    )
    text = _added(add_imports(text, _PROJECT_IMPORTS), variable, f"_{name}_info", path)
    before, ops, after = text.rpartition(f"\n{variable}")
    return {path: f"{before.rstrip()}\n\n\n{body}\n{ops}{after}"}


def _helpers(values: dict[str, str]) -> str:
    """What the kernels of a project share, without the imports."""
    return "DTYPES" + _part("ops_head.py", values).partition("\nDTYPES")[2]


def _part(template: str, values: dict[str, str]) -> str:
    return render(template, values).rstrip()


def _read(path: Path, otherwise: str, values: dict[str, str]) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else render(otherwise, values)


def _refuse_taken(text: str, name: str, path: Path) -> None:
    if defines(text, name):
        raise ScaffoldError(f"{path} has a {name!r} already. Choose another name.")


def _added(text: str, variable: str, element: str, path: Path) -> str:
    made = add_to_sequence(text, variable, element)
    if made is None:
        raise ScaffoldError(
            f"{path}: expected {variable} = (…), a tuple that can be added to. Add the entry by hand."
        )
    return made


def _module_file(project: Project, module: str) -> Path:
    make_importable(project.root)
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ScaffoldError(f"There is no module {module!r} to add to, though [tool.zmlx] names it.")
    return Path(spec.origin)
