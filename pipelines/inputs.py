"""What a pipeline starts from: images, captions, boxes and class names of the data, and the models given or trained."""

from __future__ import annotations

from dataclasses import replace

from pipelines.config import DataConfig, PipelineConfig, SplitConfig, TeacherTrainingConfig
from pipelines.runner import Runner
from regionclip.clip_models import has_resnet
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
from stages.contract import Artifact


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
    pool_captions(config, run)
    boxes(config, run, train, classes.base)
    images(config, run, test)
    boxes(config, run, test, classes.base + classes.novel)


def images(config: PipelineConfig, run: Runner, split: SplitConfig) -> Artifact:
    """The images of a split."""
    source = read_images.ImagesConfig(
        config.data.root,
        split.images,
        split.instances,
        split.split,
        format=split.format,
        image_column=split.image_column,
        uri_column=split.uri_column,
        id_column=split.id_column,
    )
    return run(read_images.STAGE, source, dataset=_dataset(config.data, run))


def captions(config: PipelineConfig, run: Runner) -> Artifact:
    """The captions of the train split."""
    train = config.data.train
    packed = train.format in ("webdataset", "parquet")
    source = read_captions.CaptionsConfig(
        config.data.root,
        (train.captions,),
        train.split,
        column=train.caption_column,
        number_images=packed and train.id_column is None,
        image_id_column=train.id_column if packed else None,
    )
    return run(read_captions.STAGE, source, dataset=_dataset(config.data, run))


def pool_captions(config: PipelineConfig, run: Runner) -> Artifact:
    """The captions that the concept pool is made of."""
    if config.data.pool_captions is None:
        return captions(config, run)
    given = config.data.pool_captions
    return run(read_captions.STAGE, given if given.root is not None else replace(given, root=""))


def boxes(config: PipelineConfig, run: Runner, split: SplitConfig, classes: tuple[str, ...]) -> Artifact:
    """The boxes of these classes, and of no other, in a split."""
    source = read_boxes.BoxesConfig(config.data.root, split.instances, split.split, classes)
    return run(read_boxes.STAGE, source, dataset=_dataset(config.data, run))


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
    return run(
        propose_regions.STAGE,
        config.proposals,
        images=images(config, run, split),
        proposer=proposer(config, run) if "rpn" in methods else None,
        boxes=boxes(config, run, split, seen) if "ground_truth" in methods else None,
    )


def class_embeddings(config: PipelineConfig, run: Runner) -> Artifact:
    """Text embeddings of all class names, base before novel, on the student's side."""
    names = extract_concepts.ConceptsConfig(names=config.classes.base + config.classes.novel)
    concepts = run(extract_concepts.STAGE, names)
    return run(embed_concepts.STAGE, config.embeddings, concepts=concepts, clip=student_start(config, run))


def _dataset(data: DataConfig, run: Runner) -> Artifact | None:
    return run(make_scenes.STAGE, data.scenes) if data.root is None else None


def _trained(plan: TeacherTrainingConfig, run: Runner) -> Artifact:
    dataset = run(make_scenes.STAGE, plan.scenes)
    seen = run(read_images.STAGE, read_images.ImagesConfig(split="train"), dataset=dataset)
    said = run(read_captions.STAGE, read_captions.CaptionsConfig(split="train"), dataset=dataset)
    return run(train_teacher.STAGE, plan.clip, images=seen, captions=said)
