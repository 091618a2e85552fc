from __future__ import annotations

from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from zmlx._wheels import WheelVerdict, check_wheels, installed_wheels

pytestmark = pytest.mark.cpu

LIBRARY = b"the library of the wheel that came last"


def install(folder: Path, name: str, version: str = "0.32.4", size: int | None = None) -> Distribution:
    """A wheel's metadata as pip leaves them; `size` is that of libmlx.so in its RECORD."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    record = "" if size is None else f"mlx/lib/libmlx.so,sha256=x,{size}\n"
    (info / "RECORD").write_text(record + f"{info.name}/METADATA,,\n")
    return PathDistribution(info)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "mlx" / "lib").mkdir(parents=True)
    (tmp_path / "mlx" / "lib" / "libmlx.so").write_bytes(LIBRARY)
    return tmp_path


def test_one_back_end_in_place(site: Path) -> None:
    wheels = {"mlx": install(site, "mlx"), "mlx-cpu": install(site, "mlx-cpu", size=len(LIBRARY))}
    assert list(check_wheels(wheels)) == [
        WheelVerdict("mlx", True, "0.32.4"),
        WheelVerdict("mlx-cpu", True, "0.32.4"),
    ]


def test_two_back_ends_overwrite_each_other(site: Path) -> None:
    wheels = {
        "mlx": install(site, "mlx"),
        "mlx-cpu": install(site, "mlx-cpu", size=7),
        "mlx-cuda-12": install(site, "mlx-cuda-12", size=len(LIBRARY)),
    }
    found = {verdict.name: verdict for verdict in check_wheels(wheels)}
    assert found["mlx-cuda-12"].ok
    assert found["mlx-cpu"].detail == (
        "0.32.4, but its libmlx.so was overwritten by another wheel's; "
        "pip install --force-reinstall --no-deps mlx-cpu==0.32.4"
    )
    assert found["wheels"].detail == (
        "mlx-cpu and mlx-cuda-12 overwrite each other's files\n"
        "pip uninstall -y mlx mlx-cpu mlx-cuda-12\n"
        "and install one of zmlx[cpu], zmlx[cuda12] and zmlx[cuda13]"
    )
    assert not found["wheels"].ok


def test_a_library_that_another_uninstall_took_away(site: Path) -> None:
    (site / "mlx" / "lib" / "libmlx.so").unlink()
    wheels = {"mlx": install(site, "mlx"), "mlx-cpu": install(site, "mlx-cpu", size=7)}
    assert [(v.ok, v.detail) for v in check_wheels(wheels)] == [
        (True, "0.32.4"),
        (
            False,
            "0.32.4, but its libmlx.so is gone; pip install --force-reinstall --no-deps mlx-cpu==0.32.4",
        ),
    ]


def test_versions_must_match(site: Path) -> None:
    wheels = {"mlx": install(site, "mlx"), "mlx-cpu": install(site, "mlx-cpu", "0.31.0", size=len(LIBRARY))}
    verdict = list(check_wheels(wheels))[-1]
    assert (verdict.ok, verdict.detail) == (False, "0.31.0 beside mlx 0.32.4; pip install mlx-cpu==0.32.4")


def test_nothing_installed_is_nothing_to_judge() -> None:
    assert list(check_wheels({})) == []


def test_the_installed_wheels_are_whole() -> None:
    wheels = installed_wheels()
    assert "mlx" in wheels
    assert all(verdict.ok for verdict in check_wheels(wheels))
