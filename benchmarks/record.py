"""A result file says how it came to be: command, date, machine, git revision and seeds beside the numbers."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:  # a machine without git can still run and print a benchmark
        return None
    return done.stdout.strip() or None


_REVISION = _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")  # of the code that is about to run


def write_result(path: Path, seeds: list[int], results: Any) -> None:
    """Write the results of this process's command with all that is needed to run it again."""
    record = {
        "command": shlex.join(["python", *_without_out(sys.argv)]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "git": _REVISION,
        "seeds": seeds,
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _without_out(arguments: list[str]) -> list[str]:
    """The arguments but for the place of the result, which is where this stands."""
    if "--out" not in arguments:
        return arguments
    place = arguments.index("--out")
    return arguments[:place] + arguments[place + 2 :]


def machine() -> dict[str, Any]:
    """Processor, number of usable cores, memory in GB, and the versions that decide over numbers."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
