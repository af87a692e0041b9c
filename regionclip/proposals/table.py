"""Proposals as a table with one row an image."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import torch

from regionclip.grouped import list_column
from regionclip.loading import ImageRecord
from regionclip.proposals.proposer import Proposals
from regionclip.schemas import BOX, PROPOSALS


def proposals_table(records: Sequence[ImageRecord], proposals: Sequence[Proposals]) -> pa.Table:
    """One row (`schemas.PROPOSALS`) an image."""
    counts = [len(each) for each in proposals]
    boxes = torch.cat([torch.empty(0, 4), *(each.boxes for each in proposals)]).float().numpy()
    objectness = torch.cat([torch.empty(0), *(each.objectness for each in proposals)]).float().numpy()
    columns = [
        pa.array([record.image_id for record in records], pa.int64()),
        pa.array([record.file_name for record in records], pa.string()),
        pa.array([record.width for record in records], pa.int32()),
        pa.array([record.height for record in records], pa.int32()),
        list_column(boxes, counts, BOX),
        list_column(objectness, counts, pa.float32()),
    ]
    return pa.Table.from_arrays(columns, schema=PROPOSALS)
