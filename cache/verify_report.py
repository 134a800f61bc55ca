"""What `verify` says: a line a folder, and the first findings of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cropfirst.cache.verify import HARMLESS, Finding, FolderCheck
from cropfirst.core.console import say

SHOWN = 10
"""Findings of one kind and folder that are written out."""


def print_checks(checks: Sequence[FolderCheck], cache: Path, console: Console) -> int:
    """Print what was found; returns how many findings are not harmless."""
    for check in checks:
        place = check.folder.relative_to(cache).as_posix()
        crops = f", {check.crops} crops" if check.kind == "crops" else ""
        counts = Counter(finding.kind for finding in check.findings)
        text = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "all well"
        say(console, f"{place}: {check.rows} rows{crops}: {text}")
        if check.unseen:
            say(console, f"  {check.unseen} photos of the data set have no row yet: run detect")
        for kind in sorted(counts):
            _print_some([each for each in check.findings if each.kind == kind], console)
    return sum(finding.kind not in HARMLESS for check in checks for finding in check.findings)


def _print_some(findings: Sequence[Finding], console: Console) -> None:
    for finding in findings[:SHOWN]:
        say(console, f"  {finding.kind}: {finding.key or finding.where}: {finding.message}")
    if len(findings) > SHOWN:
        say(console, f"  and {len(findings) - SHOWN} more of this kind")
