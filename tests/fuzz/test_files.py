"""Damaged files, the same ones every time: an error of the user's in one line, or the right result."""

import pytest

from tests.fuzz.files import judged_files


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 600, 150))
def test_damaged_files(first: int) -> None:
    found = judged_files(range(first, first + 150))
    assert not [
        (file.seed, verdict.text) for file, verdict in found if verdict.failed or verdict.kind == "wording"
    ]


def test_damaged_files_that_were_crashes() -> None:
    found = judged_files([1995, 3965, 5008])
    assert [verdict.kind for _, verdict in found] == ["refused"] * 3


def test_a_zero_point_of_many_elements_for_one_scale_ends_in_one_line() -> None:
    ((_, verdict),) = judged_files([3004176])
    assert verdict.kind == "refused", verdict
