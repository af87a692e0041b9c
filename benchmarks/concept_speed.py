"""How fast captions become phrases, and in how much memory: the stage beside the bare parser in one process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memory import PeakMemory

WAYS = ("read", "pipe", "bare", "stage-0", "stage-1", "stage-2", "choose")
PART = 20_000  # captions of a part


def measure(
    captions: Path,
    parser: str,
    pipeline: str,
    scales: Sequence[int],
    ways: Sequence[str] = WAYS,
    alone: int | None = None,
) -> list[dict[str, Any]]:
    """One row a scale and way.

    'read' is the source stage; 'pipe' is spaCy's `nlp.pipe` alone (trained pipelines only), 'bare' the parser alone,
    both in one process; 'stage-N' is parse_captions with N Ray workers, 0 in place; 'choose' is extract_concepts.
    Every measurement is a process of its own, so that its peak memory is its own; a scale repeats the captions under
    other ids. alone: the largest scale for ways of one process, whose rate does not depend on it.
    """
    rows = []
    ways = [way for way in ways if way != "pipe" or parser == "spacy"]
    with tempfile.TemporaryDirectory() as scratch:
        for scale in scales:
            corpus = Path(scratch) / f"captions-{scale}.json"
            _repeat(captions, corpus, scale)
            for way in ways:
                if alone is not None and scale > alone and way in ("pipe", "bare", "stage-0"):
                    continue
                arguments = [str(corpus), str(Path(scratch) / f"store-{scale}"), way, parser, pipeline]
                command = [sys.executable, __file__, *arguments]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                row = {"scale": scale, "way": way, **json.loads(done.stdout.splitlines()[-1])}
                print(_line(row), flush=True)
                rows.append(row)
    return rows


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of the largest scale: rates over one process, start-up included and apart; of memory: the largest over the least.

    Start-up is the time until the first part is done, less the time that a part takes in place.
    """
    least, most = min(row["scale"] for row in rows), max(row["scale"] for row in rows)
    of = {(row["scale"], row["way"]): row for row in rows}
    rate = {way: of[scale, way]["captions_per_second"] for scale, way in sorted(of)}  # the largest scale is the last
    named = {}
    for base in ("pipe", "bare", "stage-0"):
        for way in ("stage-0", "stage-1", "stage-2"):
            if base != way and base in rate and (most, way) in of:
                named[f"captions/s, {way} at {most}x over {base}"] = rate[way] / rate[base]
        if base in rate and (most, "stage-2") in of:
            stage = of[most, "stage-2"]
            working = stage["seconds"] - stage["first_part_seconds"]
            steady = (stage["captions"] - stage["first_part_captions"]) / working if working else 0.0
            named[f"captions/s, stage-2 at {most}x after its first part over {base}"] = steady / rate[base]
    for way in ("read", "stage-0", "stage-1", "stage-2", "choose"):
        if (least, way) in of and (most, way) in of:
            small, large = (of[scale, way]["peak_process_mb"] for scale in (least, most))
            named[f"peak memory of a process, {way}, {most}x over {least}x"] = large / small
    return {name: round(value, 3) for name, value in named.items()}


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['captions']:>9,} captions  {row['way']:<8} {row['seconds']:8.1f} s  {row['captions_per_second']:>9,.0f} "
        f"captions/s  first part after {row['first_part_seconds']:5.1f} s  peak {row['peak_process_mb']:6,.0f} MB a "
        f"process, {row['peak_tree_mb']:6,.0f} MB in all"
    )


def _repeat(source: Path, target: Path, times: int) -> None:
    data = json.loads(source.read_bytes())
    images, annotations = data["images"], data["annotations"]
    image_step = 1 + max(image["id"] for image in images)
    step = 1 + max(annotation["id"] for annotation in annotations)
    copies = range(times)
    with target.open("w") as file:
        file.write('{"images": [')
        file.write(", ".join(json.dumps({**i, "id": i["id"] + c * image_step}) for c in copies for i in images))
        file.write('], "annotations": [')
        for copy in copies:
            moved = (
                {**a, "id": a["id"] + copy * step, "image_id": a["image_id"] + copy * image_step} for a in annotations
            )
            file.write((", " if copy else "") + ", ".join(map(json.dumps, moved)))
        file.write("]}")


def _measure_one(corpus: str, store: str, way: str, parser: str, pipeline: str) -> dict[str, Any]:
    from regionclip.concepts.parsing import ParsingConfig, make_parsers
    from regionclip.concepts.trained import find_pipeline
    from stages import extract_concepts, parse_captions, read_captions
    from stages.contract import Resources
    from stages.rows import read_row_group, row_group_refs
    from stages.storage import Folder

    memory = PeakMemory()
    parsing = ParsingConfig(parsers=(parser,), pipeline=pipeline)
    workers = int(way.rpartition("-")[2]) if way.startswith("stage") else 0
    context = BenchmarkContext(Folder(f"{store}/{way}"), Resources(num_workers=workers, num_cpus=1))
    started = time.monotonic()
    if way == "read":
        source = read_captions.CaptionsConfig(root="", files=(corpus,))
        count = read_captions.STAGE.run(context, source).metrics["captions"]
    elif way in ("pipe", "bare"):
        refs = row_group_refs(_artifact("captions", f"{store}/read"), "captions")
        groups = (read_row_group(Folder(f"{store}/read"), ref, ["caption"])["caption"].to_pylist() for ref in refs)
        [one] = make_parsers(parsing)
        find = find_pipeline(pipeline).load().pipe if way == "pipe" else one.mentions
        started = time.monotonic()
        count = sum(1 for texts in groups for _ in find(texts))
    elif way == "choose":
        artifact = _artifact("phrases", f"{store}/stage-2")
        extract_concepts.STAGE.run(
            context, extract_concepts.ConceptsConfig(min_document_frequency=100), phrases=artifact
        )
        count = json.loads(Path(f"{store}/count").read_text())
    else:
        result = parse_captions.STAGE.run(context, parsing, captions=_artifact("captions", f"{store}/read"))
        count = result.metrics["captions"]
        Path(f"{store}/count").write_text(json.dumps(count))
    seconds = time.monotonic() - started
    memory.stop()
    return {
        "captions": int(count),
        "seconds": round(seconds, 2),
        "captions_per_second": round(count / seconds, 1),
        "first_part_seconds": round((context.first or started) - started, 2),
        "first_part_captions": PART if way.startswith("stage") else 0,
        "peak_process_mb": round(memory.process_mb, 1),
        "peak_tree_mb": round(memory.tree_mb, 1),
    }


def _artifact(kind: str, folder: str) -> Any:
    from stages.contract import Artifact
    from stages.storage import Folder

    return Artifact(kind, "benchmark", Folder(folder))


class BenchmarkContext:
    """Lends a stage a folder and notes when its first part was done."""

    def __init__(self, folder: Any, resources: Any) -> None:
        self.folder, self.resources = folder, resources
        self.first: float | None = None

    def log(self, metrics: Any, step: int) -> None:
        """Nothing is kept."""

    def say(self, text: str) -> None:
        """Nothing is shown."""

    def advance(self, done: int, total: int, unit: str) -> None:
        if done and self.first is None:
            self.first = time.monotonic()


if __name__ == "__main__":
    print(json.dumps(_measure_one(*sys.argv[1:])))
