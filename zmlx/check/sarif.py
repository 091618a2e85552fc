"""Findings as SARIF 2.1.0, which GitHub and editors show on the lines of the code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zmlx._version import __version__
from zmlx.check.findings import KINDS, Access, Finding

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def to_sarif(findings: Sequence[Finding], root: Path | None = None) -> str:
    """A SARIF log of one run; files below ``root`` (the working directory) get relative paths, as GitHub asks."""
    base = (root or Path.cwd()).resolve()
    rules = sorted({finding.kind for finding in findings}, key=list(KINDS).index)
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "zmlx",
                        "version": __version__,
                        "rules": [
                            {
                                "id": kind,
                                "shortDescription": {"text": KINDS[kind][1]},
                                "defaultConfiguration": {"level": KINDS[kind][0]},
                            }
                            for kind in rules
                        ],
                    }
                },
                "results": [_result(finding, rules, base) for finding in findings],
            }
        ],
    }
    return json.dumps(log, indent=2)


def _result(finding: Finding, rules: list[str], base: Path) -> dict[str, Any]:
    located = [(access, _location(access, base)) for access in finding.accesses]
    locations = [location for _, location in located if location is not None]
    if not locations and finding.origin is not None:
        locations = [_physical(finding.origin[0], finding.origin[1], base)]
    return {
        "ruleId": finding.kind,
        "ruleIndex": rules.index(finding.kind),
        "level": finding.severity,
        "message": {"text": str(finding)},
        "locations": locations[:1],
        "relatedLocations": locations[1:],
        "partialFingerprints": {
            "zmlx/v1": f"{finding.kind}:{finding.kernel}:{finding.array}:{finding.source_line}"
        },
    }


def _location(access: Access, base: Path) -> dict[str, Any] | None:
    place = access.place
    if not place.file or place.file_line is None:
        return None
    who = "" if access.thread is None else f"{access.thread} "
    return {**_physical(place.file, place.file_line, base), "message": {"text": f"{who}{access.what}"}}


def _physical(file: str, line: int, base: Path) -> dict[str, Any]:
    path = Path(file).resolve()
    uri = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_uri()
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}}
