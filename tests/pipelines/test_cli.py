"""The command line itself: help without heavy imports, exit codes of wrong use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import VERBS
from pipelines.execute import PIPELINES
from regionclip.place_errors import PlaceError

Rgc = Callable[..., Any]


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "all", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = """
import json, sys
from pipelines.cli import main
try:
    main()
except SystemExit as leaving:
    print(json.dumps([leaving.code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
    command = [sys.executable, "-c", code, *arguments]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    exit_code, modules = json.loads(done.stdout.splitlines()[-1])
    assert exit_code == 0
    assert "Usage:" in done.stdout
    assert not {"torch", "ray", "mlflow", "open_clip", "spacy", "pyarrow", "numpy"} & set(modules)


def test_help_names_every_verb_with_its_whole_summary(rgc: Rgc) -> None:
    shown = rgc("run", "--help").out
    assert set(VERBS) == set(PIPELINES)
    for verb, summary in VERBS.items():
        assert verb in shown
        assert summary in shown


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run", "everything"], "everything"),
        (["run", "all", "--threshold", "1"], "--threshold"),
        (["run", "pretrain", "--regions", "0123"], "--regions"),
        (["data", "scenes"], "--out"),
        (["show"], "key"),
    ],
)
def test_wrong_use_is_named_and_ends_with_2(rgc: Rgc, arguments: list[str], word: str) -> None:
    outcome = rgc(*arguments)
    assert outcome.code == 2
    assert word in outcome.err
    assert "Traceback" not in outcome.err


def test_only_labels_are_given_regions(rgc: Rgc) -> None:
    assert "--regions" in rgc("run", "label", "--help").out
    assert "--regions" not in rgc("run", "pseudo-label", "--help").out


def test_a_store_that_cannot_be_written_is_refused(smoke: Any, rgc: Rgc, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = tmp_path / "file" / "store"
    outcome = rgc("run", "all", "--config", str(smoke.config), "--store", str(store))
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: the store {store} cannot be written")
    assert "choose another --store" in outcome.err


def test_a_folder_of_scenes_may_have_brackets_in_its_name(rgc: Rgc, tmp_path: Path) -> None:
    out = tmp_path / "a[" / "b]"
    outcome = rgc("data", "scenes", "--out", str(out), "--set", "data.scenes.num_images={train: 1, val: 1, test: 1}")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"wrote {out} (" in outcome.out


def test_looking_for_what_is_not_there(smoke: Any, rgc: Rgc, tmp_path: Path) -> None:
    assert "holds no artifacts" in rgc("ls", "--store", str(tmp_path)).out
    for arguments in (["show", "nokey"], ["ui"]):
        outcome = rgc(*arguments, "--store", str(tmp_path / "none"))
        assert outcome.code == 2
        assert outcome.err.startswith("error: ")


def test_a_place_that_fails_is_the_works_failure_and_no_fault_of_the_user(
    rgc: Rgc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(store: str) -> None:
        raise PlaceError(f"{store}/a cannot be written ([Errno 28] No space left on device); free it")

    monkeypatch.setattr("pipelines.inspect.print_artifacts", fail)
    outcome = rgc("ls", "--store", "/here")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "error: /here/a cannot be written ([Errno 28] No space left on device); free it\n"
