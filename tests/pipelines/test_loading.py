"""Configuration is checked before any work: unknown keys and wrong types are named, presets can be built upon."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipelines.config import PipelineConfig
from pipelines.loading import load, preset_names


@dataclass(frozen=True)
class Inner:
    threshold: float = 0.1
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    labels: Inner = field(default_factory=Inner)
    inners: tuple[Inner, ...] = ()
    named: Mapping[str, Inner] = field(default_factory=dict)
    root: str | None = None


@pytest.fixture
def write(tmp_path: Path):
    def _write(text: str, name: str = "c.yaml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return _write


def test_an_override_beats_the_file_and_the_file_beats_the_default(write):
    path = write("labels: {threshold: 0.2, names: [a, b]}")
    assert load(Outer, path).labels == Inner(0.2, ("a", "b"))
    assert load(Outer, path, ["labels.threshold=0.3"]).labels.threshold == 0.3


def test_extends_takes_what_the_file_leaves_out_from_the_other(write):
    base = write("labels: {threshold: 0.2, names: [a]}\nroot: here", "base.yaml")
    child = load(Outer, write(f"extends: {base}\nlabels: {{threshold: 0.4}}"))
    assert (child.labels.threshold, child.labels.names, child.root) == (0.4, ("a",), "here")


def test_a_file_to_build_on_is_looked_for_beside_the_file_that_says_it(write, tmp_path, monkeypatch):
    (tmp_path / "team").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write("root: here", "base.yaml")
    write("extends: ../base.yaml", "team/middle.yml")
    path = write("extends: middle.yml", "team/own.yaml")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load(Outer, path).root == "here"
    monkeypatch.chdir(tmp_path)
    assert load(Outer, "team/own.yaml").root == "here"


def test_a_file_whose_base_has_a_list_for_its_keys_is_named(write):
    base = write("inners: [{threshold: 1}]", "base.yaml")
    with pytest.raises(ValueError, match=r"own\.yaml, which extends base\.yaml: .*give the whole list"):
        load(Outer, write("extends: base.yaml\ninners: {0: {threshold: 2}}", "own.yaml"))
    assert load(Outer, base).inners == (Inner(1.0),)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("labels: {treshold: 0.2}", [], "unknown config key 'labels.treshold'.*did you mean 'labels.threshold'"),
        ("{}", ["lables.threshold=1"], "unknown config key 'lables'.*did you mean 'labels'"),
        ("inners: [{treshold: 1}]", [], "unknown config key 'inners.0.treshold'"),
        ("{}", ["named.a.treshold=1"], "unknown config key 'named.a.treshold'.*did you mean 'named.a.threshold'"),
        ("labels: {threshold: many}", [], "'labels.threshold' has the value 'many'"),
        ("{}", ["labels.threshold"], "give KEY=VALUE"),
        ("[1, 2]", [], "must hold keys and values"),
        ("labels: {threshold: 0.2", [], "not readable YAML"),
    ],
)
def test_a_wrong_config_is_named_with_its_key_and_value(write, text, overrides, message):
    with pytest.raises(ValueError, match=message):
        load(Outer, write(text), overrides)


@pytest.mark.parametrize("text", ["*.tar", "[0-9]*.tar", "%x", "@x", "!x y", "a=b*", "{x}.tar: y"])
def test_a_value_that_is_no_yaml_is_taken_as_text(write, text):
    assert load(Outer, write("{}"), [f"root={text}", "labels.names=[a, '*']"]) == Outer(
        Inner(names=("a", "*")), root=text
    )


@pytest.mark.parametrize("value", ["[a, b", "{a: 1", "[a, *.tsv]", "'text", "${x"])
def test_a_value_that_cannot_be_read_is_named_with_its_set(write, value):
    with pytest.raises(ValueError, match=rf"\A--set root={re.escape(value)}: [^\n]+\Z"):
        load(Outer, write("{}"), ["labels.threshold=0.3", f"root={value}"])


@pytest.mark.parametrize("override", ["inners.0.threshold=1", "inners[0].threshold=1", "labels=[1]"])
def test_an_override_of_one_place_in_a_list_is_named_with_the_remedy(write, override):
    path = write("inners: [{threshold: 0.1}]\nlabels: {threshold: 0.2}")
    with pytest.raises(ValueError, match=rf"\A--set {re.escape(override)}: .*replaced whole: give the whole list\Z"):
        load(Outer, path, ["root=here", override])


def test_a_file_or_preset_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ValueError, match=r"nowhere\.yaml does not exist; presets are .*demo"):
        load(Outer, "nowhere.yaml")
    with pytest.raises(ValueError, match="did you mean 'demo'"):
        load(Outer, "demoo")


def test_a_circle_of_extends_is_refused(write, tmp_path):
    other = tmp_path / "other.yaml"
    circle = write(f"extends: {other}")
    other.write_text(f"extends: {circle}")
    with pytest.raises(ValueError, match="extends itself"):
        load(Outer, circle)


def test_a_circle_of_extends_between_folders_is_refused(write, tmp_path):
    (tmp_path / "team").mkdir()
    write("extends: ../c.yaml", "team/own.yaml")
    with pytest.raises(ValueError, match="extends itself"):
        load(Outer, write("extends: team/own.yaml"))


def test_every_preset_of_the_package_is_found_by_name():
    assert {"demo", "coco_small"} <= set(preset_names())


@pytest.mark.parametrize("key", ["data.root", "data.pool_captions"])
def test_a_password_in_a_uri_is_not_taken_into_what_is_kept(key: str) -> None:
    uri = "sftp://anna:hidden@host/folder"
    value = uri if key == "data.root" else f"{{files: [{uri}]}}"
    with pytest.raises(ValueError, match=rf"config key '{key}.*' has a password in its URI") as caught:
        load(PipelineConfig, "demo", [f"{key}={value}"])
    assert "hidden" not in str(caught.value)
    assert load(PipelineConfig, "demo", ["data.root=sftp://anna@host:22/a:b@c"]).data.root
