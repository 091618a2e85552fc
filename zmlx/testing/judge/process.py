"""Child processes of the judge: started clean, spoken to with a deadline, and ended with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmlx
from zmlx.testing.judge.arrays import Raw
from zmlx.testing.judge.transport import Message, receive, send

#: Set in a child and in all that it starts, so that what it leaves running can be found.
MARK = "ZMLX_JUDGE"
#: What children inherit of the environment; everything else is left out.
INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "CXX",
    "DYLD_LIBRARY_PATH",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "PYTHONPATH",
)
#: Seconds in which a child must have started.
START_LIMIT = 120.0


class Child:
    """One child process, which speaks `zmlx.testing.judge.transport`.

    Parameters
    ----------
    module : str
        What ``python -m`` runs.
    folder : pathlib.Path
        Its working directory, home and temporary folder; what it prints goes to a file there.
    mark : str
        The value of `MARK` in its environment.
    extra : mapping
        More of its environment.
    paths : sequence of pathlib.Path
        Folders that it imports from, after zmlx's own.
    """

    def __init__(
        self, module: str, folder: Path, mark: str, extra: dict[str, str], paths: Sequence[Path] = ()
    ) -> None:
        self.mark = mark
        self.log = folder / "printed.txt"
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        own = str(Path(zmlx.__file__).parent.parent)
        inherited = environment.get("PYTHONPATH", "").split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [own, *map(str, paths), *inherited]))
        environment |= {"HOME": str(folder), "TMPDIR": str(folder), MARK: mark, **extra}
        theirs, self._sink = os.pipe()
        self._source, answers = os.pipe()
        try:
            with self.log.open("wb") as printed:
                self.process = subprocess.Popen(
                    [sys.executable, "-s", "-m", module, str(theirs), str(answers)],
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=printed,
                    cwd=folder,
                    env=environment,
                    pass_fds=(theirs, answers),
                    start_new_session=True,
                )
        finally:
            os.close(theirs)
            os.close(answers)

    def send(
        self, kind: str, fields: dict[str, Any], arrays: Sequence[Raw] = (), limit: float = 60.0
    ) -> None:
        """Send a message; see `zmlx.testing.judge.transport.send` for what it raises."""
        send(self._sink, kind, fields, arrays, time.monotonic() + limit)

    def receive(self, limit: float, max_bytes: int = 4 << 30) -> Message:
        """The next message within `limit` seconds; see `zmlx.testing.judge.transport.receive` for what it raises."""
        return receive(self._source, time.monotonic() + limit, max_bytes)

    def printed(self, most: int = 300) -> str:
        """The end of what it wrote to stdout and stderr."""
        with self.log.open("rb") as printed:
            printed.seek(max(0, self.log.stat().st_size - most))
            return printed.read().decode(errors="replace")

    def status(self) -> str:
        """How it ended, in words; "is still running" if it has not."""
        try:
            code = self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            return "is still running"
        return f"ended by signal {-code}" if code < 0 else f"ended with exit status {code}"

    def close(self, patience: float = 5.0) -> list[int]:
        """Let it end, end it if it does not, and end what it has left running, whose process ids are returned."""
        for descriptor in (self._sink, self._source):
            os.close(descriptor)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        left = self._left()
        for pid in left:
            try:
                if pid == self.process.pid:  # it has ended itself: what is left is the rest of its group
                    os.killpg(pid, signal.SIGKILL)
                else:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it has ended since
        return left

    def kill(self) -> None:
        """End it now."""
        self.process.kill()
        self.process.wait()

    def _left(self) -> list[int]:
        """Processes that carry its mark, or, where the system does not show them, that are in its group."""
        proc = Path("/proc/self/environ")
        if not proc.exists():
            try:
                os.killpg(self.process.pid, 0)
            except (ProcessLookupError, PermissionError):
                return []
            return [self.process.pid]
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                is_left = wanted in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended, or is another user's
            if is_left:
                found.append(int(entry.name))
        return sorted(found)
