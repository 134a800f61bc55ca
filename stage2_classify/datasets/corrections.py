"""Corrections of labels: a CSV `key,group,field,was,value` laid over a data set.

A rule names a photo by its key or a person by the group, the fact, what it was (optional: the rule
holds only there) and what it is; an empty value clears it. A rule with neither key nor group is for
every photo with that value. Every rule sees the original labels, so two rules can swap two values.
A rule for a photo goes before one for its group, and that before one for all. Lines that start with
# are comments.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cropfirst import configs
from cropfirst.core.errors import DataError
from cropfirst.stage2_classify.datasets.sample import Fact, Problem, Sample
from cropfirst.stage2_classify.datasets.tables import as_fact, read_csv

_SHIPPED = Path(configs.__file__).parent / "corrections"


@dataclass(frozen=True)
class Rule:
    """A line of a corrections file."""

    key: str | None
    group: str | None
    field: str
    was: str | None
    value: str | None

    def __str__(self) -> str:
        who = f"group={self.group}" if self.group else "every photo"
        who = f"key={self.key}" if self.key else who
        return f"{who} {self.field}: {self.was or '*'} -> {self.value or '(none)'}"


@dataclass(frozen=True)
class CorrectionReport:
    """The effect of a corrections file."""

    source: str
    n_rules: int
    n_changed: int
    """Number of photos with at least one changed label."""
    unused: tuple[Rule, ...]
    """Rules that match no photo."""

    @property
    def summary(self) -> str:
        """Return one line for the console."""
        return (
            f"corrections {self.source}: {self.n_changed} photos changed by "
            f"{self.n_rules - len(self.unused)} of {self.n_rules} rules"
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return one problem about all rules that match no photo."""
        if not self.unused:
            return ()
        some = "; ".join(map(str, self.unused[:3])) + ("; ..." if len(self.unused) > 3 else "")
        text = f"{len(self.unused)} of {self.n_rules} corrections match no photo: {some}"
        return (Problem(self.source, text),)


def apply_corrections(
    samples: Sequence[Sample], source: str | Path
) -> tuple[tuple[Sample, ...], CorrectionReport]:
    """Return the samples with corrected labels, in the same order.

    Args:
        source: a CSV file, or the name of a shipped one (`contest`).

    Raises:
        DataError: no such file, a malformed rule, a field that no sample has, or two rules that
            contradict each other.
    """
    rules = read_rules(source)
    _check_fields(rules, samples)
    by_key, by_group = _index(rules, "key"), _index(rules, "group")
    for_all = [rule for rule in rules if rule.key is None and rule.group is None]
    used: set[Rule] = set()
    corrected = []
    for sample in samples:
        labels = dict(sample.labels)
        of_group = by_group.get(sample.group, []) if sample.group is not None else []
        for level in (for_all, of_group, by_key.get(sample.key, [])):
            matching = [rule for rule in level if _matches(rule, sample.labels)]
            used.update(matching)
            _lay_over(labels, matching, sample)
        changed = labels != dict(sample.labels)
        corrected.append(replace(sample, labels=labels) if changed else sample)
    n_changed = sum(new is not old for new, old in zip(corrected, samples, strict=True))
    unused = tuple(rule for rule in rules if rule not in used)
    return tuple(corrected), CorrectionReport(str(source), len(rules), n_changed, unused)


def read_rules(source: str | Path) -> tuple[Rule, ...]:
    """Read the rules of a corrections file, or of a shipped one by its name.

    Raises:
        DataError: no such file or name, or a malformed rule.
    """
    path = Path(source)
    if not path.is_file():
        path = _SHIPPED / f"{source}.csv"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in _SHIPPED.glob("*.csv"))) or "(none)"
        raise DataError(f"no corrections {str(source)!r}: wanted a CSV file or one of {shipped}")
    rows = read_csv(path, required=["field", "value"], comments=True).rows
    unknown = set(rows[0] if rows else ()) - {"key", "group", "field", "was", "value"}
    if unknown:
        raise DataError(
            f"{path}: unknown column {min(unknown)!r}; wanted key, group, field, was, value"
        )
    return tuple(_rule(row, f"{path}, row {index}") for index, row in enumerate(rows, start=1))


def _rule(row: Mapping[str, str | None], where: str) -> Rule:
    key, group, name = row.get("key"), row.get("group"), row["field"]
    if key is not None and group is not None:
        raise DataError(f"{where} must name a key or a group, and not both")
    if key is None and group is None and row.get("was") is None:
        raise DataError(
            f"{where} must name a key or a group, or, for a rule that holds for every photo, in "
            f"`was` the value that it replaces"
        )
    if name is None:
        raise DataError(f"{where} names no field")
    return Rule(key, group, name, row.get("was"), row["value"])


def _index(rules: Sequence[Rule], by: str) -> dict[str, list[Rule]]:
    index: dict[str, list[Rule]] = {}
    for rule in rules:
        name = rule.key if by == "key" else rule.group
        if name is not None:
            index.setdefault(name, []).append(rule)
    return index


def _matches(rule: Rule, labels: Mapping[str, Fact]) -> bool:
    if rule.was is None:
        return True
    value = labels.get(rule.field)
    return value is not None and (str(value) == rule.was or value == as_fact(rule.was))


def _lay_over(labels: dict[str, Fact], rules: Sequence[Rule], sample: Sample) -> None:
    chosen: dict[str, Rule] = {}
    for rule in rules:
        other = chosen.setdefault(rule.field, rule)
        if other.value != rule.value:
            raise DataError(
                f"two corrections contradict each other on {sample.key}: {other}; {rule}"
            )
    for name, rule in chosen.items():
        if rule.value is None:
            labels.pop(name, None)
        else:
            was_text = isinstance(sample.labels.get(name), str)
            labels[name] = rule.value if was_text else as_fact(rule.value)


def _check_fields(rules: Sequence[Rule], samples: Sequence[Sample]) -> None:
    known = {name for sample in samples for name in sample.labels}
    for rule in rules:
        if known and rule.field not in known:
            near = difflib.get_close_matches(rule.field, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise DataError(
                f"the correction {rule} names a field that no photo has{hint}: "
                f"the data set has {', '.join(sorted(known))}"
            )
