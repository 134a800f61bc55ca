"""The page of a sweep shows names as they are: none of them is HTML."""

from __future__ import annotations

from cropfirst.stage2_classify.sweep.page import sweep_page

EVIL = '</script><script>alert("1")</script>'


def test_a_line_of_a_sweep_is_text() -> None:
    row = dict.fromkeys(
        ("macro_f1_mean", "macro_f1_sd", "macro_f1", "majority_f1", "diff", "diff_low", "diff_high",
         "epochs", "image_size", "n_params", "seconds")
    ) | {"line": EVIL, "is_baseline": True, "folds": 2, "folds_finished": 2}  # fmt: skip
    page = sweep_page(
        [row], title=EVIL, tasks=[EVIL], extra=[], baseline=EVIL, failures=[EVIL], notes=[EVIL],
        settings={EVIL: {EVIL: EVIL}, "other": {}},
    )  # fmt: skip
    assert page.count("<script") == 1 and "alert(" not in page.replace("alert(&#34;", "")
