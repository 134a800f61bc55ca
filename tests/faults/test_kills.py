"""A few of the kills that `python tests/faults/kills.py` does by the dozen."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from kills import kill_detect, kill_train, make_data


@pytest.mark.slow
def test_detect_and_train_killed_at_random_end_as_if_left_alone(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    for kill, seed in ((kill_detect, 1), (kill_train, 2)):
        result = kill(data, tmp_path, random.Random(seed), kills=2)
        assert result.kills == 2 and result.faults == []
