"""Where numbers come from: the provenance that headers, golden files and reports carry."""

from __future__ import annotations

import os
import platform
import time

from zmlx import _compat
from zmlx._version import __version__

TF32_VARIABLE = "MLX_ENABLE_TF32"


def device_facts(backend: str) -> dict[str, str]:
    """Name and architecture of the device of a back end that is available here, as MLX gives them."""
    mx = _compat.import_mx()
    facts = mx.device_info(_compat.device_for(backend))
    return {
        "device": str(facts.get("device_name", "unnamed device")),
        "architecture": str(facts.get("architecture", platform.machine())),
    }


def _operating_system() -> str:
    """The name that users know: "macOS 15.1", "Ubuntu 24.04.1 LTS"."""
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # no os-release file: a minimal container
        return platform.system()


def describe_environment(backend: str) -> dict[str, str]:
    """Everything that a number depends on besides the kernel and its inputs, as strings.

    Raises
    ------
    zmlx._compat.BackendUnavailableError
        If the back end is not available here: an environment describes what ran.
    """
    import numpy

    mx = _compat.import_mx()
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **device_facts(backend),
        "machine": platform.machine(),
        "mlx": str(mx.__version__),
        "numpy": numpy.__version__,
        "os": _operating_system(),
        "python": platform.python_version(),
        "tf32": os.environ.get(TF32_VARIABLE, "MLX's default"),
        "zmlx": __version__,
    }
