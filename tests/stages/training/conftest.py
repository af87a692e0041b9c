"""A small world on disk: images of two sizes, captions, boxes, a CLIP, and the artifacts of every stage."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from open_clip import CLIP
from PIL import Image, ImageDraw

from regionclip.clip_models import save_clip
from regionclip.embeddings import save_embeddings
from regionclip.images import ResizeConfig
from regionclip.prompts import embed_concepts
from regionclip.proposals.network import ProposalConfig, ProposerConfig
from regionclip.schemas import BOXES, CAPTIONS, IMAGES
from regionclip.training.pretrain import PretrainConfig
from regionclip.training.proposer import ProposerTrainingConfig
from regionclip.training.schedule import OptimizerConfig
from regionclip.training.transfer import TransferConfig
from stages import encode_regions, label_regions, pretrain, propose_regions, train_proposer, transfer
from stages.contract import MANIFEST, Artifact, Resources, Stage
from stages.local_context import LocalContext
from stages.parts import write_table
from stages.storage import Folder

COLOURS = {"cat": "orange", "cup": "white", "kite": "red", "anchor": "blue"}
CLASSES = tuple(COLOURS)
BASE, NOVEL = CLASSES[:3], CLASSES[3:]
SAME_SIZE = ResizeConfig("pretraining", 64, 96)
RESOURCES = Resources(num_workers=0, batch_size=4)
SHORT = OptimizerConfig(learning_rate=0.01, warmup_steps=2, schedule="constant")


@dataclass
class World:
    """A store in which stages are run; `artifacts` holds the sources by name."""

    store: Path
    artifacts: dict[str, Artifact] = field(default_factory=dict)

    def artifact(self, kind: str, key: str, **manifest: Any) -> Artifact:
        artifact = Artifact(kind, key, Folder(str(self.store / kind / key)))
        artifact.folder.write(MANIFEST, json.dumps(manifest).encode())
        return artifact

    def run(
        self, stage: Stage, config: Any, key: str, context: LocalContext | None = None, **inputs: Artifact
    ) -> Artifact:
        """Run a stage without Ray and commit what it wrote."""
        stage.key(config, inputs)
        folder = Folder(str(self.store / stage.output / key))
        result = stage.run(context or LocalContext(folder, RESOURCES), config, **inputs)
        given = {name: {"kind": artifact.kind, "key": artifact.key} for name, artifact in inputs.items()}
        facts = {"external": dict(result.external), "metrics": dict(result.metrics), "inputs": given}
        return self.artifact(stage.output, key, **facts)

    def lent(self, kind: str, key: str) -> LocalContext:
        """A context to run a stage with, whose words are kept."""
        return LocalContext(Folder(str(self.store / kind / key)), RESOURCES)

    def __getitem__(self, name: str) -> Artifact:
        return self.artifacts[name]


def scene(index: int) -> tuple[Image.Image, list[tuple[str, list[float]]]]:
    """A grey image with three coloured squares, of which one is the novel anchor in every second image."""
    rng = np.random.default_rng(index)
    size = (96, 64) if index % 3 == 0 else (64, 64)
    image = Image.new("RGB", size, "grey")
    draw, boxes = ImageDraw.Draw(image), []
    names = [*rng.permutation(BASE)[:2], NOVEL[0] if index % 2 else str(rng.choice(BASE))]
    for place, name in enumerate(names):
        side = int(rng.integers(16, 26))
        x = int(rng.integers(0, 30 - side + 2)) + 32 * (place % 2)
        y = int(rng.integers(0, 30 - side + 2)) + 32 * (place // 2)
        draw.rectangle([x, y, x + side - 1, y + side - 1], fill=COLOURS[str(name)])
        boxes.append((str(name), [float(x), float(y), float(x + side), float(y + side)]))
    return image, boxes


def add_sources(world: World, name: str, indices: range) -> None:
    """Artifacts '<name>_images', '<name>_captions', '<name>_boxes' (all classes) and '<name>_base_boxes'."""
    images, captions, boxes = [], [], []
    for index in indices:
        image, objects = scene(index)
        data = io.BytesIO()
        image.save(data, "PNG")
        Folder(str(world.store / "files")).write(f"{index}.png", data.getvalue())
        size = {"width": image.width, "height": image.height}
        images.append({"image_id": index, "file_name": f"{index}.png", **size})
        captions += [{"image_id": index, "caption": f"a {kind} on a grey wall"} for kind, _ in objects[:2]]
        boxes += [{"image_id": index, "category": kind, "box": box, "is_crowd": False} for kind, box in objects]
    listed = world.artifact("images", name, external={"images": str(world.store / "files")})
    write_table(listed.folder, "images", pa.Table.from_pylist(images, IMAGES))
    told = world.artifact("captions", name)
    write_table(told.folder, "captions", pa.Table.from_pylist(captions, CAPTIONS))
    world.artifacts |= {f"{name}_images": listed, f"{name}_captions": told}
    for kind, classes in (("boxes", CLASSES), ("base_boxes", BASE)):
        artifact = world.artifact("boxes", f"{name}_{kind}")
        chosen = [row for row in boxes if row["category"] in classes]
        write_table(artifact.folder, "boxes", pa.Table.from_pylist(chosen, BOXES))
        artifact.folder.write("classes.json", json.dumps(list(classes)).encode())
        world.artifacts[f"{name}_{kind}"] = artifact


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_clip: CLIP) -> World:
    """The artifacts of the whole chain, each made once; sources of the splits 'train' (12) and 'test' (5 images)."""
    torch.set_num_threads(1)
    world = World(tmp_path_factory.mktemp("world"))
    add_sources(world, "train", range(12))
    add_sources(world, "test", range(100, 105))
    clip = world.artifact("clip", "tiny", marks=[])
    save_clip(tiny_clip, "rgc-test-rn", clip.folder.local())
    embeddings = world.artifact("embeddings", "classes")
    save_embeddings(embeddings.folder.local(), CLASSES, embed_concepts(tiny_clip, CLASSES, ("a photo of a {}.",)))
    world.artifacts |= {"clip": clip, "embeddings": embeddings}
    layout = ProposerConfig(blocks=(1, 1), width=8, levels=(8,), fpn_channels=None, anchor_sizes=((16, 24),))
    training = ProposerTrainingConfig(layout, batch_size=4, num_steps=3, optimizer=SHORT, resize=SAME_SIZE)
    world.artifacts["proposer"] = world.run(
        train_proposer.STAGE, training, "tiny", images=world["train_images"], boxes=world["train_base_boxes"]
    )
    finding = propose_regions.ProposeConfig(proposals=ProposalConfig(post_nms=30), resize=SAME_SIZE, part_size=5)
    for split in ("train", "test"):
        world.artifacts[f"{split}_proposals"] = world.run(
            propose_regions.STAGE, finding, split, images=world[f"{split}_images"], proposer=world["proposer"]
        )
    encoding = encode_regions.EncodeConfig(num_regions=10, resize=SAME_SIZE, part_size=5)
    world.artifacts["regions"] = world.run(
        encode_regions.STAGE,
        encoding,
        "teacher",
        images=world["train_images"],
        proposals=world["train_proposals"],
        clip=clip,
    )
    labels = label_regions.LabelsConfig(temperature=0.1, threshold=0.0, part_size=5)
    world.artifacts["labels"] = world.run(
        label_regions.STAGE, labels, "pool", regions=world["regions"], embeddings=embeddings
    )
    return world


@pytest.fixture
def pretrain_config() -> PretrainConfig:
    return PretrainConfig(
        temperature=0.1, batch_size=4, num_steps=5, optimizer=SHORT, regions_per_image=4, resize=SAME_SIZE
    )


@pytest.fixture
def transfer_config() -> TransferConfig:
    return TransferConfig(
        batch_size=4, num_steps=5, optimizer=SHORT, samples_per_image=16, temperature=0.1, resize=SAME_SIZE
    )


@pytest.fixture
def pretrain_inputs(world: World) -> dict[str, Artifact]:
    return {
        "clip": world["clip"],
        "region_labels": world["labels"],
        "embeddings": world["embeddings"],
        "images": world["train_images"],
        "captions": world["train_captions"],
    }


@pytest.fixture
def transfer_inputs(world: World) -> dict[str, Artifact]:
    return {
        "clip": world["clip"],
        "images": world["train_images"],
        "proposals": world["train_proposals"],
        "boxes": world["train_base_boxes"],
        "embeddings": world["embeddings"],
    }


@pytest.fixture(scope="package")
def encoder(world: World) -> Artifact:
    """A region encoder after five steps."""
    config = PretrainConfig(temperature=0.1, batch_size=4, num_steps=5, optimizer=SHORT, resize=SAME_SIZE)
    return world.run(
        pretrain.STAGE,
        config,
        "student",
        clip=world["clip"],
        region_labels=world["labels"],
        embeddings=world["embeddings"],
        images=world["train_images"],
        captions=world["train_captions"],
    )


@pytest.fixture(scope="package")
def detector(world: World, encoder: Artifact) -> Artifact:
    """A detector after five steps from that encoder."""
    config = TransferConfig(
        batch_size=4, num_steps=5, optimizer=SHORT, samples_per_image=16, temperature=0.1, resize=SAME_SIZE
    )
    return world.run(
        transfer.STAGE,
        config,
        "detector",
        clip=encoder,
        images=world["train_images"],
        proposals=world["train_proposals"],
        boxes=world["train_base_boxes"],
        embeddings=world["embeddings"],
    )
