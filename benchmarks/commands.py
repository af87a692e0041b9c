"""How long the README's commands take from a fresh clone, the installation apart.

    python benchmarks/commands.py --out benchmarks/results/commands.json

Clones the last commit into an empty folder and runs there: the installation (packages may come from pip's cache), `make
lint`, `make test`, `make demo`, and `make demo` again.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from record import write_result

COMMANDS = {
    "install": "make .venv/.ready",
    "make lint": "make lint",
    "make test": "make test",
    "make demo": "make demo",
    "make demo again": "make demo",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "rgc"
        subprocess.run(["git", "clone", "--quiet", str(Path(__file__).parent.parent), str(clone)], check=True)
        for name, command in COMMANDS.items():
            started = time.monotonic()
            subprocess.run(command, shell=True, check=True, cwd=clone)
            seconds[name] = round(time.monotonic() - started, 1)
    for name, taken in seconds.items():
        print(f"{name:<16} {taken:8.1f} s")
    if arguments.out:
        write_result(arguments.out, [0], {"seconds": seconds})


if __name__ == "__main__":
    main()
