from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import encode_regions, evaluate, propose_regions
from stages.contract import Artifact, Result, Stage, canonical_json
from stages.storage import Folder


@dataclass(frozen=True)
class CutConfig:
    length: int = 3
    tools: tuple[str, ...] = ("saw",)


def cut(context: Any, config: CutConfig, **inputs: Artifact) -> Result:
    raise AssertionError("a key is known without running")


STAGE = Stage("cut", 1, {"wood": ("log", "board"), "plan": ("drawing",)}, "plank", cut, frozenset({"plan"}))
LOG = Artifact("log", "aaaa", Folder("/nowhere/log/aaaa"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=6))
@settings(max_examples=50, deadline=None)
def test_key_does_not_depend_on_the_order_of_dict_keys(values: dict[str, Any]) -> None:
    def reverse(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: reverse(inner) for name, inner in reversed(value.items())}
        return [reverse(inner) for inner in value] if isinstance(value, list) else value

    forward = replace(STAGE, identity=lambda config: values)
    backward = replace(STAGE, identity=lambda config: reverse(values))
    assert forward.key(None, {"wood": LOG}) == backward.key(None, {"wood": LOG})


@given(json_values)
@settings(max_examples=50, deadline=None)
def test_canonical_json_reads_back_as_the_same_value(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


def test_key_changes_with_everything_that_changes_the_bytes() -> None:
    drawing = Artifact("drawing", "dddd", Folder("/nowhere/drawing/dddd"))
    keys = [
        STAGE.key(CutConfig(), {"wood": LOG}),
        STAGE.key(CutConfig(length=4), {"wood": LOG}),
        STAGE.key(CutConfig(), {"wood": replace(LOG, key="bbbb")}),
        STAGE.key(CutConfig(), {"wood": LOG, "plan": drawing}),
        replace(STAGE, version=2).key(CutConfig(), {"wood": LOG}),
        replace(STAGE, name="saw").key(CutConfig(), {"wood": LOG}),
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("stage", "config"),
    [
        (propose_regions.STAGE, propose_regions.ProposeConfig()),
        (encode_regions.STAGE, encode_regions.EncodeConfig()),
        (evaluate.STAGE, evaluate.EvaluateConfig()),
    ],
)
def test_how_much_may_be_lost_is_no_part_of_a_key(stage: Stage, config: Any) -> None:
    inputs: dict[str, Artifact | None] = {
        name: Artifact(kinds[0], "aaaa", Folder("/nowhere")) for name, kinds in stage.inputs.items()
    }
    assert stage.key(config, inputs) == stage.key(replace(config, max_rejected_fraction=0.5), inputs)
    assert stage.key(config, inputs) != stage.key(replace(config, part_size=7), inputs)


def test_key_does_not_know_where_an_input_lies_nor_whether_an_optional_one_was_spelled_out() -> None:
    key = STAGE.key(CutConfig(), {"wood": LOG})
    assert STAGE.key(CutConfig(), {"wood": replace(LOG, folder=Folder("memory://elsewhere")), "plan": None}) == key


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "cut needs the input 'wood' \\(log or board\\)"),
        ({"wood": LOG, "nails": LOG}, "cut has no input 'nails'; it takes wood, plan"),
        ({"wood": Artifact("stone", "cccc", Folder("/x"))}, "'wood' is a stone \\(cccc\\); give a log or board"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(inputs: dict[str, Artifact], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STAGE.key(CutConfig(), inputs)


def test_a_config_value_that_json_cannot_tell_apart_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        replace(STAGE, identity=lambda config: {"rate": float("nan")}).key(None, {"wood": LOG})
