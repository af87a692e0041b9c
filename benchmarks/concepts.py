"""The concept parsers: what they find and miss, and how fast captions become phrases.

    python benchmarks/concepts.py quality [--pipeline NAME_OR_PATH ...] [--errors 30]
    python benchmarks/concepts.py speed [--pipeline NAME_OR_PATH]

Real captions and the treebank are read from the folder `--data`; hand-judged captions lie in `benchmarks/gold`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import concept_quality as quality
import concept_speed as speed
from record import write_result

from regionclip.concepts.mentions import Parser
from regionclip.concepts.parsing import ParsingConfig, make_parsers
from regionclip.concepts.trained import installed_pipelines

RESULTS = Path(__file__).parent / "results"
SHARED = Path(os.environ.get("RGC_SHARED", Path(__file__).parents[2] / "shared"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("quality", help="precision, recall and F1 of heads and concepts; recall of classes")
    command.add_argument("--data", type=Path, default=SHARED / "data", help="folder of captions, treebank and photos")
    command.add_argument("--pipeline", nargs="*", help="spaCy pipelines, name or path; else the installed ones")
    command.add_argument("--errors", type=int, default=0, metavar="N", help="print the N most frequent errors")
    command.add_argument("--out", type=Path, default=RESULTS / "concept_quality.json")
    command.set_defaults(run=run_quality)
    command = commands.add_parser(
        "speed", help="captions per second and peak memory of the stage beside the bare parser"
    )
    command.add_argument("--data", type=Path, default=SHARED / "data", help="folder of captions")
    command.add_argument("--pipeline", help="a spaCy pipeline, name or path; without one the rules parser")
    command.add_argument(
        "--scales", type=int, nargs="+", default=[1, 10, 40], help="how often the captions are repeated"
    )
    command.add_argument("--alone", type=int, metavar="SCALE", help="the largest scale for the ways of one process")
    command.add_argument("--ways", nargs="+", default=list(speed.WAYS), choices=speed.WAYS)
    command.add_argument("--out", type=Path)
    command.set_defaults(run=run_speed)
    arguments = parser.parse_args()
    arguments.run(arguments)


def run_speed(arguments: argparse.Namespace) -> None:
    captions = arguments.data / "captions" / "coco_captions_val2017.json"
    parsing = (
        ParsingConfig(("spacy",), pipeline=arguments.pipeline) if arguments.pipeline else ParsingConfig(("rules",))
    )
    [parser] = make_parsers(parsing)
    rows = speed.measure(
        captions, parsing.parsers[0], parsing.pipeline, arguments.scales, arguments.ways, arguments.alone
    )
    ratios = speed.ratios(rows)
    for name, value in ratios.items():
        print(f"{name:<52} {value:6.2f}")
    out = arguments.out or RESULTS / f"concept_speed_{parsing.parsers[0]}.json"
    write_result(out, [], {"parser": parser.name, "rows": rows, "ratios": ratios})


def run_quality(arguments: argparse.Namespace) -> None:
    results = {}
    print(f"treebank: {quality.TREEBANK_RULE}\nclasses: {quality.CLASS_RULE}")
    for parser in parsers(arguments.pipeline):
        results[parser.name] = measure_quality(parser, arguments.data)
        print_quality(parser.name, results[parser.name])
        if arguments.errors:
            print_errors(parser, arguments.data, arguments.errors)
    rules = {"treebank": quality.TREEBANK_RULE, "classes": quality.CLASS_RULE}
    write_result(arguments.out, [], {"rules": rules, "by_parser": results})


def parsers(pipelines: Sequence[str] | None) -> list[Parser]:
    """The rules parser, then the given or else the installed spaCy pipelines."""
    names = installed_pipelines() if pipelines is None else pipelines
    configs = [ParsingConfig(("rules",)), *(ParsingConfig(("spacy",), pipeline=name) for name in names)]
    return [parser for config in configs for parser in make_parsers(config)]


def measure_quality(parser: Parser, data: Path) -> dict[str, Any]:
    return {
        "treebank heads": quality.score_treebank(parser, data).result(),
        **{f"captions {split}": quality.judged_results(parser, data, split) for split in quality.SPLITS},
        "classes": quality.class_recall(parser, data)[0],
    }


def print_quality(name: str, result: dict[str, Any]) -> None:
    """A table in percent; the judged captions by source."""
    print(f"\n{name:<40}      P      R     F1   gold")
    print(_line("treebank heads", result["treebank heads"]))
    for split in quality.SPLITS:
        for group, scores in result[f"captions {split}"].items():
            for what, score in scores.items():
                print(_line(f"captions {split}, {group}, {what}", score))
    classes = result["classes"]
    print(f"{'classes that captions name':<40}        {classes['recall']:6.1%}        {classes['named']:6}")


def _line(name: str, score: dict[str, float]) -> str:
    return f"{name:<40} {score['precision']:6.1%} {score['recall']:6.1%} {score['f1']:6.1%} {score['gold']:6}"


def print_errors(parser: Parser, data: Path, number: int) -> None:
    """The most frequent missed and false heads and concepts of the treebank and the dev captions; never of test."""
    judged = quality.score_judged(parser, quality.read_judged(quality.GOLD / "captions_dev.jsonl", data))
    scores = {"treebank heads": quality.score_treebank(parser, data)}
    scores |= {f"captions dev {what}": score for what, score in judged.items()}
    for name, score in scores.items():
        for what, counts in (("missed", score.missed), ("false", score.false)):
            print(f"{name}, {what}: {', '.join(f'{word} {count}' for word, count in counts.most_common(number))}")
    missed = quality.class_recall(parser, data)[1]
    print(f"classes, missed: {', '.join(f'{word} {count}' for word, count in missed.most_common(number))}")


if __name__ == "__main__":
    main()
