"""What proves that a golden file was not edited, for each schema.

Schema 3 has a checksum for each case, over back end, name, environment and contents, and none for the file: two people
who each add a kernel change no common line. Schemas 1 and 2 had one for the whole file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def of_case(backend: str, name: str, environment: Mapping[str, str], raw: Mapping[str, Any]) -> str:
    """The checksum of a case of schema 3; `environment` is the whole one, the file's with the case's over it."""
    contents = {key: value for key, value in raw.items() if key not in ("checksum", "environment")}
    return _digest({"backend": backend, "name": name, "environment": dict(environment), "case": contents})


def of_file(schema: int, backend: str, environment: Mapping[str, str], cases: Mapping[str, Any]) -> str:
    """The checksum of a file of schema 1 or 2; the first leaves out the environment."""
    content: dict[str, Any] = {"schema": schema, "backend": backend, "cases": cases}
    if schema > 1:
        content["environment"] = dict(environment)
    return _digest(content)
