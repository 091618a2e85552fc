"""Loads the plugin where zmlx is used from its checkout, as an installed zmlx does by its entry point; and the fixtures
that tests of the translation and of the launchers share."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import shutil
import signal
import tempfile
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression
from hypothesis.internal.conjecture import providers

# Here, though fixtures alone use it: pytester drops the modules that an inner session was the first to import, and the
# launcher, loaded a second time, would keep its programs beside those that kernels run.
from zmlx.launch import compiler, host
from zmlx.launch.cache import CACHE_VARIABLE, cache_dir

CACHE_DIR = str(cache_dir())

TESTS = Path(__file__).parent
#: Where tests are of what a back end does: of its device, of kernels, and of what translates and launches them. All
#: others are of tools, which no back end changes: the checker runs kernels on the CPU, whatever there is.
OF_KERNELS = (
    "clients",
    "kernels",
    "launch",
    "metal",
    "runtime",
    "test_device_profile.py",
    "test_ops.py",
    "translate",
)
#: What there is of tools nevertheless: where compiled kernels are kept, and which compiler makes them.
OF_TOOLS = ("launch/test_cache.py", "launch/test_compiler.py")
#: What there launches nothing, but reads, translates, judges, compiles or compares text, is the same on all back ends,
#: and of tools too. Where a file has both, a test of text that takes time is marked by itself.
OF_TEXTS = (
    "kernels/formula/test_parse.py",
    "kernels/test_texts.py",
    "launch/test_cuda_compile.py",
    "launch/test_diagnosis.py",
    "launch/test_nvrtc.py",
    "launch/test_translations.py",
    "metal",
    "translate/test_address_spaces.py",
    "translate/test_attributes.py",
    "translate/test_branches.py",
    "translate/test_conversions.py",
    "translate/test_declared.py",
    "translate/test_dump.py",
    "translate/test_entries.py",
    "translate/test_function.py",
    "translate/test_literals.py",
    "translate/test_operators.py",
    "translate/test_overloads.py",
    "translate/test_pipeline.py",
    "translate/test_places.py",
    "translate/test_pragmas.py",
    "translate/test_refusals.py",
    "translate/test_uniform.py",
    "translate/test_unit.py",
    "translate/test_variables.py",
    "translate/test_verify.py",
)

pytest_plugins = ["zmlx.testing.plugin", "pytester"]

# Hypothesis also draws constants that it finds in the modules that are loaded, which are those of the tests that ran
# before: the same examples in every run, whose kernels are compiled already, are had without.
if hasattr(providers, "_get_local_constants"):  # in older ones there are none
    providers._get_local_constants = lambda: providers._local_constants

# Where this was started by nohup or in the background of a script, SIGINT is ignored, and so it would be in every
# process that tests start: those that interrupt one would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Between the passes of every translation, also in processes that tests start: see zmlx/translate/verify.py.
os.environ.setdefault("ZMLX_VERIFY_PASSES", "1")


def pytest_ignore_collect(collection_path, config):
    """A file all of whose tests `-m` leaves out is not imported: collecting a test takes about as long as running one
    of text, in each worker."""
    wholly = collection_path.is_file() and _what_is_tested_in(collection_path) in ("tools", "texts")
    return True if wholly and _leaves_out_tools(config.option.markexpr) else None


def pytest_collection_modifyitems(items):
    for item in items:
        if _what_is_tested_in(item.path) in ("tools", "texts"):
            item.add_marker("tools")


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop():
    """What was collected stays until the end: a million objects, which else Python's collector looks through again
    and again, a third of a second each time. And what tests make is in few circles: it looks for them less often."""
    if gc.get_freeze_count():  # a session within one that has done so
        return (yield)
    gc.collect()
    gc.freeze()
    often = gc.get_threshold()
    gc.set_threshold(20 * often[0], *often[1:])
    try:
        return (yield)
    finally:
        gc.set_threshold(*often)
        gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """What is said to be of texts launches no kernel: it would be missing in the session of a back end. Under the
    checker, which runs on the CPU everywhere, it may."""
    if item.get_closest_marker("tools") is None or _what_is_tested_in(item.path) not in ("kernels", "texts"):
        return (yield)
    from zmlx.launch import watch

    with watch() as launches:
        result = yield
    ran = sorted({launch.kernel.name for launch in launches if launch.path not in ("", "checked")})
    if ran:
        pytest.fail(
            "expected a test of texts, which launches no kernel; "
            f"it launched {', '.join(ran)}. Take it out of OF_TEXTS in tests/conftest.py, or its marker `tools` away: "
            "what depends on a back end runs in that one's session.",
            pytrace=False,
        )
    return result


@cache
def _leaves_out_tools(expression):
    """Whether a marker expression is false for all tests of tools, whatever else they are marked with."""
    others = sorted({*re.findall(r"\w+", expression)} - {"and", "or", "not", "tools"})
    if not expression or len(others) > 8:
        return False
    chooses = Expression.compile(expression).evaluate
    marked = ({"tools", *names} for count in range(len(others) + 1) for names in combinations(others, count))
    return not any(chooses(lambda name, names=names, **_: name in names) for names in marked)


@cache
def _what_is_tested_in(path):
    """Whether a file's tests are of "kernels", "texts" or "tools"; None for one from elsewhere."""
    if not path.is_relative_to(TESTS):
        return None
    place = path.relative_to(TESTS)
    within = {folder.as_posix() for folder in (place, *place.parents)}
    if within.isdisjoint(OF_KERNELS) or not within.isdisjoint(OF_TOOLS):
        return "tools"
    return "kernels" if within.isdisjoint(OF_TEXTS) else "texts"


