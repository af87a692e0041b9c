"""Draw the embedded data set: captioned and boxed pictogram scenes in COCO layout."""

from __future__ import annotations

from regionclip.scenes.dataset import ScenesConfig, write_scenes
from stages.contract import Context, Result, Stage


def make_scenes(context: Context, config: ScenesConfig) -> Result:
    """Write `images/*.jpg`, `annotations/instances.json` and `annotations/captions.json`."""
    metrics = write_scenes(
        config,
        lambda name, data: context.folder.write(name, data, durable=False),
        lambda done, total: context.advance(done, total, "scenes"),
    )
    return Result(metrics=metrics)


STAGE = Stage(name="make_scenes", version=1, inputs={}, output="dataset", run=make_scenes)
