"""What a pipeline starts from: images, captions, boxes and class names of the data, and the models given or trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePosixPath

from pipelines.config import DataConfig, PipelineConfig, SplitConfig, TeacherTrainingConfig
from pipelines.runner import Runner
from regionclip.captions.files import find_files
from regionclip.image_sources.listing import find_packed
from regionclip.known_clips import has_resnet
from stages import (
    embed_concepts,
    extract_concepts,
    make_scenes,
    propose_regions,
    read_boxes,
    read_captions,
    read_clip,
    read_images,
    read_proposer,
    train_proposer,
    train_teacher,
)
from stages.contract import MANIFEST, Artifact
from stages.parts import iter_tables
from stages.storage import Folder

_PACKED = ("webdataset", "parquet")


def read_sources(config: PipelineConfig, run: Runner) -> None:
    """Read whatever is given from outside, so that what is wrong with it is said before any long work."""
    train, test, classes = config.data.train, config.data.test, config.classes
    start = config.student or config.teacher
    if not config.from_scratch and not has_resnet(start.model):
        raise ValueError(
            f"the student '{start.model}' has no ResNet of CLIP's kind, which pretrain, transfer and evaluate need; "
            "set 'student' to a model such as RN50-quickgelu (any model can be the teacher)"
        )
    if not config.from_scratch:
        teacher(config, run)
        student_start(config, run)
        if config.proposer_weights is not None:
            proposer(config, run)
    images(config, run, train)
    captions(config, run)
    if config.concepts_file is None:
        pool_captions(config, run)
    boxes(config, run, train, classes.base)
    images(config, run, test)
    boxes(config, run, test, classes.base + classes.novel)


def images(config: PipelineConfig, run: Runner, split: SplitConfig) -> Artifact:
    """The images of a split."""
    dataset = _dataset(config.data, run)
    with named_by(_key_of(config, split)):
        return run(read_images.STAGE, _images_source(config.data, split), dataset=dataset)


def captions(config: PipelineConfig, run: Runner) -> Artifact:
    """The captions of the train split's images; ValueError where they are to guide labels and none belongs to an image,
    and where they would go to other images."""
    _check_caption_ids(config.data, config.data.train)
    found, candidates = _train_captions(config, run), config.labels.candidates
    if candidates != "pool" and found.folder.exists(MANIFEST) and not _has_image_ids(found):
        raise ValueError(
            f"data.train.captions '{config.data.train.captions}': no caption belongs to an image, which "
            f"labels.candidates '{candidates}' needs; name captions with image ids (the tars or parquet files that "
            "hold the images, or COCO for images that have its ids), or set labels.candidates to pool"
        )
    return found


def pool_captions(config: PipelineConfig, run: Runner) -> Artifact:
    """The captions that the concept pool is made of."""
    if config.data.pool_captions is None:
        return _train_captions(config, run)
    given = config.data.pool_captions
    with named_by("data.pool_captions"):
        return run(read_captions.STAGE, given if given.root is not None else replace(given, root=""))


def boxes(
    config: PipelineConfig, run: Runner, split: SplitConfig, classes: tuple[str, ...], key: str | None = None
) -> Artifact:
    """The boxes of these classes, and of no other, in a split.

    key: its place in the config, where `split` is a changed copy.
    """
    dataset = _dataset(config.data, run)
    if config.data.root is not None:
        _check_ids(config.data, split)
    source = read_boxes.BoxesConfig(
        config.data.root, split.instances, split.split, classes, split.max_rejected_fraction
    )
    with named_by(key or _key_of(config, split)):
        return run(read_boxes.STAGE, source, dataset=dataset)


def teacher(config: PipelineConfig, run: Runner) -> Artifact:
    """The CLIP that names regions."""
    if config.from_scratch:
        return _trained(config.teacher_training, run)
    return run(read_clip.STAGE, config.teacher)


def student_start(config: PipelineConfig, run: Runner) -> Artifact:
    """The CLIP that the student starts as: its own, or the teacher."""
    if config.from_scratch and config.student_training is not None:
        return _trained(config.student_training, run)
    if config.student is None or config.from_scratch:
        return teacher(config, run)
    return run(read_clip.STAGE, config.student)


def proposer(config: PipelineConfig, run: Runner) -> Artifact:
    """The localiser, given or trained on base boxes alone."""
    if config.proposer_weights is not None and not config.from_scratch:
        return run(read_proposer.STAGE, read_proposer.ProposerSourceConfig(config.proposer_weights))
    train = config.data.train
    base = boxes(config, run, train, config.classes.base)
    return run(train_proposer.STAGE, config.proposer_training, images=images(config, run, train), boxes=base)


def proposals(config: PipelineConfig, run: Runner, split: SplitConfig) -> Artifact:
    """Class-agnostic boxes in the images of a split."""
    methods, classes = config.proposals.methods, config.classes
    seen = classes.base if split == config.data.train else classes.base + classes.novel  # novel boxes never train
    given = {
        "images": images(config, run, split),
        "proposer": proposer(config, run) if "rpn" in methods else None,
        "boxes": boxes(config, run, split, seen) if "ground_truth" in methods else None,
    }
    with named_by("proposals"):
        return run(propose_regions.STAGE, config.proposals, **given)


def class_embeddings(config: PipelineConfig, run: Runner) -> Artifact:
    """Text embeddings of all class names, base before novel, on the student's side."""
    names = extract_concepts.ConceptsConfig(names=config.classes.base + config.classes.novel)
    concepts = run(extract_concepts.STAGE, names)
    return run(embed_concepts.STAGE, config.embeddings, concepts=concepts, clip=student_start(config, run))


