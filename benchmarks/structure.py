"""Print the size and the structure of a checkout: files, lines, folders, imports between them.

    python benchmarks/structure.py [ROOT] [--no-help-time]

ROOT is the root of a checkout, by default the one that this file is in. Needs the standard library
alone and imports nothing of the checkout, so that two checkouts can be compared. Only the last
figure, the time of `cropfirst --help`, starts the program, with the Python that runs this script.

A room is a folder with Python files. An arrow from one room to another means that a file of the
first imports a file of the second, at the top or within a function. For the circles, a file that
is beside subfolders is a room of its own: the settings of a stage are below its subfolders, and
the function that runs it is above them.
"""

from __future__ import annotations

import argparse
import ast
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = "cropfirst"
NOT_PRODUCT = ("tests", "docs", "benchmarks")
SKIPPED = ("build", "dist", "work")
HELP_RUNS = 5


def python_files(root: Path) -> list[Path]:
    """Return the Python files of a checkout, without hidden and built folders, sorted."""
    found = []
    for path in root.rglob("*.py"):
        folders = path.relative_to(root).parts[:-1]
        if not any(part.startswith(".") or part in SKIPPED for part in folders):
            found.append(path)
    return sorted(found)


def top_of(path: Path, root: Path) -> str:
    """Return the first folder of a file's path; `.` for a file in the root."""
    parts = path.relative_to(root).parts
    return parts[0] if len(parts) > 1 else "."


def count_lines(path: Path) -> int:
    """Return the number of lines of a file."""
    return len(path.read_bytes().splitlines())


def imported_names(path: Path) -> Iterator[str]:
    """Yield the dotted names below the package that a file imports."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == PACKAGE and rest:
                yield rest


def file_of(name: str, root: Path) -> Path | None:
    """Return the file behind a dotted name, which may end in a name within that file."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        base = root.joinpath(*parts[:end])
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return file
    return None


def file_arrows(files: list[Path], root: Path) -> dict[str, set[str]]:
    """Return file -> the files that it imports, as paths relative to the root."""
    arrows = {}
    for path in files:
        found = {file_of(name, root) for name in imported_names(path)} - {None, path}
        arrows[path.relative_to(root).as_posix()] = {
            file.relative_to(root).as_posix() for file in found if file is not None
        }
    return arrows


def joined(arrows: Mapping[str, set[str]], node_of: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the arrows between groups of files; those within a group are left out."""
    groups: dict[str, set[str]] = defaultdict(set)
    for file, others in arrows.items():
        groups[node_of[file]] |= {node_of[other] for other in others}
    return {group: others - {group} for group, others in groups.items()}


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in order:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], order[other])
        if lowest[node] == order[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(arrows):
        if node not in order:
            visit(node)
    return found


def help_seconds(root: Path) -> float:
    """Return the median time of `cropfirst --help` of this checkout."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PACKAGE).symlink_to(root.resolve(), target_is_directory=True)
        environment = {**os.environ, "PYTHONPATH": folder}
        command = [sys.executable, "-m", f"{PACKAGE}.cli", "--help"]
        times = []
        for _ in range(HELP_RUNS + 1):
            started = time.perf_counter()
            subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=True)
            times.append(time.perf_counter() - started)
    return statistics.median(times[1:])  # the first one may compile the files


def print_counts(title: str, files: list[Path], root: Path) -> None:
    """Print the number of files and of lines, for each top folder and in all."""
    counts, lines = Counter[str](), Counter[str]()
    for path in files:
        counts[top_of(path, root)] += 1
        lines[top_of(path, root)] += count_lines(path)
    print(f"\n{title:<20} {'files':>6} {'lines':>8}")
    for top in sorted(counts):
        print(f"  {top:<18} {counts[top]:>6} {lines[top]:>8}")
    print(f"  {'all':<18} {sum(counts.values()):>6} {sum(lines.values()):>8}")


def print_circles(title: str, found: list[list[str]]) -> None:
    """Print the number of circles, and each one's members."""
    print(f"circles of {title}: {len(found)}")
    for group in found:
        print(f"  {', '.join(group)}")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description="Print the size and structure of a checkout.")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--no-help-time", action="store_true", help="do not time cropfirst --help")
    options = parser.parse_args()
    root: Path = options.root.resolve()
    files = python_files(root)
    if not files:
        parser.error(f"there is no Python file in {root}: wanted the root of a checkout")
    product = [path for path in files if top_of(path, root) not in NOT_PRODUCT]
    print_counts("product", product, root)
    print_counts("tests", [path for path in files if top_of(path, root) == "tests"], root)

    print("\nlongest files of the product")
    lengths = {path: count_lines(path) for path in product}
    for path in sorted(product, key=lambda path: -lengths[path])[:10]:
        print(f"  {lengths[path]:>5}  {path.relative_to(root)}")
    if (root / "cli.py").is_file():
        print(f"lines of cli.py: {count_lines(root / 'cli.py')}")

    arrows = file_arrows(product, root)
    folders = {file: Path(file).parent.as_posix() for file in arrows}
    parents = {Path(folder).parent.as_posix() for folder in folders.values() if folder != "."}
    nodes = {file: file if folder in parents else folder for file, folder in folders.items()}
    between = joined(arrows, folders)
    print(f"\nrooms: {len(between)}, arrows between them: {sum(map(len, between.values()))}")
    print_circles("rooms", circles(joined(arrows, nodes)))
    print_circles("files", circles(arrows))
    if not options.no_help_time:
        print(f"\nseconds of --help, median of {HELP_RUNS}: {help_seconds(root):.2f}")


if __name__ == "__main__":
    main()
