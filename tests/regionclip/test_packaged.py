"""The weights in the package load, stay small, and say how they were made."""

import json
from pathlib import Path

import pytest

from regionclip.clip_models import read_pretrained
from regionclip.packaged import FOLDER, packaged_weights
from regionclip.proposals.network import load_proposer

CLIPS = {"pictograms-teacher": "rgc-rn-w20", "pictograms-student": "rgc-rn-w16"}


@pytest.mark.parametrize(("name", "model"), CLIPS.items())
def test_a_packaged_clip_is_read_by_name_and_counts_as_trained(name, model):
    clip, untrained = read_pretrained(model, f"rgc:{name}", allow_untrained=False, seed=0)
    assert not untrained
    assert float(clip.logit_scale.detach()) != pytest.approx(2.6593, abs=1e-3)  # where every training starts


def test_the_packaged_proposer_loads():
    assert sum(each.numel() for each in load_proposer(FOLDER / "pictograms-proposer").parameters()) > 100_000


def test_all_weights_together_are_at_most_15_mb_and_have_a_provenance():
    folders = [path for path in FOLDER.iterdir() if path.is_dir()]
    assert len(folders) == 3
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors")) <= 15_000_000
    for folder in folders:
        provenance = json.loads((folder / "provenance.json").read_text())
        assert {"command", "config", "git", "metrics"} <= set(provenance), folder.name


def test_an_unknown_packaged_name_lists_those_that_exist():
    with pytest.raises(ValueError, match="rgc:pictograms-student"):
        packaged_weights("rgc:pictogram")


def test_any_other_text_is_not_a_packaged_name(tmp_path: Path):
    assert packaged_weights(str(tmp_path)) is None
