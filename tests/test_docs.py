"""What docs/labelling.md shows is taken by the program as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest
from PIL import Image

from pipelines.config import PipelineConfig
from pipelines.loading import load

GUIDE = (Path(__file__).parents[1] / "docs" / "labelling.md").read_text(encoding="utf-8")
BLOCKS = [dedent(block) for block in re.findall(r"(?:^(?: {4}.*)?\n)+", GUIDE, re.MULTILINE) if block.strip()]
CONFIGS = [
    block for block in BLOCKS if re.match(r"\n*(extends|proposals|proposer_weights|teacher|labels|resources):", block)
]
PROGRAMS = [block for block in BLOCKS if "import torch" in block]


@pytest.mark.parametrize("text", CONFIGS)
def test_each_config_of_the_guide_is_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text if "extends" in text else f"extends: coco_small\ndata: {{root: /data}}\n{text}")
    load(PipelineConfig, str(path))


def test_the_guide_shows_a_config_of_every_form_of_images() -> None:
    assert sum("root:" in text for text in CONFIGS) == 5


def test_the_program_of_the_guide_names_a_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (80, 70), "red").save("photo.jpg")
    (program,) = PROGRAMS
    exec(program, {})
    assert re.match(r"\['(anchor|cup|kite)'\] tensor\(\[\[0\.", capsys.readouterr().out)
