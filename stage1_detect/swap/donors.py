"""Choose for each photo the other photo whose room its head is set into.

Each choice depends on the seed, the number of the draw and the key alone, by rendezvous hashing
(Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): every candidate
gets a random number from its name and the chooser's, and the largest wins. So further draws change
no earlier ones, and a photo that comes or goes changes few choices. Knows names; knows no pixels,
and takes strata as they come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEAST_OTHERS = 2
"""Smallest number of other people whose rooms a photo may get: with a single one, every head of a
person would be in the same rooms, whatever the seed."""

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Candidate:
    """A photo whose room may be lent."""

    key: str
    person: str
    stratum: str | None
    """Class of the photo as an opaque word; None if it is unknown."""


class Donors:
    """The photos that lend their rooms, by stratum and person."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        """Sort the candidates; those without a stratum count only where no photo has one."""
        given = sorted(candidates, key=lambda each: each.key)
        known = [each for each in given if each.stratum is not None] or given
        groups: dict[str, dict[str, list[str]]] = {}
        for each in known:
            groups.setdefault(each.stratum or "", {}).setdefault(each.person, []).append(each.key)
        self._people = {each.person for each in known}
        self._strata = _Names(groups)
        self._people_of = {stratum: _Names(people) for stratum, people in groups.items()}
        self._keys_of = {
            (stratum, person): _Names(keys)
            for stratum, people in groups.items()
            for person, keys in people.items()
        }

    def choose(self, key: str, person: str, *, seed: int, draw: int) -> str | None:
        """Choose a stratum, in it a person, and of them a photo, each uniformly.

        Args:
            key: the photo that gets the room.
            person: person in the photo, whose own rooms are not chosen.
            seed: of all choices.
            draw: number of the draw.

        Returns:
            Key of the donor; None if fewer than `LEAST_OTHERS` other people have a room to lend.
        """
        if len(self._people) - (person in self._people) < LEAST_OTHERS:
            return None
        chooser = _hash(f"{seed} {draw} {key}")
        for stratum in self._strata.ranked(chooser):
            for other in self._people_of[stratum].ranked(chooser):
                if other != person:
                    return next(self._keys_of[stratum, other].ranked(chooser))
        return None


class _Names:
    """Names with their hashes, which a chooser ranks at random."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._hashes = np.array([_hash(name) for name in self._names], np.uint64)

    def ranked(self, chooser: int) -> Iterator[str]:
        """Yield the names in the order of this chooser, the first one without sorting the rest."""
        numbers = _mix(self._hashes ^ np.uint64(chooser))
        first = int(numbers.argmax())
        yield self._names[first]
        for index in np.argsort(numbers)[::-1].tolist():
            if index != first:
                yield self._names[index]


def _hash(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _mix(values: Hashes) -> Hashes:
    """Return 64 random bits for each value: the finalizer of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def people_of(groups: Mapping[str, str | None]) -> dict[str, str]:
    """Return key -> person; a photo of an unknown person counts as a person of its own.

    Args:
        groups: key -> person, None if unknown.
    """
    return {
        key: f"photo {key}" if group is None else f"person {group}" for key, group in groups.items()
    }
