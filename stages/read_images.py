"""Source: the images of a COCO-layout data set, listed with their sizes; the files stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from regionclip.coco import check_image_files, dataset_folder, read_coco_images
from regionclip.digests import content_sha256, file_sha256
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import write_table
from stages.rows import OWN_STORE
from stages.storage import Folder


@dataclass(frozen=True)
class ImagesConfig:
    """Which images: those that `instances` (any COCO annotation file that lists images) has in `split`.

    root: the data folder that the other names are relative to; None where a data set artifact is given.
    """

    root: str | None = None
    images: str = "images"
    instances: str = "annotations/instances.json"
    split: str | None = None


def read_images(context: Context, config: ImagesConfig, dataset: Artifact | None = None) -> Result:
    """Write `images.parquet`; the manifest's external 'images' is the folder of the files."""
    root = dataset_folder(config.root, dataset.folder.local() if dataset else None)
    images = read_coco_images(root / config.instances, config.split)
    check_image_files(images, root / config.images)
    write_table(context.folder, "images", images)
    where = (
        f"{OWN_STORE}dataset/{dataset.key}/{config.images}" if dataset else Folder(str(root)).child(config.images).uri
    )
    return Result(metrics={"images": images.num_rows}, external={"images": where})


def identity(config: ImagesConfig) -> Mapping[str, Any]:
    """The content of the records and image files; names alone where they belong to a data set artifact."""
    if config.root is None:
        return asdict(config)
    root = dataset_folder(config.root, None)
    images = read_coco_images(root / config.instances, config.split)
    folder = root / config.images
    check_image_files(images, folder)
    files = (file_sha256(folder / name) for name in images["file_name"].to_pylist())
    return {"content_sha256": content_sha256(images, files)}


STAGE = Stage(
    name="read_images",
    version=1,
    inputs={"dataset": ("dataset",)},
    output="images",
    run=read_images,
    optional=frozenset({"dataset"}),
    identity=identity,
)
