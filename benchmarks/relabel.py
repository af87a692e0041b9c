"""How fast region features are labelled anew, and how much of the teacher's distribution the kept concepts hold.

    PYTHONPATH=. python benchmarks/relabel.py match --out benchmarks/results/relabel_match.json
    PYTHONPATH=. python benchmarks/relabel.py demo --out benchmarks/results/relabel_demo.json
    PYTHONPATH=. python benchmarks/relabel.py stage --out benchmarks/results/relabel_stage.json
    PYTHONPATH=. python benchmarks/relabel.py kl --out benchmarks/results/relabel_kl.json

match: regions a second for seeded features and a seeded pool, and the matrix product alone, in turn, block by block.
demo: the same for the packaged teacher's features of drawn scenes, against the pool of their captions and against that
pool filled up with seeded embeddings.
stage: regions a second of the stage label_regions, which reads and writes tables, in place and through Ray.
kl: the full distributions of those features against what the k likeliest concepts keep of them.

For match and demo, features lie in memory in half precision, one block at a time. The product alone is that of the
normalised features in single precision, into memory that is reused, with as many threads.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import write_result
from relabel_rates import print_rates, rates
from relabel_stage import Settings, print_stage, stage_rates
from torch import Tensor
from torch.nn import functional

from regionclip.clip_models import load_clip
from regionclip.concepts.rules import RulesParser
from regionclip.images import CLIP_MEAN, CLIP_STD, normalize
from regionclip.matching import match
from regionclip.packaged import packaged_weights
from regionclip.prompts import TEMPLATES, embed_concepts
from regionclip.proposals.network import IMAGENET_MEAN, IMAGENET_STD, ProposalConfig, load_proposer
from regionclip.scenes.dataset import ScenesConfig, make_scene
from regionclip.teachers.making import make_teacher
from regionclip.teachers.teacher import TeacherConfig
from regionclip.training.pretrain import teacher_distribution

NUM_SCENES, BOXES, SCENES_A_BATCH = 500, 16, 50
CAPTION_SHARE = 200  # a concept of the demo's pool is named by one caption of so many, or more
DEMO_TOP_K = 20
KEPT = (8, 32, 128)
TEMPERATURES = (0.067, 0.01)  # about what the packaged teacher learned, and the method's
ROWS = 16_384  # regions of one timed block
GOLD = Path(__file__).parent / "gold"


def match_rates(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates on seeded features; they are made block by block and never all in memory."""
    device = arguments.device
    random = torch.Generator(device).manual_seed(0)

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, arguments.width, generator=random, device=device)

    pool = functional.normalize(normal(arguments.concepts), dim=1)
    sizes = [min(ROWS, arguments.regions - start) for start in range(0, arguments.regions, ROWS)]
    features = (functional.normalize(normal(rows), dim=1).half() for rows in sizes)
    return rates(features, pool, arguments.temperature, arguments.top_k, device)


