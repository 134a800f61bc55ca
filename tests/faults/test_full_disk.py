"""Some of the disks that `python tests/faults/full_disk.py` fills."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_disk import can_mount, try_sizes


@pytest.mark.slow
def test_a_full_or_read_only_disk_is_one_error_and_nothing_is_lost(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("NOT TESTED: full disks; this machine lets nobody mount (unshare -rm)")
    found = try_sizes(tmp_path, detect_kb=[60, 240], train_kb=[300, 2_000])
    assert [fault for each in found for fault in each["faults"]] == []
    assert [each["command"] for each in found] == [*["detect"] * 2, *["train"] * 2, "read-only"]
    assert all("No space left on device" in each["error"] for each in found[:-1])
