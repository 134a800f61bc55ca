"""A part of the corpus that `python tests/faults/broken_photos.py` writes in full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from broken_photos import Case, _picture_fault, corpus, picture, run_corpus


@pytest.mark.slow
def test_no_broken_photo_crashes_detect_or_ends_as_another_photos_row(tmp_path: Path) -> None:
    outcome = run_corpus(tmp_path, share=0.1, timeout=250)
    assert outcome.faults == []
    assert outcome.files > 300 and outcome.peak_mb < 4_000
    assert outcome.kinds["whole: decoded"] >= 8 and outcome.kinds["bomb: TooManyPixels"] >= 10


def test_the_whole_corpus_is_large_and_the_same_each_time() -> None:
    cases = corpus(0)
    assert len(cases) > 2_000 and len({case.name for case in cases}) == len(cases)
    assert [case.data for case in cases] == [case.data for case in corpus(0)]


def test_another_photos_picture_would_be_found() -> None:
    case = Case("a.png", b"", "whole", (40, 40, 40))
    crop = np.full((32, 32, 3), 127, np.uint8)
    crop[4:28] = np.asarray(picture(0).resize((32, 24)))
    assert _picture_fault(case, "detected", crop) is None
    crop[20:28] = 90
    assert _picture_fault(case, "detected", crop) == "shows another picture in 32% of its pixels"
    assert _picture_fault(case, "unreadable", None) == "a whole photo was refused"
