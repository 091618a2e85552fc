"""The candidate's process: ``python -m zmlx.testing.judge.worker READ WRITE``, started by the judge.

It loads the candidate and answers calls, one at a time. A launch of a kernel is not run here: it goes to the judge as
data, and comes back as outputs. Since the candidate's code runs here, nothing that this process says is believed as
it stands; `zmlx.testing.judge.evidence` says what is made of it.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmlx.testing.judge.arrays import Raw, mlx_of_raw, raw_of_mlx
from zmlx.testing.judge.transport import EndOfMessages, Message, receive, send

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call
    from zmlx.launch.origin import Origin
    from zmlx.metal.signature import Signature

#: What a candidate has no business to replace: module -> names.
GUARDED = {
    "time": ("time", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time"),
    "numpy": ("allclose", "array_equal", "isclose"),
    "numpy.testing": ("assert_allclose", "assert_array_equal"),
    "mlx.core": ("allclose", "array_equal", "eval"),
    "zmlx.launch.records": ("note_launch", "launch_counts", "watch"),
    "zmlx.launch.hook": ("current", "intercepting"),
    "zmlx.testing.tolerance": ("compare", "error_stats", "ulp_distance"),
    "zmlx.launch": ("metal_kernel",),
    "zmlx.launch.kernel": ("metal_kernel", "MetalKernel"),
    "zmlx.testing.judge.launches": ("describe",),
    "zmlx.testing.judge.transport": ("send", "receive"),
}


class LaunchFailed(RuntimeError):
    """The judge could not run a launch; the text says why."""


class RemoteLauncher:
    """Takes the launches of this process and has the judge run them (`zmlx.launch.hook.Interceptor`)."""

    path = "judged"

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink

    def launch(self, signature: Signature, call: Call, origin: Origin | None) -> list[mx.array]:
        from zmlx.testing.judge.launches import describe

        fields, inputs = describe(signature.kernel, call)
        send(self.sink, "launch", fields, inputs)
        answer = receive(self.source)
        if answer.kind != "outputs":
            raise LaunchFailed(str(answer.fields.get("error")))
        return [mlx_of_raw(x) for x in answer.arrays]


def _guarded() -> dict[str, int]:
    modules = {name: importlib.import_module(name) for name in GUARDED}
    return {f"{m}.{name}": id(getattr(modules[m], name)) for m, names in GUARDED.items() for name in names}


class _Answers:
    """What is asked of a candidate, answered."""

    def __init__(
        self, function: Callable[..., Any], launcher: RemoteLauncher | None, before: dict[str, int]
    ) -> None:
        self.function = function
        self.launcher = launcher
        self.before = before
        self.environment = dict(os.environ)
        self.folder = Path.cwd()
        self.held: list[mx.array] = []
        self.arguments: list[Any] = []
        self.kwargs: dict[str, Any] = {}

    def _arguments(self, message: Message) -> list[Any]:
        from zmlx.testing.layouts import to_mlx_array

        if message.fields["reuse"]:
            for array, raw in zip(self.held, message.arrays, strict=True):
                if array.ndim:
                    array[:] = mlx_of_raw(raw)  # MLX 0.30 has no assignment to [...]
        else:
            layout = message.fields["layout"]
            self.held = [to_mlx_array(raw.values, raw.dtype, layout) for raw in message.arrays]
        import mlx.core as mx

        mx.eval(self.held)
        return [
            self.held[slot["array"]] if "array" in slot else slot["value"] for slot in message.fields["slots"]
        ]

    def answer(self, message: Message) -> tuple[dict[str, Any], list[Raw]]:
        import mlx.core as mx

        self.arguments, self.kwargs = self._arguments(message), message.fields["kwargs"]
        with _taken_by(self.launcher):
            result = self.function(*self.arguments, **self.kwargs)
            results = list(result) if isinstance(result, (list, tuple)) else [result]
            wrong = [type(r).__name__ for r in results if not isinstance(r, mx.array)]
            if wrong:
                raise TypeError(f"expected an mx.array or a tuple of them as the result, got {wrong[0]}")
            mx.eval(results)
        arrays = [raw_of_mlx(r) for r in results]
        changed = [
            k for k in {*self.environment, *os.environ} if os.environ.get(k) != self.environment.get(k)
        ]
        fields = {
            "results": len(results),
            "environment": sorted(changed) + (["the working directory"] if Path.cwd() != self.folder else []),
            "replaced": sorted(name for name, value in _guarded().items() if value != self.before[name]),
        }
        return fields, arrays + [raw_of_mlx(x) for x in self.held]

    def batch(self, count: int) -> None:
        """Call the function again and again with the arguments of the last question."""
        import mlx.core as mx

        for _ in range(count):
            mx.eval(self.function(*self.arguments, **self.kwargs))


def _taken_by(launcher: RemoteLauncher | None) -> AbstractContextManager[None]:
    from zmlx.launch.hook import intercepting

    return nullcontext() if launcher is None else intercepting(launcher)


def limit_memory(megabytes: int) -> None:
    """Bound this process's address space to what it has now and `megabytes` more, where the system can."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except FileNotFoundError:  # macOS, which does not keep to RLIMIT_AS either
        return
    most = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _load(path: str, name: str) -> Callable[..., Any]:
    """The function `name` of a file, or the operation `name` of a table "package.module:NAME"."""
    if not path.endswith(".py"):
        from zmlx.testing.project import load_ops

        return next(op.op for op in load_ops([path]) if op.name == name)
    spec = importlib.util.spec_from_file_location("zmlx_candidate", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        there = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise AttributeError(f"expected a function {name!r} in it; it has {', '.join(there) or 'none'}")
    return function  # type: ignore[no-any-return]


def _told(error: BaseException) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "error": str(error)[:2000],
        "trace": "".join(traceback.format_exception(error))[-4000:],
    }


def main(arguments: list[str]) -> None:
    """Serve until the judge closes its end."""
    source, sink = int(arguments[0]), int(arguments[1])
    import mlx.core as mx

    import zmlx
    from zmlx.testing import layouts  # noqa: F401  # before memory is limited

    mx.set_default_device(mx.cpu)
    zmlx.install()
    before = _guarded()
    setup = receive(source)
    launcher = RemoteLauncher(source, sink) if setup.fields["judged"] else None
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
    limit_memory(setup.fields["memory"])
    environment = dict(os.environ)
    send(sink, "started", {})
    try:
        with _taken_by(launcher):
            function = _load(setup.fields["candidate"], setup.fields["function"])
    except Exception as error:  # noqa: BLE001 - the judge reports it
        send(sink, "failed", _told(error))
        return
    answers = _Answers(function, launcher, before)
    answers.environment = environment
    send(sink, "ready", {})
    while True:
        try:
            message = receive(source)
        except EndOfMessages:
            return
        nonce = message.fields["nonce"]
        try:
            if message.kind == "batch":
                answers.batch(message.fields["count"])
                send(sink, "done", {"nonce": nonce})
                continue
            fields, arrays = answers.answer(message)
        except Exception as error:  # noqa: BLE001 - the judge reports it
            send(sink, "raised", {"nonce": nonce, **_told(error)})
        else:
            send(sink, "result", {"nonce": nonce, **fields}, arrays)


if __name__ == "__main__":
    main(sys.argv[1:])
