"""Region labels from the command line: made again for other concepts, written for other tools, corrections taken in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import PurePosixPath
from typing import Any, Literal, cast

import numpy as np
from rich.console import Console
from rich.text import Text

from pipelines import inputs
from pipelines.concept_pool import concept_pool
from pipelines.config import PipelineConfig
from pipelines.runner import Runner
from pipelines.store import Lineage, artifact_of, find_artifact, lineage, list_artifacts
from pipelines.summary import say
from pipelines.taking_in import take_in
from regionclip.coco import read_coco_images
from regionclip.image_sources.listing import find_packed
from regionclip.image_sources.places import first_image_id
from regionclip.labels.choosing import Choice, LabelledImage, labelled_images
from regionclip.labels.writing import Written, odvg_label_map, write_coco, write_odvg, write_yolo
from stages import embed_concepts, encode_regions, import_labels, label_regions
from stages.contract import Artifact, Stage, canonical_json
from stages.parts import iter_tables, read_table
from stages.read_boxes import BoxesConfig
from stages.read_images import ImagesConfig, form_of
from stages.rows import table_schema
from stages.storage import Folder, folder_and_name

LABEL_MAP = "_label_map.json"
_NOT_OF_CONTENT = ("root", "max_rejected_fraction")  # what a source's key leaves out
_NO_KEY = "none"


def label(config: PipelineConfig, run: Runner, regions: str | None = None) -> Artifact:
    """The labels of regions that the store already holds: those of a key, or the newest that this config gave.

    Opens no image, and needs none to be there. Raises ValueError where captions are to guide the labels and it is not
    certain that their image ids mean the images of the regions.
    """
    found = _regions_of(config, run.store) if regions is None else find_artifact(run.store, regions)
    teacher = inputs.teacher(config, run)
    _check_regions(found, teacher)
    if config.labels.candidates != "pool":
        _check_image_ids(config, run.store, found)
    return labels_of(config, run, found, teacher)


def labels_of(config: PipelineConfig, run: Runner, regions: Artifact, teacher: Artifact) -> Artifact:
    """The labels that a config gives to regions which this teacher encoded."""
    concepts = concept_pool(config, run)
    embeddings = run(embed_concepts.STAGE, config.embeddings, concepts=concepts, clip=teacher)
    guided = config.labels.candidates != "pool"
    return run(
        label_regions.STAGE,
        config.labels,
        regions=regions,
        embeddings=embeddings,
        captions=inputs.captions(config, run) if guided else None,
        concepts=concepts if guided else None,
    )


def export(
    key: str,
    path: str,
    store: str,
    everything: bool = False,
    min_score: float = 0.0,
    console: Console | None = None,
) -> Written:
    """Write region labels as COCO JSON (.json), ODVG lines (.jsonl) or, where the path has no ending, a YOLO folder.

    everything: also the regions that are not kept. min_score: least probability of a region's first label.
    """
    folder, choice = Folder(store), Choice(everything, min_score)
    labels = find_artifact(folder, key)
    if labels.kind != "region_labels":
        raise ValueError(f"{key} is a {labels.kind}; give the key of region_labels ('rgc ls' lists them)")
    suffix = PurePosixPath(path).suffix
    if suffix not in ("", ".json", ".jsonl"):
        raise ValueError(f"{path}: labels are not written as '{suffix}'; choose .json, .jsonl or a folder (no ending)")
    concepts = json.loads(labels.folder.read(label_regions.CONCEPTS))["concepts"]
    images = _images(labels, choice)
    if suffix == "":
        target = Folder(path)
        if target.names():
            raise ValueError(f"{path} is not empty, and old files in it would count as labels; give a new folder")
        written = write_yolo(lambda name, text: target.write(name, text.encode(), durable=False), images, concepts)
    else:
        target, name = folder_and_name(path)
        with target.stream(name) as file:
            if suffix == ".json":
                info = {"region_labels": labels.key, "everything": everything, "min_score": min_score}
                written = write_coco(file, images, concepts, info)
            else:
                written = write_odvg(file, images, concepts)
        if suffix == ".jsonl":
            target.write(name.removesuffix(suffix) + LABEL_MAP, odvg_label_map(concepts))
    text = f"wrote {path} ({written.regions:,} regions of {written.images:,} images, {labels.kind} {labels.key})"
    (console or Console()).print(Text(text), soft_wrap=True)
    return written


def import_(
    path: str,
    key: str,
    store: str,
    absent: Literal["drop", "keep"] = "drop",
    min_score: float = 0.0,
    max_rejected_fraction: float = 0.1,
    tracking_uri: str | None = None,
    console: Console | None = None,
) -> Artifact:
    """Take a corrected COCO JSON export back into the store, over the labels of `key`; print the new key."""
    labels = find_artifact(Folder(store), key)
    config = import_labels.ImportLabelsConfig(
        path, absent=absent, min_score=min_score, max_rejected_fraction=max_rejected_fraction
    )
    about = {"path": path, "labels": labels.key}
    return take_in(
        "labels-import", about, import_labels.STAGE, config, store, tracking_uri, console, region_labels=labels
    )


class _Keys:
    """Stands in for a runner where only the places of artifacts are asked for: nothing is run, no image is opened.

    Images and boxes of a data folder are those that `made` came from, if they were read there and as the config says.
    """

    def __init__(self, store: Folder, made: Lineage) -> None:
        self.store, self._made = store, made

    def __call__(self, stage: Stage, config: Any, **given: Artifact | None) -> Artifact:
        if isinstance(config, ImagesConfig | BoxesConfig) and config.root is not None:
            read = (each for each in self._made if _was_read_so(each.manifest, stage, config))
            return next(read, artifact_of(self.store, stage.output, _NO_KEY))
        return artifact_of(self.store, stage.output, stage.key(config, given))


def _was_read_so(manifest: Mapping[str, Any], stage: Stage, config: ImagesConfig | BoxesConfig) -> bool:
    """Whether a source was read by this config, from the place that its root is now."""
    if (manifest["stage"], manifest["version"]) != (stage.name, stage.version):
        return False
    anywhere = dict.fromkeys(_NOT_OF_CONTENT)
    if canonical_json({**manifest["config"], **anywhere}) != canonical_json({**asdict(config), **anywhere}):
        return False
    if isinstance(config, BoxesConfig):
        return True
    root = Folder(str(config.root)).uri
    return manifest["external"]["images"] in (root, f"{root}/{PurePosixPath(config.images)}")


def _regions_of(config: PipelineConfig, store: Folder) -> Artifact:
    """The newest regions that a config made, whatever became of its images since."""

    def key_now(made: Artifact) -> str:
        keys, train = cast(Runner, _Keys(store, lineage(store, made))), config.data.train
        images, proposals = inputs.images(config, keys, train), inputs.proposals(config, keys, train)
        clip = inputs.teacher(config, keys)
        return keys(encode_regions.STAGE, config.regions, images=images, proposals=proposals, clip=clip).key

    found = [made for made in list_artifacts(store, encode_regions.STAGE.output) if made.key == key_now(made)]
    if not found:
        raise ValueError(
            f"the regions of this config are not in {store.uri}; make them with 'rgc run pseudo-label' or name others "
            "with --regions KEY ('rgc ls' lists them)"
        )
    older = len(found) - 1
    among = f"  (the newest; {older} older from before its images changed: --regions KEY takes another)"
    say(Console(), "regions", found[-1].key + (among if older else ""))
    return found[-1]


def _check_regions(regions: Artifact, teacher: Artifact) -> None:
    if regions.kind != "regions":
        raise ValueError(f"{regions.key} is a {regions.kind}; give the key of regions ('rgc ls' lists them)")
    encoded_by = regions.manifest["inputs"]["clip"]["key"]
    if encoded_by != teacher.key:
        raise ValueError(
            f"regions {regions.key} were encoded by the teacher {encoded_by}, the config's is {teacher.key}; "
            "set 'teacher' to that of the regions"
        )


def _check_image_ids(config: PipelineConfig, store: Folder, regions: Artifact) -> None:
    """Raise ValueError unless the image ids of the config's captions mean the images of the regions.

    These must have been read as the config says, from the place where its data is now, and what their ids stood for
    must have its name still: an image the file name in the COCO records, a number that was counted out its tar or
    parquet file. What is no longer there has no captions, so it does no harm. Ids of a column are taken at their word,
    as is a file that changed but kept its name.
    """
    images = lineage(store, regions).inputs["images"]
    now = inputs.images(config, cast(Runner, _Keys(store, images)), config.data.train)
    if now.key != images.artifact.key:
        raise ValueError(
            f"regions {regions.key} are not known to be of the images of data.train (root {config.data.root}), so "
            "captions may go to other images; set 'data' to that of the regions (where it moved, 'rgc run "
            "pseudo-label' notes its place), or set labels.candidates to pool"
        )
    if config.data.root is None:
        return
    source = replace(ImagesConfig(**now.manifest["config"]), root=config.data.root)
    what, before, after = _names_of_ids(source, regions)
    changed = next((number for number, name in before.items() if after.get(number, name) != name), None)
    if changed is not None:
        raise ValueError(
            f"regions {regions.key}: {what} {changed} of data.train was '{before[changed]}' when they were made and is "
            f"'{after[changed]}' now, so captions would go to other images; make regions of the images as they are now "
            "with 'rgc run pseudo-label', or set labels.candidates to pool"
        )


def _names_of_ids(source: ImagesConfig, regions: Artifact) -> tuple[str, dict[int, str], dict[int, str]]:
    """What is numbered in the ids of a source's images, and its names by number: of the regions' images, and now."""
    form, root = form_of(source), Folder(str(source.root)).uri
    if form == "folder" or (form != "coco" and source.id_column is not None):
        return "image", {}, {}
    table = read_table(regions, "regions", ["image_id", "uri"])
    ids, uris = table["image_id"].to_numpy(), table["uri"]
    if form == "coco":
        listed = read_coco_images(f"{root}/{source.instances}")
        now = dict(zip(listed["image_id"].to_pylist(), listed["file_name"].to_pylist(), strict=True))
        return "image", dict(zip(ids.tolist(), uris.to_pylist(), strict=True)), now
    numbers, rows = np.unique(ids // first_image_id(1), return_index=True)
    packed = {each.number: each.name for each in find_packed(root, source.images, form)}
    if source.uri_column is None:
        files = [uri.partition("::")[0] for uri in uris.take(rows).to_pylist()]
        return "file", dict(zip(numbers.tolist(), files, strict=True)), packed
    if list(packed.values()) != [str(PurePosixPath(source.images))]:
        raise ValueError(
            f"data.train.images '{source.images}' may be other files than when regions {regions.key} were made, and "
            "uris do not tell which file counted them; name one file, set id_column, or set labels.candidates to pool"
        )
    return "file", {}, {}


def _images(labels: Artifact, choice: Choice) -> Iterator[LabelledImage]:
    table_schema(labels, "region_labels", ["uri"])
    columns = ["image_id", "uri", "width", "height", "boxes", "concept_ids", "log_probabilities", "keep"]
    return labelled_images(iter_tables(labels, "region_labels", columns), choice)
