"""The comparison as one self-contained HTML page: no script and no outside resource."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jinja2

from regionclip.report.comparison import AP50, BOX_ACCURACY, DEPARTURE, GROUPS, Recipe, best_recipe, difference

ABSENT = "–"


@dataclass(frozen=True)
class Plot:
    """One plot in the page's two colour schemes (PNG bytes), with the words for who cannot see it."""

    light: bytes
    dark: bytes
    alt: str


@dataclass(frozen=True)
class Picture:
    """A JPEG with its heading and one line of text."""

    jpeg: bytes
    heading: str
    text: str = ""


@dataclass(frozen=True)
class ArtifactLine:
    """One artifact of the lineage; maker: the stage and its version; inputs: (argument, kind, key)."""

    kind: str
    key: str
    maker: str
    inputs: Sequence[tuple[str, str, str]] = ()
    marks: Sequence[str] = ()

    @classmethod
    def of(cls, kind: str, key: str, manifest: Mapping[str, Any]) -> Self:
        """The line of an artifact with this manifest."""
        inputs = [(name, given["kind"], given["key"]) for name, given in manifest["inputs"].items()]
        maker = f"{manifest['stage']} v{manifest['version']}"
        return cls(kind, key, maker, inputs, manifest["marks"])


@dataclass(frozen=True)
class Page:
    """Everything the page shows.

    recipes, baseline, control: the rows, the plain start among them and the control, if there is one.
    detection, labels: plots of the two sections; a missing one leaves no gap.
    examples, label_examples: rows of pictures, each beside its image id.
    lineage: artifacts, sources first.
    """

    title: str
    recipes: Sequence[Recipe]
    baseline: int
    control: int | None
    marks: Sequence[str]
    pool_size: int
    detection: Sequence[Plot]
    labels: Sequence[Plot]
    examples: Mapping[int, Sequence[Picture]]
    label_examples: Mapping[int, Sequence[Picture]]
    lineage: Sequence[ArtifactLine]


def render(page: Page) -> str:
    """The HTML text of the page."""
    best = best_recipe(page.recipes)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            groups=GROUPS,
            measures=((BOX_ACCURACY, "Box accuracy"), (AP50, "AP50")),
            best=best,
            lead=lead(page.recipes, page.baseline, page.control),
            departure=DEPARTURE,
            difference=difference,
            departures=[recipe for recipe in page.recipes if recipe.departure],
        )
    )


def environment() -> jinja2.Environment:
    """The templates of this package: values are escaped, and an unknown name is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=percent, points=points, data_uri=data_uri, thousands=thousands)
    return made


def lead(recipes: Sequence[Recipe], baseline: int, control: int | None) -> str:
    """The page's first sentence: which recipe is best on novel classes, and by how much."""
    best = best_recipe(recipes)
    if best is None:
        return "No recipe found an object of a novel class."
    text = f"Best on novel classes: {recipes[best].title}, with an AP50 of {percent(recipes[best].value('AP50_novel'))}"
    others = [(index, words) for index, words in ((baseline, "the plain start"), (control, "the control"))]
    changes = [
        f"{points(difference(recipes[best], recipes[index], 'AP50_novel'))} against {words}"
        for index, words in others
        if index is not None and index != best
    ]
    return f"{text}{': ' if changes else ''}{' and '.join(changes)}."


def percent(value: float | None) -> str:
    """A fraction as a percentage with one decimal, without the sign."""
    return ABSENT if value is None else f"{100 * value:.1f}"


def points(value: float | None) -> str:
    """A difference of fractions as signed percentage points with one decimal."""
    return ABSENT if value is None else f"{100 * value:+.1f}".replace("-", "−")


def thousands(value: int) -> str:
    """A count with a comma at each thousand."""
    return f"{value:,}"


def data_uri(data: bytes, media_type: str) -> str:
    """The bytes as a URI that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