@pytest.fixture
def pytester(pytester, monkeypatch):
    """pytester, whose sessions find the kernels that this one has compiled, and see a file that a test has changed.

    It gives every test a home of its own, and with it an empty cache: seconds for a compiler's runtime header. Python
    takes bytecode for that of a file which has changed within a second and kept its size.
    """
    monkeypatch.setenv(CACHE_VARIABLE, CACHE_DIR)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return pytester


@pytest.fixture
def fill_cache():
    """``fill_cache(folder)`` puts links into it to what this session's cache has that takes seconds to make: compilers'
    headers, and the checker. Without a kernel."""

    def link(source, target):
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copyfile(source, target)

    def fill(folder):
        for entry in (*Path(CACHE_DIR).glob("header/*/*.?ch"), *Path(CACHE_DIR).glob("checked/*/*.o")):
            note = entry.with_suffix(".json")
            if note.exists():  # else it is not done
                target = Path(folder) / entry.relative_to(CACHE_DIR)
                target.parent.mkdir(parents=True, exist_ok=True)
                link(entry, target)
                link(note, target.with_suffix(".json"))

    return fill


@pytest.fixture
def as_fibers(monkeypatch):
    """Kernels whose threads meet run as fibers on the CPU, whatever their form. They have no loops of which the
    compiler could make the best."""
    monkeypatch.setenv(host.FIBERS_VARIABLE, "1")
    host.forget_programs()
    with compiler.hastily():
        yield
    monkeypatch.undo()
    host.forget_programs()


@pytest.fixture(params=["regions", "fibers"])
def meeting_path(request):
    """The host's two ways to run kernels whose threads meet, one after the other; the value is the path's name."""
    if request.param == "fibers":
        request.getfixturevalue("as_fibers")
    return request.param


@pytest.fixture
def mlx_text():
    """``mlx_text(kernel_source, inputs, output_dtypes, template)``: the Metal text that MLX writes for a call.

    On Linux too MLX writes it, and prints it, when a call is exported. Older MLX cannot export a Metal kernel
    without Metal, and names its functions differently: there the test is skipped.
    """
    import mlx.core as mx

    version = tuple(int(part) for part in mx.__version__.split(".")[:2])
    if version < (0, 32):
        pytest.skip(f"MLX {mx.__version__} does not print Metal text as MLX 0.32 does")
    return _mlx_text


def _mlx_text(kernel, inputs, output_dtypes, template=None) -> str:
    import mlx.core as mx

    native = mx.fast.metal_kernel(
        name=kernel.name,
        input_names=list(kernel.input_names),
        output_names=list(kernel.output_names),
        source=kernel.source,
        header=kernel.header,
        ensure_row_contiguous=kernel.ensure_row_contiguous,
        atomic_outputs=kernel.atomic_outputs,
    )

    def call(*arrays):
        return native(
            inputs=list(arrays),
            output_shapes=[(1,)] * len(output_dtypes),
            output_dtypes=list(output_dtypes),
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            template=template,
            verbose=True,
        )

    with tempfile.TemporaryDirectory() as folder, _captured_stdout() as printed:
        mx.export_function(os.path.join(folder, "call.mlxfn"), call, *inputs)
    match = re.search(r"```\n(.*?)\n```", printed[0], re.DOTALL)
    assert match is not None, printed
    return match[1]


@contextlib.contextmanager
def _captured_stdout():
    """MLX prints from C++: catch the file descriptor."""
    printed = []
    with tempfile.TemporaryFile() as file:
        saved = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            yield printed
        finally:
            os.dup2(saved, 1)
            os.close(saved)
            file.seek(0)
            printed.append(file.read().decode())
