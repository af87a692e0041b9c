"""Configuration is checked before any work: unknown keys and wrong types are named, presets can be built upon."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipelines.loading import load, preset_names


@dataclass(frozen=True)
class Inner:
    threshold: float = 0.1
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    labels: Inner = field(default_factory=Inner)
    inners: tuple[Inner, ...] = ()
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


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("labels: {treshold: 0.2}", [], "unknown config key 'labels.treshold'.*did you mean 'labels.threshold'"),
        ("{}", ["lables.threshold=1"], "unknown config key 'lables'.*did you mean 'labels'"),
        ("inners: [{treshold: 1}]", [], "unknown config key 'inners.0.treshold'"),
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


def test_every_preset_of_the_package_is_found_by_name():
    assert {"demo", "coco_small"} <= set(preset_names())
