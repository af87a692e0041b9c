"""Source: captions from COCO captions files and `caption<TAB>url` files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from regionclip.coco import Rows, check_rejected, dataset_folder, read_coco_captions, read_tsv_captions
from regionclip.digests import content_sha256
from regionclip.schemas import rejected_table
from stages.contract import Artifact, Context, Result, Stage
from stages.parts import REJECTED, write_table


@dataclass(frozen=True)
class CaptionsConfig:
    """Which captions: all of `files` (.json: COCO captions, .tsv: caption<TAB>url), one file after the other.

    root: the data folder that `files` are relative to; None where a data set artifact is given.
    split: only captions of images in this split, which every file must then state.
    max_rejected_fraction: how many malformed lines, of all, may be left out.
    """

    root: str | None = None
    files: tuple[str, ...] = ("annotations/captions.json",)
    split: str | None = None
    max_rejected_fraction: float = 0.01


def read_captions(context: Context, config: CaptionsConfig, dataset: Artifact | None = None) -> Result:
    """Write `captions.parquet`, and the lines left out as `rejected.parquet` if there are any."""
    rows = _rows(config, dataset_folder(config.root, dataset.folder.local() if dataset else None))
    write_table(context.folder, "captions", rows.table)
    if rows.rejected:
        write_table(context.folder, REJECTED, rejected_table(rows.rejected))
    return Result(metrics={"captions": rows.table.num_rows, "rejected": len(rows.rejected)})


def identity(config: CaptionsConfig) -> Mapping[str, Any]:
    """The content of the captions; names alone where they belong to a data set artifact."""
    if config.root is None:
        return asdict(config)
    rows = _rows(config, dataset_folder(config.root, None))
    return {"content_sha256": content_sha256(rows.table, (f"{item}: {reason}" for item, reason in rows.rejected))}


def _rows(config: CaptionsConfig, root: Path) -> Rows:
    if not config.files:
        raise ValueError("files is empty; name at least one captions file (.json or .tsv)")
    read = [_read(root / name, config.split) for name in config.files]
    rows = Rows(pa.concat_tables([part.table for part in read]), [row for part in read for row in part.rejected])
    check_rejected(rows, config.max_rejected_fraction)
    return rows


def _read(path: Path, split: str | None) -> Rows:
    if path.suffix == ".json":
        return Rows(read_coco_captions(path, split), [])
    if path.suffix == ".tsv":
        if split is not None:
            raise ValueError(f"{path}: split '{split}' is asked but a TSV file has no splits; set split: null")
        return read_tsv_captions(path)
    raise ValueError(
        f"{path}: unknown kind of captions file '{path.suffix}'; give .json (COCO) or .tsv (caption<TAB>url)"
    )


STAGE = Stage(
    name="read_captions",
    version=1,
    inputs={"dataset": ("dataset",)},
    output="captions",
    run=read_captions,
    optional=frozenset({"dataset"}),
    identity=identity,
)
