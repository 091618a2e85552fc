"""Golden values: the file's form and everything that can be wrong with it, recording, comparing."""

import dataclasses
import datetime
import json
import math
import os
import runpy
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from zmlx import _compat
from zmlx.launch import metal_kernel
from zmlx.testing.golden import checksum
from zmlx.testing.golden import run as golden
from zmlx.testing.golden.case import GoldenCase
from zmlx.testing.golden.catalogue import Catalogue
from zmlx.testing.golden.comparison import Pending
from zmlx.testing.golden.file import GoldenError, GoldenFile
from zmlx.testing.golden.summary import summary_lines
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.tolerance import Tolerance, round_to


def samples(rng):
    yield SampleInput("small", (rng("small").normal((3, 4)),))
    yield SampleInput("big", (rng("big").normal((50, 50)),))


def stock(name="stock.exp", op=mx.exp, oracle=np.exp, **changes):
    fields = {"samples": samples, "source": "its definition", "kernel": False, "golden_samples": ("small",)}
    return OpInfo(name, op, oracle, **{**fields, **changes})


def square_with(source):
    kernel = metal_kernel(name="golden_square", input_names=["x"], output_names=["out"], source=source)

    def square(x):
        return kernel(
            inputs=[x],
            output_shapes=[x.shape],
            output_dtypes=[x.dtype],
            grid=(x.size, 1, 1),
            threadgroup=(min(x.size, 32), 1, 1),
        )[0]

    return stock("made.square", square, lambda x: x * x, kernel=True, dtypes=("float32",))


