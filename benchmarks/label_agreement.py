"""How often lower precision, stored features and the fused form name a region as the default does, on drawn scenes."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import torch
from relabel import TEMPERATURES, demo_features
from torch.nn import functional

from regionclip.clip_models import load_clip
from regionclip.images import normalize
from regionclip.matching import match
from regionclip.packaged import packaged_weights
from regionclip.prompts import TEMPLATES, embed_concepts
from regionclip.region_features import pack_features, unpack_features
from regionclip.scenes.dataset import ScenesConfig, make_scene
from regionclip.scenes.pictograms import CLASS_NAMES
from regionclip.schemas import Storage
from regionclip.teachers.making import make_teacher, teacher_pixels
from regionclip.teachers.teacher import TeacherConfig

NUM_SCENES, NUM_SCENES_STORED = 200, 500
WAYS = {
    "fp32 fused": TeacherConfig(fused=True),
    "bf16": TeacherConfig(precision="bf16"),
    "bf16 fused": TeacherConfig(precision="bf16", fused=True),
    "fp16 fused": TeacherConfig(precision="fp16", fused=True),
    "fp32 crop": TeacherConfig(mode="crop"),
    "bf16 crop": TeacherConfig(mode="crop", precision="bf16"),
}


def agreement() -> dict[str, Any]:
    """Top-1 of the packaged teacher on true boxes of drawn scenes, against fp32 of the same mode and the truth."""
    folder = packaged_weights("rgc:pictograms-teacher")
    assert folder is not None
    clip = load_clip(folder)
    scenes = [make_scene(ScenesConfig(), "test", index)[0] for index in range(NUM_SCENES)]
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).float() / 255
    boxes = [torch.tensor([each.box for each in scene.objects], dtype=torch.float32) for scene in scenes]
    truth = torch.tensor([CLASS_NAMES.index(each.name) for scene in scenes for each in scene.objects])
    with torch.inference_mode():
        names = functional.normalize(embed_concepts(clip, CLASS_NAMES, TEMPLATES["plain"]), dim=-1)

    def named(config: TeacherConfig, stored: Storage | None = None) -> torch.Tensor:
        features = make_teacher(clip, config).region_features(normalize(images, *teacher_pixels(clip, config)), boxes)
        if stored is not None:
            features = unpack_features(pack_features(features, stored)).float()
        return (features @ names.T).argmax(dim=1)

    fp32 = {mode: named(TeacherConfig(mode=mode)) for mode in ("dense", "crop")}
    results: dict[str, Any] = {"regions": len(truth), "fp32": {"right": _share(fp32["dense"], truth)}}
    for storage in get_args(Storage):
        found = named(TeacherConfig(), storage)
        results[f"fp32 stored as {storage}"] = {"as_fp32": _share(found, fp32["dense"]), "right": _share(found, truth)}
    for name, config in WAYS.items():
        found = named(config)
        same = fp32["crop" if config.mode == "crop" else "dense"]
        results[name] = {"as_fp32": _share(found, same), "right": _share(found, truth)}
    return results | {"int8 against float16": stored_in_8_bits()}


def stored_in_8_bits() -> list[dict[str, Any]]:
    """What 8 bits change in the labels of the demo's regions, its pool and two temperatures, against float16."""
    features, pools = demo_features(NUM_SCENES_STORED)
    pool = pools["demo"][1]
    rows = []
    for temperature in TEMPERATURES:
        whole, rough = (
            match(unpack_features(pack_features(features, storage)).float(), pool, temperature)
            for storage in ("float16", "int8")
        )
        first = whole.argmax(dim=1)
        moved = (whole - rough).gather(1, first[:, None]).abs()
        rows.append(
            {
                "regions": len(features),
                "temperature": temperature,
                "same_first": _share(rough.argmax(dim=1), first),
                "mean_change_of_log_probability": round(float(moved.mean()), 5),
                "largest_change": round(float(moved.max()), 4),
            }
        )
    return rows


def print_agreement(results: dict[str, Any]) -> None:
    """The table of `agreement`."""
    print(f"{results['regions']} true boxes{'':<10} {'as fp32':>8} {'right':>8}")
    for name, shares in results.items():
        if isinstance(shares, dict):
            print(f"{name:<24} {shares.get('as_fp32', 1.0):8.1%} {shares['right']:8.1%}")
    for row in results["int8 against float16"]:
        moved = row["mean_change_of_log_probability"]
        print(
            f"int8 against float16, {row['regions']:,} proposals, temperature {row['temperature']}: same first concept "
            f"{row['same_first']:.1%}, log-probability off by {moved:.4f} on average"
        )


def _share(found: torch.Tensor, expected: torch.Tensor) -> float:
    return round(float((found == expected).float().mean()), 4)
