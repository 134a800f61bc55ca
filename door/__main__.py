"""`python -m cropfirst.door DIR`: check a bundle on its golden photos, with the runtime alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cropfirst.core.errors import BundleError
from cropfirst.door.bundle import Bundle
from cropfirst.door.check import check_golden


def main() -> None:
    """Print whether the bundle answers as at its export; the exit status is 1 if it does not."""
    parser = argparse.ArgumentParser(
        prog="python -m cropfirst.door", description="Check a bundle on its golden photos."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the bundle")
    folder = parser.parse_args().folder
    try:
        found = check_golden(Bundle.open(folder), folder)
    except BundleError as error:
        sys.exit(f"Error: {error}")
    print(f"{folder} {found}")
    sys.exit(1 if found.problems else 0)


if __name__ == "__main__":
    main()
