"""The config of a whole pipeline: one frozen record, of which every stage gets its own part."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import stages
from regionclip.concepts.parsing import ParsingConfig
from regionclip.image_sources.listing import Format
from regionclip.scenes.dataset import ScenesConfig
from regionclip.training.pretrain import LossWeights, PretrainConfig
from regionclip.training.proposer import ProposerTrainingConfig
from regionclip.training.transfer import TransferConfig
from stages.contract import Resources
from stages.embed_concepts import EmbeddingsConfig
from stages.encode_regions import EncodeConfig
from stages.evaluate import EvaluateConfig
from stages.extract_concepts import ConceptsConfig
from stages.label_regions import LabelsConfig
from stages.propose_regions import ProposeConfig
from stages.read_captions import CaptionsConfig
from stages.read_clip import ClipConfig
from stages.report_concepts import ReportConceptsConfig
from stages.report_labels import ReportLabelsConfig
from stages.train_teacher import TeacherConfig


@dataclass(frozen=True)
class SplitConfig:
    """One split of a data folder; names are relative to its root.

    split: take only the images whose record has this value under 'split'; None takes all that the files list.
    format: of the images, as `stages.read_images` tells forms apart; captions of tars and parquet files then get the
    ids of the images in the same files. image_column, uri_column, id_column, caption_column: columns of parquet files.
    max_rejected_fraction: how many boxes, of all, may be left out as unfit; so of captions, and of images outside of
    COCO.
    """

    images: str = "images"
    instances: str = "annotations/instances.json"
    captions: str = "annotations/captions.json"
    split: str | None = None
    format: Format = "auto"
    image_column: str | None = None
    uri_column: str | None = None
    id_column: str | None = None
    caption_column: str = "caption"
    max_rejected_fraction: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.max_rejected_fraction <= 1:
            raise ValueError(f"max_rejected_fraction is {self.max_rejected_fraction}; give a fraction, 0 to 1")


@dataclass(frozen=True)
class DataConfig:
    """A COCO-layout folder, or scenes to draw in its place.

    root: the folder; None draws `scenes`. test: the split that is evaluated on, and nothing else.
    pool_captions: the captions of the concept pool; None takes those of the train split.
    """

    root: str | None = None
    train: SplitConfig = field(default_factory=lambda: SplitConfig(split="train"))
    test: SplitConfig = field(default_factory=lambda: SplitConfig(split="test"))
    pool_captions: CaptionsConfig | None = None
    scenes: ScenesConfig = field(default_factory=ScenesConfig)


@dataclass(frozen=True)
class ClassesConfig:
    """Names of the classes with boxes in transfer training, and of those without."""

    base: tuple[str, ...]
    novel: tuple[str, ...]

    def __post_init__(self) -> None:
        shared = sorted(set(self.base) & set(self.novel))
        if shared:
            raise ValueError(f"classes are both base and novel: {', '.join(shared)}; list each on one side")
        if not self.base or not self.novel:
            raise ValueError(f"{len(self.base)} base and {len(self.novel)} novel classes; name at least one of each")


@dataclass(frozen=True)
class TeacherTrainingConfig:
    """A plain CLIP trained here: on the images and captions of `scenes`, or of the data folder where there is one."""

    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    clip: TeacherConfig = field(default_factory=TeacherConfig)


@dataclass(frozen=True)
class RecipeConfig:
    """One row of the comparison: how the student is made before its transfer.

    pretrain: without it the student stays the plain CLIP it starts from.
    candidates, losses: in place of `labels.candidates` and `pretrain.losses`.
    """

    name: str
    note: str = ""
    pretrain: bool = True
    candidates: Literal["pool", "captions", "weighted"] | None = None
    losses: LossWeights | None = None

    @property
    def uses_labels(self) -> bool:
        """Whether region labels take part; without their losses the row is a control."""
        only_captions = self.losses is not None and not (self.losses.distillation or self.losses.contrastive)
        return self.pretrain and not only_captions


@dataclass(frozen=True)
class ResourcesConfig:
    """How fast: `default` for every stage that `stages` does not name. Never part of a key."""

    default: Resources = field(default_factory=Resources)
    stages: Mapping[str, Resources] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = [module.name for module in pkgutil.iter_modules(stages.__path__)]
        for name, given in {"default": self.default, **self.stages}.items():
            if name not in ("default", *known):
                close = ", ".join(difflib.get_close_matches(name, known)) or "the name of a file in stages/"
                raise ValueError(f"no stage is named '{name}'; did you mean {close}?")
            if min(given.num_workers, given.num_gpus) < 0 or given.num_cpus <= 0 or given.batch_size < 1:
                raise ValueError(
                    f"{name}: {given}; num_workers and num_gpus are 0 or more, num_cpus above 0, batch_size 1 or more"
                )


@dataclass(frozen=True)
class PipelineConfig:
    """Everything of a run. Where `student` is not given it starts from the teacher.

    from_scratch: train teacher, student start and proposer here instead of reading weights; a proposer without
    `proposer_weights` is always trained here. concepts_file: a pool in text form, one name a line, in place of one
    made of captions.
    """

    classes: ClassesConfig
    title: str = "Open-vocabulary detection, recipe by recipe"
    data: DataConfig = field(default_factory=DataConfig)
    teacher: ClipConfig = field(default_factory=ClipConfig)
    student: ClipConfig | None = None
    from_scratch: bool = False
    teacher_training: TeacherTrainingConfig = field(default_factory=TeacherTrainingConfig)
    student_training: TeacherTrainingConfig | None = None
    proposer_weights: str | None = None
    proposer_training: ProposerTrainingConfig = field(default_factory=ProposerTrainingConfig)
    parsing: ParsingConfig = field(default_factory=ParsingConfig)
    concepts: ConceptsConfig = field(default_factory=ConceptsConfig)
    concepts_file: str | None = None
    concepts_report: ReportConceptsConfig = field(default_factory=ReportConceptsConfig)
    embeddings: EmbeddingsConfig = field(default_factory=EmbeddingsConfig)
    proposals: ProposeConfig = field(default_factory=ProposeConfig)
    regions: EncodeConfig = field(default_factory=EncodeConfig)
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    labels_report: ReportLabelsConfig = field(default_factory=ReportLabelsConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    recipes: tuple[RecipeConfig, ...] = ()
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)

    def with_recipe(self, recipe: RecipeConfig) -> PipelineConfig:
        """This config with the recipe's own candidates and losses."""
        labels = replace(self.labels, candidates=recipe.candidates) if recipe.candidates else self.labels
        pretrain = replace(self.pretrain, losses=recipe.losses) if recipe.losses else self.pretrain
        return replace(self, labels=labels, pretrain=pretrain)