SQUARE = square_with("uint i = thread_position_in_grid.x; out[i] = x[i] * x[i];")
OTHER_SQUARE = square_with(
    "uint i = thread_position_in_grid.x; T v = x[i]; out[i] = v * v;".replace("T", "auto")
)
ARGMAX = stock(
    "stock.argmax",
    lambda x: mx.argmax(x, axis=-1),
    lambda x: np.argmax(x, axis=-1),
    dtypes=("float32",),
    out_dtype=lambda dtype: "uint32",
)
OPS = (stock(), ARGMAX, SQUARE)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A directory with cpu.json of OPS; do not change it."""
    directory = tmp_path_factory.mktemp("golden")
    golden.record("cpu", directory, ops=OPS)
    return directory


@pytest.fixture
def values(recorded, tmp_path):
    """A copy of `recorded` to play with."""
    (tmp_path / "cpu.json").write_bytes((recorded / "cpu.json").read_bytes())
    return tmp_path


def edit(path, change):
    """Change the JSON and give it a right checksum again: what a careful cheater would do."""
    raw = json.loads(path.read_text())
    change(raw)
    for name, case in raw["cases"].items():
        environment = {**raw["environment"], **case.get("environment", {})}
        case["checksum"] = checksum.of_case(raw["backend"], name, environment, case)
    path.write_text(json.dumps(raw))


def kinds(comparison):
    return sorted({finding.kind for finding in comparison.findings})


# The file


def test_text_of_a_file():
    case = GoldenCase.from_array(
        round_to([[0.1, -0.0, np.nan], [np.inf, -np.inf, 3.0]], "bfloat16"),
        "bfloat16",
        input_hash="abc",
        source_hash="def",
        max_ulp=0.51234,
        rms=math.inf,
    )
    text = GoldenFile(
        "cpu", {"mlx": "1.2", "date": "2026-01-01"}, {"b": case, "a": GoldenCase("int32", (1,), (7,))}
    )
    assert text.dumps().splitlines() == [
        "{",
        '  "schema": 3,',
        '  "backend": "cpu",',
        '  "environment": {',
        '    "date": "2026-01-01",',
        '    "mlx": "1.2"',
        "  },",
        '  "cases": {',
        '    "a": {',
        '      "dtype": "int32",',
        '      "shape": [1],',
        f'      "checksum": "{text.checksum("a")}",',
        '      "values": [7]',
        "    },",
        '    "b": {',
        '      "dtype": "bfloat16",',
        '      "shape": [2, 3],',
        '      "input_hash": "abc",',
        '      "source_hash": "def",',
        '      "error": {"max_ulp": 0.5123, "rms": "inf"},',
        f'      "checksum": "{text.checksum("b")}",',
        '      "values": [0.1, -0.0, "nan", "inf", "-inf", 3.0]',
        "    }",
        "  }",
        "}",
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_values_survive_the_file_bit_for_bit(tmp_path, dtype):
    numbers = np.concatenate([np.geomspace(1e-45, 1e38, 300), [0.0, -0.0, np.nan, np.inf, -np.inf]])
    array = round_to(numbers * np.where(np.arange(305) % 2, -1, 1), dtype).reshape(5, 61)
    path = tmp_path / "cpu.json"
    golden.save(GoldenFile("cpu", {}, {"x": GoldenCase.from_array(array, dtype)}), path)
    again = golden.load(path).cases["x"].array()
    assert np.array_equal(again, array, equal_nan=True)
    assert np.array_equal(
        np.signbit(again), np.signbit(array) & ~np.isnan(array) | np.signbit(again) & np.isnan(array)
    )


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "uint64"])
def test_integers_survive_the_file(dtype):
    array = (
        np.array([[0, 1], [1, 0]]).astype(dtype)
        if dtype == "bool"
        else np.array([0, np.iinfo(dtype).max], dtype)
    )
    case = GoldenCase.from_json(json.loads(json.dumps(GoldenCase.from_array(array, dtype).to_json())))
    assert np.array_equal(case.array(), array)
    assert case.array().dtype == array.dtype


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "sub" / "cpu.json"
    golden.save(GoldenFile("cpu"), path)
    before = path.read_bytes()

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(
        GoldenError, match=r"Cannot write .*cpu\.json: No space left on device\. Nothing was recorded"
    ):
        golden.save(GoldenFile("cpu", {}, {"a": GoldenCase("int32", (1,), (7,))}), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["cpu.json"]


# What can be wrong with a file

SMALL = GoldenFile(
    "cpu", {"mlx": "1"}, {"a": GoldenCase("float32", (2,), (1e-05, 2.5), "in", "src", 0.5, 0.2)}
)
TEXT = SMALL.dumps()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (TEXT[:-4], "is truncated: it ends in line"),
        (TEXT[: TEXT.index("1e-05") + 2], "is truncated"),
        (TEXT[: TEXT.index("checksum") + 20], "is truncated"),
        ("hello", "is not JSON: Expecting value in line 1, column 1"),
        (TEXT.replace('"shape":', '"shape"'), r"is not JSON: Expecting ':' delimiter in line 10, column"),
        ("[]", "is not a golden file: expected schema, backend, environment, cases, got a list"),
        ('{"schema": 1, "a": 2}', "is not a golden file: expected .*, got schema, a"),
        (
            TEXT.replace('"schema": 3', '"schema": 4'),
            "has schema 4; this zmlx reads schema 1 to 3. Use the zmlx that wrote",
        ),
        (TEXT.replace('"schema": 3', '"schema": true'), "has schema True"),
        (
            TEXT.replace('"backend": "cpu"', '"backend": "cpv"'),
            "is of back end 'cpv'; expected one of metal, cuda, cpu",
        ),
        (
            TEXT.replace('"backend": "cpu"', '"backend": "cuda"'),
            "holds values of 'cuda', expected 'cpu': it was renamed",
        ),
        (
            TEXT.replace("2.5", "2.6"),
            r"case a: the case does not match its checksum\. A value or where it comes from was changed by hand",
        ),
        (TEXT.replace('"src"', '"srd"'), "does not match its checksum"),
        (
            TEXT.replace("1e-05", "1E-05"),
            r"was edited: the number 1E-05 is not written as zmlx writes it \(1e-05\)",
        ),
        (TEXT.replace("2.5", "NaN"), "was edited: NaN is not JSON"),
        (TEXT.replace('"mlx": "1"', '"mlx": "1", "mlx": "2"'), "was edited: the key 'mlx' appears twice"),
        (b"\xff\xfe", "is not text: invalid start byte at byte 0"),
    ],
)
def test_a_damaged_file_is_refused_with_its_own_message(tmp_path, text, message):
    path = tmp_path / "cpu.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(GoldenError, match=message) as error:
        golden.load(path)
    assert str(path) in str(error.value)
    assert "record it again" in str(error.value).lower()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("values", [1.0], r"case a: shape \[2\] needs 2 values"),
        ("values", [1.0, "two"], "case a: 'two' is not a float32 value"),
        ("values", [1.0, True], "case a: True is not a float32 value"),
        ("dtype", "float8", "case a: unknown dtype 'float8'"),
        ("shape", [-2], r"case a: bad shape \[-2\]"),
        ("error", {"max": 1}, "case a: bad error figures"),
        ("error", {"rms": "much"}, "case a: bad error figure 'much'"),
        ("colour", "red", "case a: expected an object with dtype, shape and values"),
    ],
)
def test_a_malformed_case_is_refused_even_with_a_right_checksum(tmp_path, key, value, message):
    path = tmp_path / "cpu.json"
    path.write_text(TEXT)
    edit(path, lambda raw: raw["cases"]["a"].update({key: value}))
    with pytest.raises(GoldenError, match=message):
        golden.load(path)


def test_every_flipped_bit_of_a_value_is_noticed(tmp_path):
    path = tmp_path / "cpu.json"
    start = TEXT.index('"values": [') + len('"values": [')
    for position in range(start, TEXT.index("]", start)):
        for bit in range(7):
            flipped = bytearray(TEXT.encode())
            flipped[position] ^= 1 << bit
            if chr(flipped[position]).isspace() and TEXT[position].isspace():
                continue  # another kind of white space between two values changes none of them
            path.write_bytes(flipped)
            with pytest.raises(GoldenError):
                golden.load(path)


def test_unreadable_places(tmp_path):
    with pytest.raises(
        GoldenError, match=r"cpu\.json does not exist\. Record it on that back end: python -m zmlx"
    ):
        golden.load(tmp_path / "cpu.json")
    (tmp_path / "cpu.json").mkdir()
    with pytest.raises(GoldenError, match=r"cpu\.json is a folder; move it out of the way\."):
        golden.load(tmp_path / "cpu.json")
    with pytest.raises(
        GoldenError, match=r"The golden directory .*nowhere does not exist\. Record values with"
    ):
        golden.compare_recorded(tmp_path / "nowhere", ops=OPS)
    (tmp_path / "file").write_text("")
    with pytest.raises(GoldenError, match=r"file is not a directory; name the one that holds cpu\.json"):
        golden.compare_recorded(tmp_path / "file", ops=OPS)


def test_a_directory_that_may_not_be_read(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(
        GoldenError, match=r"Cannot read the golden directory .*: Permission denied\. Check its perm"
    ):
        golden.compare_recorded(tmp_path, ops=OPS)


# Recording


def test_recording_writes_what_was_computed(recorded):
    file = golden.load(recorded / "cpu.json")
    assert sorted(file.cases) == [
        "made.square/float32/small",
        "stock.argmax/float32/small",
        "stock.exp/bfloat16/small",
        "stock.exp/float16/small",
        "stock.exp/float32/small",
    ]
    x = stock().sample_inputs()[0].cast("bfloat16").args[0]
    case = file.cases["stock.exp/bfloat16/small"]
    assert np.allclose(case.array(), np.exp(x), rtol=1e-2)
    assert case.source_hash == "mlx"
    assert 0 < case.max_ulp < 1.5
    assert len(file.cases["made.square/float32/small"].source_hash) == 64
    assert file.cases["stock.argmax/float32/small"].dtype == "uint32"
    assert set(file.environment) >= {"date", "device", "architecture", "mlx", "os", "python", "tf32", "zmlx"}
    assert file.environment["tf32"] == "0"


def test_recording_again_gives_the_same_bytes(recorded, values):
    done = golden.record("cpu", values / "cpu.json", ops=OPS)
    assert (values / "cpu.json").read_bytes() == (recorded / "cpu.json").read_bytes()
    assert (done.added, done.changed, done.removed) == ((), (), ())
    assert done.summary().endswith("0 added, 0 changed, 0 removed, 5 as before")


def test_recording_says_what_changed(values):
    edit(
        values / "cpu.json", lambda raw: raw["cases"]["stock.exp/float32/small"]["values"].__setitem__(0, 7.0)
    )
    done = golden.record("cpu", values, ops=[stock("stock.exp"), stock("stock.log", lambda x: mx.exp(x))])
    assert done.changed == ("stock.exp/float32/small",)
    assert done.added == tuple(f"stock.log/{d}/small" for d in ("bfloat16", "float16", "float32"))
    assert done.removed == ("made.square/float32/small", "stock.argmax/float32/small")


def test_recording_replaces_a_damaged_file(values):
    (values / "cpu.json").write_text("{")
    assert len(golden.record("cpu", values, ops=OPS).added) == 5


def test_recording_shows_progress(tmp_path):
    seen = []
    golden.record("cpu", tmp_path, ops=[ARGMAX, stock()], progress=lambda *step: seen.append(step))
    assert seen[0] == (0, 4, "stock.argmax/float32/small")
    assert seen[-1] == (3, 4, "stock.exp/bfloat16/small")


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (
            stock(oracle=lambda x: np.exp(x) + 1),
            r"Not recorded, for it is wrong\. stock\.exp/float32/small on cpu: 12 of",
        ),
        (
            stock(kernel=True),
            r"stock\.exp/float32/small: no kernel ran on cpu \(no launch\); a fallback took its place",
        ),
        (stock(op=lambda x: (x, x)), "stock.exp/float32/small: 2 results, the oracle has 1"),
        (stock(oracle=lambda x: (x, x)), "stock.exp/float32/small:0: 1 results, the oracle has 2"),
        (stock(golden_samples=()), "There is no golden case for cpu: no OpInfo names golden_samples"),
    ],
)
def test_what_must_not_be_recorded_is_not(tmp_path, op, message):
    with pytest.raises(GoldenError, match=message):
        golden.record("cpu", tmp_path, ops=[op])
    assert not os.listdir(tmp_path)


def test_a_back_end_that_is_not_here_cannot_be_recorded(tmp_path):
    missing = next(b for b in ("cuda", "metal") if not _compat.availability()[b].available)
    with pytest.raises(_compat.BackendUnavailableError, match=f"{missing} is not available here"):
        golden.record(missing, tmp_path, ops=OPS)
    assert not os.listdir(tmp_path)


def test_recording_leaves_device_and_environment_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("MLX_ENABLE_TF32", raising=False)
    before = mx.default_device()
    golden.record("cpu", tmp_path, ops=[ARGMAX])
    assert mx.default_device() == before
    assert "MLX_ENABLE_TF32" not in os.environ


# Comparing


def test_live_values_agree_with_those_just_recorded(recorded):
    comparison = golden.compare_live(recorded, backend="cpu", ops=OPS)
    assert comparison.ok, summary_lines(comparison)
    pairs = {(p.subject, p.against): p for p in comparison.pairs()}
    assert list(pairs) == [("live", "oracle"), ("live", "cpu"), ("cpu", "oracle")]
    assert pairs["live", "cpu"].identical == pairs["live", "cpu"].cases == 5
    assert pairs["live", "cpu"].worst.max_ulp == 0
    assert pairs["live", "oracle"].worst.max_ulp == pairs["cpu", "oracle"].worst.max_ulp > 0


def test_the_summary_says_that_the_oracle_stands_in_for_metal(recorded):
    lines = summary_lines(golden.compare_live(recorded, backend="cpu", ops=OPS))
    assert lines[0] == "reference: the float64 oracle, until a Mac has recorded metal.json"
    assert lines[1].split() == ["compared", "cases", "identical", "max", "ULP"]
    assert lines[3].startswith("live cpu with cpu.json      5          5        0")
    assert lines[-1] == "golden values agree: 15 comparisons, nothing outside its tolerance"


def as_backend(values, backend, change=lambda raw: None):
    """A file of another back end for a test, made from cpu.json."""
    raw = json.loads((values / "cpu.json").read_text())
    raw["backend"] = backend
    path = values / f"{backend}.json"
    path.write_text(json.dumps(raw))
    edit(path, change)


def test_metal_is_the_reference_once_it_is_there(values):
    as_backend(values, "metal")
    comparison = golden.compare_recorded(values, ops=OPS)
    assert comparison.ok
    assert comparison.reference == "metal"
    assert summary_lines(comparison)[0].startswith("reference: metal.json")


def test_recorded_files_are_compared_without_running_anything(values, monkeypatch):
    as_backend(values, "cuda")
    monkeypatch.setattr("zmlx.testing.golden.checks.measure", None)
    comparison = golden.compare_recorded(values, ops=OPS)
    assert comparison.ok, summary_lines(comparison)
    assert comparison.live_backend == ""
    assert {(p.subject, p.against) for p in comparison.pairs()} == {
        ("cuda", "oracle"),
        ("cpu", "oracle"),
        ("cpu", "cuda"),
    }


def test_drift_between_two_files(values):
    def shift(raw):
        case = raw["cases"]["made.square/float32/small"]
        case["values"][0] = float(np.nextafter(np.float32(case["values"][0]), np.float32(np.inf)))

    as_backend(values, "cuda", shift)
    results = {r.case: r for r in golden.compare_files(values / "cuda.json", values / "cpu.json", ops=OPS)}
    assert len(results) == 5
    assert results["made.square/float32/small"].max_ulp == 1
    assert not results["made.square/float32/small"].identical
    assert results["stock.exp/float16/small"].identical


def test_files_without_a_common_case_cannot_be_compared(values):
    as_backend(values, "cuda", lambda raw: raw["cases"].clear())
    with pytest.raises(GoldenError, match=r"have no case in common\. Record both from the same sources"):
        golden.compare_files(values / "cuda.json", values / "cpu.json", ops=OPS)


CASE = "stock.exp/float32/small"
SQUARE_CASE = "made.square/float32/small"


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        (lambda c: c.pop(CASE), ["missing"], f"cpu.json lacks case {CASE}; record it again"),
        (
            lambda c: c.update({"stock.sin/float32/a": dict(c[CASE])}),
            ["extra"],
            "cpu.json has, and op_db has not, the case stock.sin/float32/a; record",
        ),
        (
            lambda c: c[CASE].update(input_hash="0"),
            ["stale input"],
            f"cpu.json was recorded from other inputs than today's: case {CASE}; did you mean",
        ),
        (
            lambda c: c[SQUARE_CASE].update(source_hash="0"),
            ["stale source"],
            f"from another kernel source than today's: case {SQUARE_CASE}; did you mean to change it? If so",
        ),
        (
            lambda c: c[SQUARE_CASE].pop("source_hash"),
            ["stale source"],
            f"from another kernel source than today's: case {SQUARE_CASE}; did you mean to change it? If so",
        ),
        (lambda c: c[CASE].update(dtype="float16"), ["dtype"], f"cpu: {CASE} is float16, expected float32"),
        (lambda c: c[CASE].update(shape=[4, 3]), ["shape"], f"{CASE} has shape (4, 3), expected (3, 4)"),
        (
            lambda c: c[CASE]["values"].__setitem__(5, 9.0),
            ["error figure", "values"],
            "worst element [1, 1]: got 9",
        ),
        (lambda c: c[CASE]["values"].__setitem__(5, "nan"), ["error figure", "values"], "got nan, expected"),
        (
            lambda c: c[CASE]["error"].update(max_ulp=9.0),
            ["error figure"],
            "says its max_ulp is 9, but its values",
        ),
        (lambda c: c[CASE].pop("error"), ["error figure"], "says its rms is None, but its values have"),
    ],
)
def test_what_is_wrong_with_a_recorded_case_is_found(values, change, expected, message):
    edit(values / "cpu.json", lambda raw: change(raw["cases"]))
    comparison = golden.compare_recorded(values, ops=OPS)
    assert not comparison.ok
    assert kinds(comparison) == expected
    text = "\n".join([*summary_lines(comparison), *(finding.message for finding in comparison.findings)])
    assert message in text
    assert f"golden values do not agree: {len(comparison.findings)} finding" in text


def test_many_missing_cases_are_one_finding(values):
    edit(values / "cpu.json", lambda raw: raw["cases"].clear())
    (finding,) = golden.compare_recorded(values, ops=OPS).findings
    assert finding.message == (
        "cpu.json lacks 5 cases made.square/float32/small, stock.argmax/float32/small, "
        "stock.exp/bfloat16/small and 2 more; record it again: python -m zmlx golden record --backend cpu"
    )


def lacking(values, backend="cuda"):
    """Values of another back end that lack two cases."""
    as_backend(values, backend, lambda raw: [raw["cases"].pop(name) for name in (CASE, SQUARE_CASE)])


@pytest.fixture
def no_gpu(monkeypatch):
    """This machine has the CPU only, whatever it has."""
    here = {name: _compat.Availability(name == "cpu", "made up") for name in _compat.BACKENDS}
    monkeypatch.setattr(_compat, "availability", lambda: here)


@pytest.mark.usefixtures("no_gpu")
def test_what_nobody_with_the_hardware_has_recorded_is_pending(values):
    lacking(values)
    until = datetime.date(2100, 1, 1)
    for comparison in (
        golden.compare_recorded(values, ops=OPS, pending_until=until),
        golden.compare_live(values, backend="cpu", ops=OPS, pending_until=until),
    ):
        assert comparison.ok, summary_lines(comparison)
        assert comparison.pending == (Pending("cuda", (SQUARE_CASE, CASE), until),)
        lines = summary_lines(comparison)
        assert (
            f"pending: 2 cases that no one with cuda has recorded yet (until 2100-01-01, no failure): {SQUARE_CASE}, "
            f"{CASE}; on such a machine: python -m zmlx golden record --backend cuda"
        ) in lines
        assert lines[-1].endswith("; 2 cases pending")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("days", "overdue"), [(-1, True), (0, True), (1, False)])
def test_pending_ends_on_its_day(values, days, overdue):
    lacking(values)
    until = datetime.date.today() + datetime.timedelta(days=days)
    comparison = golden.compare_recorded(values, ops=OPS, pending_until=until)
    assert comparison.ok is not overdue
    if overdue:
        assert comparison.pending == ()
        assert comparison.findings[0].message.startswith(
            f"cuda.json (pending until {until}, which has come) lacks 2 cases {SQUARE_CASE}, {CASE}; record it again"
        )


@pytest.mark.usefixtures("no_gpu")
def test_without_a_date_pending_never_ends(values):
    lacking(values)
    assert golden.compare_recorded(values, ops=OPS).pending[0].until is None


def test_nothing_is_pending_for_a_back_end_at_hand(values, monkeypatch):
    lacking(values)
    here = {name: _compat.Availability(True, "here") for name in _compat.BACKENDS}
    monkeypatch.setattr(_compat, "availability", lambda: here)
    comparison = golden.compare_recorded(values, ops=OPS, pending_until=datetime.date(2100, 1, 1))
    assert comparison.pending == ()
    assert comparison.findings[0].message == (
        f"cuda.json lacks 2 cases {SQUARE_CASE}, {CASE}; record it again: "
        "python -m zmlx golden record --backend cuda"
    )


def test_one_kernel_is_recorded_and_the_others_stay(values, monkeypatch):
    path = values / "cpu.json"
    edit(path, lambda raw: raw["cases"].pop(SQUARE_CASE))
    before = golden.load(path)
    monkeypatch.setattr(
        golden,
        "describe_environment",
        lambda backend: {**before.environment, "device": "another", "os": "Plan 9"},
    )
    recording = golden.record("cpu", path, ops=OPS, kernel="square")
    assert (recording.added, recording.changed, recording.removed) == ((SQUARE_CASE,), (), ())
    after = golden.load(path)
    assert after.environment == before.environment
    assert after.cases[SQUARE_CASE].environment == {"device": "another", "os": "Plan 9"}
    assert {name: case for name, case in after.cases.items() if name != SQUARE_CASE} == before.cases
    assert golden.compare_live(values, backend="cpu", ops=OPS).ok
    again = golden.record("cpu", path, ops=OPS)
    assert not any(case.environment for case in again.file.cases.values())


def test_a_kernel_that_is_not_there_is_not_recorded(values):
    with pytest.raises(
        ValueError,
        match=r"^No operation with golden cases matches 'cube'\. Known: stock\.exp, stock\.argmax, made",
    ):
        golden.record("cpu", values, ops=OPS, kernel="cube")


def test_one_kernel_is_not_recorded_into_a_damaged_file(values):
    (values / "cpu.json").write_text("{")
    with pytest.raises(GoldenError, match="is truncated"):
        golden.record("cpu", values, ops=OPS, kernel="square")


def test_an_edited_value_fails_the_live_comparison(values):
    path = values / "cpu.json"
    text = path.read_text()
    start = text.index('"values"', text.index(CASE)) + 12
    digit = next(i for i in range(start, len(text)) if text[i] in "123456789")
    path.write_text(text[:digit] + chr(ord(text[digit]) ^ 1) + text[digit + 1 :])
    comparison = golden.compare_live(values, backend="cpu", ops=OPS)
    assert not comparison.ok
    assert "does not match its checksum" in comparison.findings[0].message
    assert kinds(comparison) == ["file", "nothing"]


def test_a_kernel_whose_source_changed_is_stale(recorded):
    comparison = golden.compare_live(recorded, backend="cpu", ops=[stock(), ARGMAX, OTHER_SQUARE])
    assert kinds(comparison) == ["stale source"]


def test_the_source_hash_of_another_back_end_needs_no_hardware():
    (expected,) = Catalogue([SQUARE]).on("cpu").values()
    assert len({expected.source_hash(backend) for backend in ("metal", "cuda", "cpu")}) == 1


@pytest.mark.parametrize("file", [None, "registered-cpu.json"])
def test_nothing_recorded_is_a_failure(tmp_path, file):
    if file:
        (tmp_path / file).write_text("{}")
    comparison = golden.compare_live(tmp_path, backend="cpu", ops=OPS)
    assert not comparison.ok
    beside = f" ({file} holds what tests registered)" if file else ""
    assert comparison.findings[0].message.startswith(
        f"There is no usable golden file in {tmp_path}{beside}. Record one: "
    )


def test_nothing_compared_is_a_failure(tmp_path):
    golden.save(GoldenFile("cpu"), tmp_path / "cpu.json")
    comparison = golden.compare_live(tmp_path, backend="cpu", ops=[])
    assert not comparison.findings
    assert not comparison.ok
    assert summary_lines(comparison)[-1].startswith("nothing was compared, which is a failure")


def test_a_file_of_no_back_end_is_found(values):
    (values / "gpu.json").write_text("{}")
    comparison = golden.compare_recorded(values, ops=OPS)
    assert kinds(comparison) == ["file"]
    assert (
        "golden files are named metal.json, cuda.json, cpu.json; rename or remove it"
        in comparison.findings[0].message
    )


def test_a_damaged_file_does_not_hide_the_others(values):
    (values / "cuda.json").write_text("{")
    comparison = golden.compare_live(values, backend="cpu", ops=OPS)
    assert kinds(comparison) == ["file"]
    assert ("live", "cpu") in {(p.subject, p.against) for p in comparison.pairs()}


def test_a_live_value_outside_its_tolerance_is_found(recorded):
    wrong = dataclasses.replace(stock(), op=lambda x: mx.exp(x) * mx.array(1.05, x.dtype))
    comparison = golden.compare_live(recorded, backend="cpu", ops=[wrong, ARGMAX, SQUARE])
    assert "values" in kinds(comparison)
    assert {f.subject for f in comparison.findings} == {"live"}


def test_a_fallback_is_found(recorded):
    fallen = dataclasses.replace(SQUARE, op=lambda x: x * x)
    comparison = golden.compare_live(recorded, backend="cpu", ops=[stock(), ARGMAX, fallen])
    assert kinds(comparison) == ["fallback", "stale source"]
    assert "no kernel ran on cpu (no launch); a fallback took its place" in "\n".join(
        summary_lines(comparison)
    )


# The scripts


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr("zmlx.testing.op_db.op_db", OPS)

    def run(name, *args):
        monkeypatch.setattr(sys, "argv", [name, *args])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as done:
            runpy.run_path(str(Path(__file__).parents[2] / name), run_name="__main__")
        return done.value.code

    return run


def test_the_scripts_record_and_compare(script, tmp_path, capsys):
    place = ("--backend", "cpu", "--golden-dir", str(tmp_path))
    assert script("generate_golden_values.py", *place) == 0
    assert "5 cases on cpu" in capsys.readouterr().out
    assert script("compare_golden_values.py", *place) == 0
    assert "PASS: 1 kernel on cpu is within tolerance of the oracle" in capsys.readouterr().out
    edit(tmp_path / "cpu.json", lambda raw: raw["cases"].pop(CASE))
    assert script("compare_golden_values.py", *place) == 1
    assert f"FAIL missing: cpu.json lacks case {CASE}" in capsys.readouterr().out


# The ratchet and the tolerance between back ends


def noisy(steps):
    """exp that is off by some ULPs of float32, which its wide tolerance allows."""
    wide = {"float32": Tolerance(1e-2, 1e-2, reason="a test")}
    off = 1 + steps * 2.0**-23
    return stock(op=lambda x: mx.exp(x) * mx.array(off, x.dtype), dtypes=("float32",), tolerances=wide)


@pytest.mark.parametrize(
    ("before", "now", "device", "ok"),
    [
        (0, 0, "same", True),
        (10, 15, "same", True),
        (10, 40, "same", False),
        (0, 10, "same", False),
        (0, 1, "other", True),
        (0, 10, "other", False),
        (40, 0, "same", True),
    ],
)
def test_the_error_may_not_double(tmp_path, before, now, device, ok):
    golden.record("cpu", tmp_path, ops=[noisy(before)])
    if device == "other":
        edit(tmp_path / "cpu.json", lambda raw: raw["environment"].update(device="another"))
    comparison = golden.compare_live(tmp_path, backend="cpu", ops=[noisy(now)])
    assert comparison.ok is ok
    if not ok:
        assert kinds(comparison) == ["ratchet"]
        assert "more than twice what cpu.json has" in comparison.findings[0].message


def test_the_ratchet_holds_stock_operations_to_the_same_mlx_only(tmp_path):
    golden.record("cpu", tmp_path, ops=[noisy(0), SQUARE])
    edit(tmp_path / "cpu.json", lambda raw: raw["environment"].update(mlx="0.1"))
    assert golden.compare_live(tmp_path, backend="cpu", ops=[noisy(10), SQUARE]).ok
    edit(tmp_path / "cpu.json", lambda raw: raw["environment"].update(mlx=mx.__version__))
    assert not golden.compare_live(tmp_path, backend="cpu", ops=[noisy(10), SQUARE]).ok


def test_the_ratchet_is_for_the_same_back_end_only(values):
    os.remove(values / "cpu.json")
    golden.record("cpu", values, ops=[noisy(0)])
    as_backend(values, "cuda")
    os.remove(values / "cpu.json")
    comparison = golden.compare_live(values, backend="cpu", ops=[noisy(10)])
    # The file of the back end that ran is missing, which is no pass; the ratchet has nothing to say.
    assert kinds(comparison) == ["missing"]
    assert "no cpu.json, the file of the back end that ran: record it" in comparison.findings[0].message


def test_two_back_ends_may_be_two_budgets_apart():
    op = stock(tolerances={"float32": Tolerance(1e-6, 1e-6, max_ulp=3)})
    expected = Catalogue([op]).on("cpu")[CASE]
    assert expected.pair_tolerance == Tolerance(1e-6, 1e-6, max_ulp=6)