def demo_rates(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates on the demo's features, taken several times over: with the pool of its captions, of which as many concepts
    are kept as its preset keeps, and with that pool filled up with seeded embeddings to a large one."""
    features, pools = demo_features(NUM_SCENES)
    pool = functional.normalize(pools["demo"][1], dim=1)
    others = torch.randn(arguments.concepts - len(pool), pool.shape[1], generator=torch.Generator().manual_seed(0))
    filled = torch.cat([pool, functional.normalize(others, dim=1)]).to(arguments.device)
    repeated = features.half().repeat(4, 1).to(arguments.device)
    return {
        "captions": rates([repeated] * 15, pool.to(arguments.device), TEMPERATURES[0], DEMO_TOP_K, arguments.device),
        "filled": rates([repeated] * 5, filled, TEMPERATURES[0], arguments.top_k, arguments.device),
    }


def print_demo(results: dict[str, Any]) -> None:
    """What `demo` found."""
    for of_pool in results.values():
        print_rates(of_pool)


def whole_stage(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates of the stage on seeded regions."""
    return stage_rates(Settings(**{name: getattr(arguments, name) for name in Settings.__dataclass_fields__}))


def kept_distributions(arguments: argparse.Namespace) -> dict[str, Any]:
    """KL in nat between full and kept distributions, both ways, for each pool, temperature and k."""
    features, pools = demo_features(NUM_SCENES)
    rows = []
    for (name, (_, pool)), temperature in ((each, one) for each in pools.items() for one in TEMPERATURES):
        full = match(features.double(), pool.double(), temperature)
        entropy = float(-(full.exp() * full).sum(dim=1).mean())
        for k in KEPT:
            about = {"pool": name, "concepts": len(pool), "temperature": temperature, "entropy": entropy, "k": k}
            rows.append(about | _kept(full, min(k, len(pool))))
    return {"regions": len(features), "rows": rows}


def _kept(full: Tensor, k: int) -> dict[str, float]:
    top = full.topk(k, dim=1)
    kept = teacher_distribution(top.indices, top.values, full.shape[1])
    lost = (full.exp() * (full - kept)).nan_to_num(posinf=0.0).sum(dim=1)  # what double precision has no number for
    taught = teacher_distribution(top.indices, top.values.float(), full.shape[1]).double()  # as pretraining has it
    excess = (taught.exp() * (taught - full).masked_fill(taught == -torch.inf, 0.0)).sum(dim=1)
    mass = top.values.exp().sum(dim=1)
    return {
        "kl_full_kept": float(lost.mean().clamp(min=0)),
        "kl_full_kept_p99": float(lost.quantile(0.99)),
        "kl_kept_full": float(excess.mean()),
        "mass": float(mass.mean()),
        "mass_p1": float(mass.quantile(0.01)),
    }


@torch.inference_mode()
def demo_features(num_scenes: int) -> tuple[Tensor, dict[str, tuple[list[str], Tensor]]]:
    """The packaged teacher's features of the best boxes of drawn scenes, and two pools with its embeddings.

    'demo': what the scenes' captions name often. 'wide': with it, the concepts of the hand-judged captions, of which
    this teacher never learned the words; real features and real text, but a harder case than a pool of its own.
    """
    folder, localiser = packaged_weights("rgc:pictograms-teacher"), packaged_weights("rgc:pictograms-proposer")
    assert folder is not None
    assert localiser is not None
    clip, proposer = load_clip(folder), load_proposer(localiser)
    teacher = make_teacher(clip, TeacherConfig(), "cpu")
    config = ProposalConfig(pre_nms=300, nms_iou=0.7, post_nms=BOXES)
    scenes = [make_scene(ScenesConfig(), "train", index) for index in range(num_scenes)]
    features = []
    for start in range(0, num_scenes, SCENES_A_BATCH):
        drawn = np.stack([scene.image for scene, _ in scenes[start : start + SCENES_A_BATCH]])
        images = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
        size = (images.shape[2], images.shape[3])
        found = proposer.propose(normalize(images, IMAGENET_MEAN, IMAGENET_STD), [size] * len(images), config)
        boxes = [each.boxes for each in found]
        features.append(teacher.region_features(normalize(images, CLIP_MEAN, CLIP_STD), boxes))
    named = frequent_names(caption.text for _, captions in scenes for caption in captions)
    wide = sorted({*named, *gold_names()})
    pools = {
        name: (names, embed_concepts(clip, names, TEMPLATES["plain"]))
        for name, names in (("demo", named), ("wide", wide))
    }
    return torch.cat(features).half().float(), pools


def frequent_names(captions: Iterable[str]) -> list[str]:
    """What captions name often, sorted."""
    counts: Counter[str] = Counter()
    texts = list(captions)
    for mentions in RulesParser().mentions(texts):
        counts.update({mention.name for mention in mentions if not mention.reason})
    return sorted(name for name, count in counts.items() if count * CAPTION_SHARE >= len(texts))


def gold_names() -> Iterator[str]:
    """The concepts of the hand-judged captions."""
    for path in sorted(GOLD.glob("captions_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield from (mention[0] for mention in json.loads(line)["mentions"])


def print_kl(results: dict[str, Any]) -> None:
    """What `kl` found."""
    print("pool  concepts  temperature  entropy    k  KL(full|kept)   99 %  KL(kept|full)   mass  lowest 1 %")
    for row in results["rows"]:
        print(
            f"{row['pool']:<5} {row['concepts']:8} {row['temperature']:12} {row['entropy']:8.2f} {row['k']:4} "
            f"{row['kl_full_kept']:14.1e} {row['kl_full_kept_p99']:6.0e} {row['kl_kept_full']:14.1e} "
            f"{row['mass']:6.4f} {row['mass_p1']:11.4f}"
        )


def main() -> None:
    """Run one of the benchmarks and print, or also record, its numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=["match", "demo", "stage", "kl"])
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    parser.add_argument("--regions", type=int, default=1_000_000, help="of match and stage")
    parser.add_argument("--boxes", type=int, default=100, help="regions of one image of stage")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--concepts", type=int, default=6790)
    parser.add_argument("--temperature", type=float, default=0.01)
    parser.add_argument("--top-k", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run, show = {
        "match": (match_rates, print_rates),
        "demo": (demo_rates, print_demo),
        "stage": (whole_stage, print_stage),
        "kl": (kept_distributions, print_kl),
    }[arguments.benchmark]
    results = run(arguments)
    show(results)
    if arguments.out:
        write_result(arguments.out, [0], results)


if __name__ == "__main__":
    main()
