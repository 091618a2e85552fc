"""This machine against the golden values of the project; what ``nox -s golden-cmp`` runs besides the report."""

import pytest

from zmlx.testing import session
from zmlx.testing.golden import run as golden
from zmlx.testing.golden.summary import summary_lines
from zmlx.testing.project import find_project

pytestmark = pytest.mark.golden


@pytest.fixture
def golden_dir(pytestconfig):
    return pytestconfig.stash[session.KEY].golden_dir


def test_recorded_values_are_complete_current_and_true(golden_dir):
    comparison = golden.compare_recorded(golden_dir, pending_until=find_project().pending_until)
    assert comparison.ok, "\n".join(summary_lines(comparison))


def test_live_values_agree_with_oracle_and_files(golden_dir, backend, mx_device, record_error):
    comparison = golden.compare_live(golden_dir, backend=backend, pending_until=find_project().pending_until)
    for result in comparison.results:
        if (result.subject, result.against) == ("live", "oracle"):
            record_error(result.op, result.dtype, result, result.case)
    assert comparison.ok, "\n".join(summary_lines(comparison))
