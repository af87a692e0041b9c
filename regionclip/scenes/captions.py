"""The caption grammar: what a person might write under a scene, incomplete and now and then wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regionclip.scenes.pictograms import PICTOGRAMS, Pictogram
from regionclip.scenes.render import Scene, SceneObject

_BY_NAME: dict[str, Pictogram] = {pictogram.name: pictogram for pictogram in PICTOGRAMS}
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
_FRAMES = ("", "", "", "a picture of ", "a photo of ", "a drawing of ", "an image of ", "there is ", "we see ")
_PLACES = {
    "plain": "on a plain background",
    "smooth": "in front of a smooth background",
    "striped": "on a striped wall",
    "checkered": "on a checkered floor",
    "patchy": "on a patchy carpet",
}
_RELATIONS = ("next to", "near", "beside", "and", "with", "and")


@dataclass(frozen=True)
class CaptionConfig:
    """How complete and how true captions are; all values are chances.

    mention: an object class of the scene is named.
    absent: a class that is not in the scene is named as well.
    colour, size: an adjective of that sort is put before a noun.
    synonym: a class that has another word is called by it.
    place: the background is named at the end.
    full_stop: the caption ends in one.
    """

    mention: float = 0.85
    absent: float = 0.08
    colour: float = 0.4
    size: float = 0.2
    synonym: float = 0.15
    place: float = 0.25
    full_stop: float = 0.5


@dataclass(frozen=True)
class Caption:
    """A caption's text, the classes of the scene it names, and the absent class it names, if any."""

    text: str
    named: tuple[str, ...]
    absent: str | None


def write_caption(scene: Scene, config: CaptionConfig, rng: np.random.Generator) -> Caption:
    """One caption of a scene that shows at least one object."""
    groups: dict[str, list[SceneObject]] = {}
    for shown in scene.objects:
        groups.setdefault(shown.name, []).append(shown)
    order = [str(name) for name in rng.permutation(list(groups))]
    named = [name for name in order if rng.random() < config.mention] or order[:1]
    phrases = [_noun_phrase(groups[name], scene, config, rng) for name in named]
    absent = None
    if rng.random() < config.absent:
        absent = str(rng.choice([name for name in _BY_NAME if name not in groups]))
        phrases.append(_counted("", _word(absent, 1, config, rng), 1))
    text = _join(phrases, _relation(groups, named, rng), rng)
    frame = str(rng.choice(_FRAMES))
    if frame == "there is " and len(groups[named[0]]) > 1:
        frame = "there are "
    tail = f" {_PLACES[scene.background]}" if rng.random() < config.place else ""
    stop = "." if rng.random() < config.full_stop else ""
    return Caption(f"{frame}{text}{tail}{stop}", tuple(named), absent)


def _noun_phrase(group: list[SceneObject], scene: Scene, config: CaptionConfig, rng: np.random.Generator) -> str:
    """Such as 'a small red umbrella' or 'two cats'; an adjective only where it is true of the whole group."""
    adjectives = []
    longest = {max(shown.box[2] - shown.box[0], shown.box[3] - shown.box[1]) for shown in group}
    if rng.random() < config.size:
        third = scene.image.shape[0] / 3
        if min(longest) > third:
            adjectives.append("large" if rng.random() < 0.5 else "big")
        elif max(longest) < third:
            adjectives.append("small")
    colours = {shown.colour for shown in group}
    if rng.random() < config.colour and len(colours) == 1:
        adjectives.extend(colours)
    noun = _word(group[0].name, len(group), config, rng)
    return _counted("".join(f"{adjective} " for adjective in adjectives), noun, len(group))


def _word(name: str, count: int, config: CaptionConfig, rng: np.random.Generator) -> str:
    pictogram = _BY_NAME[name]
    forms = (pictogram.name, pictogram.plural)
    if pictogram.synonym is not None and rng.random() < config.synonym:
        forms = pictogram.synonym
    return forms[count > 1]


def _counted(adjectives: str, noun: str, count: int) -> str:
    phrase = f"{adjectives}{noun}"
    if count > 1:
        return f"{_NUMBERS[count]} {'pairs of ' if noun == 'scissors' else ''}{phrase}"
    if noun == "scissors":
        return f"a pair of {phrase}"
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def _relation(groups: dict[str, list[SceneObject]], named: list[str], rng: np.random.Generator) -> str | None:
    """A true spatial relation of the first two named classes when both are single and clearly apart, at times."""
    if len(named) < 2 or any(len(groups[name]) > 1 for name in named[:2]) or rng.random() < 0.5:
        return None
    first, second = (groups[name][0].box for name in named[:2])
    if first[3] <= second[1]:
        return "above"
    if second[3] <= first[1]:
        return "below"
    if first[2] <= second[0]:
        return "to the left of"
    if second[2] <= first[0]:
        return "to the right of"
    return None


def _join(phrases: list[str], relation: str | None, rng: np.random.Generator) -> str:
    """'A', 'A near B', 'A above B and C', 'A, B, C and D'."""
    if len(phrases) == 1:
        return phrases[0]
    if relation is None and len(phrases) > 2 and rng.random() < 0.5:
        return f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    text = f"{phrases[0]} {relation or rng.choice(_RELATIONS)} {phrases[1]}"
    if len(phrases) == 2:
        return text
    rest = phrases[2:]
    return f"{text}, {', '.join(rest[:-1])} and {rest[-1]}" if len(rest) > 1 else f"{text} and {rest[0]}"
