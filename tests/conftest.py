"""What several tests need: the shared reference data and small or seeded CLIP models."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import CLIP

from regionclip.clip_models import create_clip


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor write the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RGC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data: RGC_SHARED, or `shared` beside the repository; skips without one."""
    folder = Path(os.environ.get("RGC_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}; set RGC_SHARED to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def make_clip() -> Callable[[str], Any]:
    """A seeded CLIP of a model name, whose BatchNorm is no identity."""

    def make(model: str) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            clip = create_clip(model)
            for module in clip.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    torch.nn.init.normal_(module.weight, 1.0, 0.2)
                    torch.nn.init.normal_(module.bias, 0.0, 0.2)
                    module.running_mean.normal_(0.0, 0.2)
                    module.running_var.uniform_(0.5, 1.5)
        return clip

    return make


@pytest.fixture(scope="session")
def tiny_clip(make_clip: Callable[[str], Any]) -> CLIP:
    """A seeded CLIP of width 32; copy it before changing it."""
    clip: CLIP = make_clip("rgc-test-rn")
    return clip


@pytest.fixture(scope="session")
def golden_clip(shared: Path) -> CLIP:
    """RN50-quickgelu with the weights of the reference numbers; copy it before changing it."""
    spec = importlib.util.spec_from_file_location("weights_recipe", shared / "golden" / "weights_recipe.py")
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    clip = create_clip("RN50-quickgelu")
    arrays = recipe.state_dict({name: tuple(tensor.shape) for name, tensor in clip.state_dict().items()})
    state = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
    missing, unexpected = clip.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return clip