@contextmanager
def named_by(key: str) -> Iterator[None]:
    """Errors of the block name `max_rejected_fraction` by its place in the config, below `key`."""
    field = "max_rejected_fraction"
    try:
        yield
    except ValueError as error:
        if field not in str(error):
            raise
        raise ValueError(str(error).replace(field, f"{key}.{field}")) from error


def _key_of(config: PipelineConfig, split: SplitConfig) -> str:
    return "data.train" if split == config.data.train else "data.test"


def _images_source(data: DataConfig, split: SplitConfig) -> read_images.ImagesConfig:
    return read_images.ImagesConfig(
        data.root,
        split.images,
        split.instances,
        split.split,
        format=split.format,
        image_column=split.image_column,
        uri_column=split.uri_column,
        id_column=split.id_column,
        max_rejected_fraction=split.max_rejected_fraction,
    )


def _train_captions(config: PipelineConfig, run: Runner) -> Artifact:
    dataset, train = _dataset(config.data, run), config.data.train
    packed = _share_files(config.data, train)
    source = read_captions.CaptionsConfig(
        config.data.root,
        (train.captions,),
        train.split,
        column=train.caption_column,
        number_images=packed and train.id_column is None,
        image_id_column=train.id_column if packed else None,
        max_rejected_fraction=train.max_rejected_fraction,
    )
    with named_by("data.train"):
        return run(read_captions.STAGE, source, dataset=dataset)


def _check_ids(data: DataConfig, split: SplitConfig) -> None:
    """Annotated boxes name their images by id, and counted ids would take them to any other image."""
    if form := _form_of_counted(data, split):
        raise ValueError(
            f"the boxes of '{split.instances}' name images by id, and images of the form '{form}' are numbered as they "
            "come; give a parquet column of the ids (id_column), or the images as a COCO folder"
        )


def _check_caption_ids(data: DataConfig, split: SplitConfig) -> None:
    """As `_check_ids`, of the captions of a COCO file."""
    form = _form_of_counted(data, split)
    if data.root is None or not form:
        return
    if any(file.form == "coco" for file in find_files((split.captions,), Folder(data.root).uri, "auto")):
        raise ValueError(
            f"data.train.captions '{split.captions}' name images by id, and images of the form '{form}' are numbered "
            "as they come; give the images as a COCO folder, the captions in the tars or parquet files of the images, "
            "or, for labels alone, labels.candidates: pool"
        )


def _form_of_counted(data: DataConfig, split: SplitConfig) -> str:
    """The form of images that get their ids by counting, '' where ids are given."""
    form = read_images.form_of(_images_source(data, split))
    return "" if form == "coco" or split.id_column is not None else form


def _share_files(data: DataConfig, split: SplitConfig) -> bool:
    """Whether images and captions of a split are in tars or parquet files, whose order gives both the same ids.

    Raises ValueError where they are in different ones and no column has ids: captions would go to other images; and
    where a column has ids, and captions are in tars.
    """
    if data.root is None:
        return False
    root, form = Folder(data.root).uri, read_images.form_of(_images_source(data, split))
    if form not in _PACKED:
        return False
    said = find_files((split.captions,), root, "auto")
    if not all(file.form in _PACKED for file in said):
        return False
    tar = next((file for file in said if file.form == "webdataset"), None)
    if split.id_column is not None and tar is not None:
        raise ValueError(
            f"data.train.id_column is '{split.id_column}' and {tar.uri} is a tar, whose captions have no such column; "
            "give captions as parquet, or set id_column: null"
        )
    shown = find_packed(root, split.images, form)
    stems = [[PurePosixPath(file.name).stem for file in files] for files in (shown, said)]
    if split.id_column is None and stems[0] != stems[1]:
        differ = next((pair for pair in zip(*stems, strict=False) if len(set(pair)) > 1), None)
        what = f"first '{differ[0]}' and '{differ[1]}' differ" if differ else "the first ones alike"
        raise ValueError(
            f"data.train.images '{split.images}' are {len(shown)} files and data.train.captions '{split.captions}' "
            f"{len(said)}, {what}; images are numbered by file, so name the same files for both, or set id_column"
        )
    return True


def _has_image_ids(captions: Artifact) -> bool:
    return any(part["image_id"].null_count < len(part) for part in iter_tables(captions, "captions", ["image_id"]))


def _dataset(data: DataConfig, run: Runner) -> Artifact | None:
    return run(make_scenes.STAGE, data.scenes) if data.root is None else None


def _trained(plan: TeacherTrainingConfig, run: Runner) -> Artifact:
    dataset = run(make_scenes.STAGE, plan.scenes)
    seen = run(read_images.STAGE, read_images.ImagesConfig(split="train"), dataset=dataset)
    said = run(read_captions.STAGE, read_captions.CaptionsConfig(split="train"), dataset=dataset)
    return run(train_teacher.STAGE, plan.clip, images=seen, captions=said)
