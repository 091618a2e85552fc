"""The name that zmlx is installed by, and where it is installed from. There is no zmlx of this project on PyPI.

Both are here and nowhere else, so that they can change.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Of the distribution; pyproject.toml has it too. A package of this name on PyPI is another project's.
NAME = "zmlx"

NO_SOURCE = (
    "Where to install {name} from is not known: it was not installed from a folder or a git URL, and it is not a "
    'checkout. Write it into pyproject.toml:\n[tool.zmlx]\nzmlx-from = "git+https://HOST/PATH.git"    # or a folder'
)


class SourceUnknownError(ValueError):
    """Nothing says where zmlx comes from; the message says what to write."""


def source() -> str:
    """Where this zmlx was installed from: a folder or a URL that pip takes.

    Raises
    ------
    SourceUnknownError
        Its metadata does not say, and it is not used from a checkout.
    """
    try:
        recorded = importlib.metadata.distribution(NAME).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        recorded = None
    if recorded:
        about = json.loads(recorded)
        url = str(about["url"])
        if url.startswith("file:"):
            return unquote(urlsplit(url).path)
        version_control = about.get("vcs_info")
        return f"{version_control['vcs']}+{url}@{version_control['commit_id']}" if version_control else url
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        return str(checkout)
    raise SourceUnknownError(NO_SOURCE.format(name=NAME))


def requirement(where: str, extras: tuple[str, ...] = ()) -> str:
    """What pip installs zmlx by, from a folder or a URL: "zmlx[cpu] @ file:///home/me/zmlx"."""
    chosen = f"[{','.join(extras)}]" if extras else ""
    return f"{NAME}{chosen} @ {where if '://' in where else Path(where).as_uri()}"
