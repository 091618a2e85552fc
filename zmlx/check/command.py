"""``python -m zmlx check script.py [args]``: a script, unchanged, with all its Metal kernels under the checker."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from zmlx.check.checker import Checking
from zmlx.check.suppressions import Suppressions, load_suppressions
from zmlx.check.symbolize import why_no_lines
from zmlx.launch.hook import intercepting
from zmlx.launch.installation import install

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call
    from zmlx.launch.origin import Origin
    from zmlx.metal.signature import Signature


def run_script(
    script: Path,
    arguments: Sequence[str],
    *,
    json_file: Path | None = None,
    sarif_file: Path | None = None,
    suppressions: Path | None = None,
    time_limit: float = 60.0,
    colour: bool | None = None,
    allow_nothing: bool = False,
    arithmetic: bool = False,
) -> int:
    """Run a script as ``python script.py`` would, and print what the checker found.

    ``arithmetic`` makes undefined arithmetic, and NaN out of finite inputs, findings too.

    Returns 0, or 1 if there was a finding, an unneeded suppression, a launch that raised an error, or no launch to
    check (unless ``allow_nothing``), or the script's own exit status if that is not 0. A script that ends by an
    exception has 1, and one that ends by ``os._exit`` is reported on before.

    Raises
    ------
    ValueError
        The script or the suppressions cannot be read.
    """
    if not script.is_file():
        raise ValueError(f"There is no script {str(script)!r}.")
    return run_checked(
        lambda check, finish: _run(script, arguments, check, finish),
        "the script",
        json_file=json_file,
        sarif_file=sarif_file,
        suppressions=suppressions,
        time_limit=time_limit,
        colour=colour,
        allow_nothing=allow_nothing,
        arithmetic=arithmetic,
    )


def run_checked(
    run: Callable[[Checking, Callable[[int], int]], int],
    what: str,
    *,
    json_file: Path | None = None,
    sarif_file: Path | None = None,
    suppressions: Path | None = None,
    time_limit: float = 60.0,
    colour: bool | None = None,
    allow_nothing: bool = False,
    arithmetic: bool = False,
) -> int:
    """Run something under the checker and print what was found, as `run_script` does for a script.

    Parameters
    ----------
    run : callable
        Takes the check, which it puts in place, and what it must call with its exit status if the process ends in it.
        Returns its exit status.
    what : str
        What it is, for "the script launched no Metal kernel".

    Raises
    ------
    ValueError
        The suppressions cannot be read.
    """
    known = load_suppressions(suppressions) if suppressions is not None else None
    check = _ScriptCheck(time_limit, known, arithmetic)

    def finish(status: int) -> int:
        if json_file is not None:
            json_file.write_text(check.to_json() + "\n", encoding="utf-8")
        if sarif_file is not None:
            sarif_file.write_text(check.to_sarif() + "\n", encoding="utf-8")
        wrong = check.suppressions.unneeded()
        if check.raised:
            wrong.append(
                f"{len(check.raised)} launches raised an error and were not checked: {check.raised[0]}"
            )
        if not check.launches and not allow_nothing:
            wrong.append(
                f"nothing was checked: {what} launched no Metal kernel (one that runs by its reference only is "
                "not checked). If that is meant, allow it with --allow-nothing"
            )
        print(check.report(sys.stdout.isatty() if colour is None else colour))
        for line in [*wrong, *filter(None, [why_no_lines() if check.findings else ""])]:
            print(line)
        return status or (1 if check.findings or wrong else 0)

    return finish(run(check, finish))


class _ScriptCheck(Checking):
    """Counts the launches that raise, too: a script may swallow the error, and such a launch was not checked."""

    hears_inner = True

    def __init__(self, time_limit: float, suppressions: Suppressions | None, arithmetic: bool) -> None:
        super().__init__(
            raise_on_finding=False, time_limit=time_limit, suppressions=suppressions, arithmetic=arithmetic
        )
        self.raised: list[str] = []

    def launch(self, signature: Signature, call: Call, origin: Origin | None = None) -> list[mx.array]:
        try:
            return super().launch(signature, call, origin)
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            self.raised.append(f"{signature.kernel.name}: {type(error).__name__}: {first}")
            raise


def _exit_status(code: object) -> int:
    """What the system makes of `SystemExit.code`, but never 0 of a number that is not: 256 would be."""
    if code is None:
        return 0
    if isinstance(code, int):
        return (code & 0xFF) or (1 if code else 0)
    print(code, file=sys.stderr)
    return 1


def _run(script: Path, arguments: Sequence[str], check: Checking, finish: Callable[[int], int]) -> int:
    """Run the script and return its exit status. ``os._exit`` comes to ``finish`` first, in this process only."""
    before = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    leave, process = os._exit, os.getpid()

    def leave_reported(status: int) -> NoReturn:
        if os.getpid() == process:
            status = finish(_exit_status(status))
            sys.stdout.flush()
            sys.stderr.flush()
        leave(status)

    os._exit = leave_reported
    try:
        with install(), intercepting(check):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as exit_:
        return _exit_status(exit_.code)
    except KeyboardInterrupt:
        traceback.print_exc()
        return 130
    except Exception:  # noqa: BLE001 - what Python itself does with it
        traceback.print_exc()
        return 1
    finally:
        os._exit = leave
        sys.argv, sys.path[:] = before
    return 0
