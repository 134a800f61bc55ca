"""Lines of a sweep against each other: differences, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cropfirst.core.bootstrap import Interval
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.sweep.comparison import compare
from cropfirst.stage2_classify.sweep.scores import read_line


def test_identical_photos_of_a_person_do_not_narrow_the_interval(
    save_people: Callable[..., Path], schema: LabelSchema, tmp_path: Path
) -> None:
    """Drawing photos instead of people would halve the interval: sqrt(4) = 2."""

    def difference(photos: int, *, known: bool) -> Interval:
        lines = []
        for name, strength, seed in (("base", 0.5, 1), ("other", 1.0, 2)):
            run = save_people(
                tmp_path / f"{photos}{known}" / name,
                photos=photos,
                known=known,
                strength=strength,
                seed=seed,
            )
            lines.append(read_line(name, [run], schema, n_jobs=2, n_finished=2))
        return compare(lines, schema.task_names).differences["other"]

    one, four = difference(1, known=True), difference(4, known=True)
    assert one.value > 0 and four == one
    narrow = difference(4, known=False)
    ratio = (one.high - one.low) / (narrow.high - narrow.low)
    assert ratio == pytest.approx(2, abs=0.2)
