"""The rules parser on sentences whose noun phrases are known, and on any text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.matcher import Matcher
from spacy.tokens import Doc

from regionclip.concepts.mentions import MAX_WORDS, Mention
from regionclip.concepts.rules import PATTERNS, RulesParser, settle
from regionclip.concepts.words import NOUN, PERSON, PLURAL

PARSER = RulesParser()
WITH_ATTRIBUTES = RulesParser(attributes=True)


def parse(caption: str, parser: RulesParser = PARSER) -> list[Mention]:
    [mentions] = parser.mentions([caption])
    return mentions


def names(caption: str, parser: RulesParser = PARSER) -> str:
    """The concepts, then those with a star that are none."""
    return ", ".join(mention.name + "*" * bool(mention.reason) for mention in parse(caption, parser))


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man riding a wave on top of a surfboard.", "man, wave, top*, surfboard"),
        ("A cat sits on a laptop keyboard", "cat, laptop keyboard"),
        ("A bus drives down the street past a stop sign", "bus, street, stop sign"),
        ("People on skis go down a hill", "person, skis, hill"),
        ("a pair of scissors and three wine glasses", "pair*, scissors, wine glass"),
        ("several teddy bears sitting on the parking meter", "teddy bear, parking meter"),
        ("a traffic light over a busy street", "traffic light, street"),
        ("a woman holding a tennis racquet on a tennis court", "woman, tennis racket, tennis court"),
        ("the man's hat", "man, hat"),
        ("two chess knights beside a small red crescent moon", "chess knight, crescent moon"),
        ("there are two frowning faces above music notes", "frowning face, music note"),
        ("a nintendo wii game controller", "wii game controller"),
        ("a traffic  light\nnear a teddy\tbear", "traffic light, teddy bear"),
        ("men, women and children with knives, forks and spoons", "man, woman, child, knife, fork, spoon"),
        ("a computer mouse, a remote and a microwave on the desk", "computer mouse, remote, microwave, desk"),
        ("3 zebras and 12 sheep in a 19th century barn", "zebra, sheep, century barn"),
        ("", ""),
        ("!!! ... 123", ""),
    ],
)
def test_nouns_with_their_compound_are_mentions(caption: str, expected: str) -> None:
    assert names(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("baseball bats, and a boy with a bat", "baseball bat, boy, bat"),
        ("a boy bats the ball while sheep graze", "boy, ball, sheep"),
        ("a dog chasing a ball and a cat that watches", "dog, ball, cat"),
        ("a man lights a candle under the street lights", "man, candle, street light"),
        ("he parks his bike in the park", "bike, park"),
        ("cars waiting to park near two park benches", "car, park bench"),
        ("people walk next to water and look back", "person, water"),
        ("those look like birds", "bird"),
        ("a bird stands on its back near the news stand", "bird, back*, news stand"),
        ("another rides the waves", "wave"),
        ("they can only hope", ""),
        ("women drink from a cup while a child sleeps", "woman, cup, child"),
        ("a plate, drink, and napkin", "plate, drink, napkin"),
        ("a girl cutting a pizza that was cut in half", "girl, pizza"),
        ("a table set with a set of dishes", "table, set*, dish"),
        ("a person painting a boat beside a painting of a boat", "person, boat, painting, boat"),
        ("a tall building and people building walls", "building, person, wall"),
        ("a plane landing at the airport", "plane, airport"),
        ("the frosting on a cake near a smiling man", "frosting, cake, man"),
        ("people who ski and water that they need", "person, water"),
        ("help the dog catch a ball", "dog, ball"),
        ("people line up near the water", "person, water"),
        ("a street sign marks the corner and frames the view", "street sign, corner, view*"),
        ("waves crash and waves are high", "wave, wave"),
        ("a man is on a crossing and is crossing the street", "man, crossing, street"),
        ("the riding of a bus", "riding, bus"),
        ("a dog crossing the street", "dog, street"),
        ("a car light cover", "car light cover"),
        ("a woman feeding a giraffe standing behind a railing", "woman, giraffe, railing"),
    ],
)
def test_the_context_tells_verbs_from_nouns(caption: str, expected: str) -> None:
    assert names(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("an orange and black cat eats an orange", "cat, orange"),
        ("a red, white and blue kite", "kite"),
        ("an orange and banana", "orange, banana"),
        ("a pink painted bench in a lime green room", "bench, room"),
        ("a light in a light blue kitchen", "light, kitchen"),
        ("a snow covered slope, a slope covered in snow", "slope, slope, snow"),
        ("a snow - covered field, a tree-lined street", "field, street"),
        ("an animal print on a plastic chair", "animal print, plastic chair"),
        ("a brick wall and a glass vase on a wooden table", "brick wall, glass vase, table"),
        ("an asian man in japanese armour", "man, armor"),
        ("the front wheel and the back seat", "wheel, seat"),
        ("a mens restroom", "restroom"),
        ("the most beautiful old sports cars", "sports car"),
    ],
)
def test_what_things_are_like_is_no_part_of_their_name(caption: str, expected: str) -> None:
    assert names(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a hot dog, a potted plant and a living room", "hot dog, potted plant, living room"),
        ("a white living room with a yellow fire hydrant", "living room, fire hydrant"),
        ("double-decker buses and a cross-country skier", "double decker bus, cross country skier"),
        ("a t-shirt, a t - shirt and a tee shirt", "t-shirt, t-shirt, t-shirt"),
        ("a black t-shirt and a wet suit", "t-shirt, wetsuit"),
        ("a motor bike with snow boards and a sky scraper", "motorbike, snowboard, sky scraper"),
        ("a man frisbee", "man, frisbee"),
        ("kids plates", "kid, plate"),
        ("stainless steel refrigerator freezers", "steel refrigerator freezer"),
    ],
)
def test_compounds_are_whole(caption: str, expected: str) -> None:
    assert names(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a photo of the background", "photo*, background*"),
        ("a close - up, a close-up and a close up of a cat", "close-up*, close-up*, close-up*, cat"),
        ("a bunch of bananas in front of the bus", "bunch*, banana, front*, bus"),
        ("a couple of pictures", "couple*, picture*"),
        ("a herd of cows and lots of birds in the middle", "herd*, cow, lot*, bird, middle*"),
        ("a bathroom scene at night", "bathroom scene*, night*"),
        ("side table, picture frame and background music", "side table, picture frame, background music"),
        ("a street with christmas trees in winter", "street, christmas tree, winter*"),
        ("a cat on a red", "cat, red*"),
        ("a property of square meters behind parking meters", "property, square meter*, parking meter"),
        ("a parking lot", "parking lot"),
    ],
)
def test_what_is_about_the_picture_is_mentioned_with_its_reason(caption: str, expected: str) -> None:
    assert names(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A red double decker bus on a big wooden table", "red double decker bus, wooden table"),
        ("a lime green shirt and a sofa", "green shirt, sofa"),
        ("two young men with their next other first umbrellas", "young man, umbrella"),
        ("the same several dogs, more cats", "dog, cat"),
        ("a painted wall", "wall"),
        ("a red and white umbrella", "white umbrella"),
    ],
)
def test_an_attribute_is_the_adjective_before_the_compound(caption: str, expected: str) -> None:
    assert names(caption, WITH_ATTRIBUTES) == expected


def test_a_mention_keeps_what_the_caption_wrote() -> None:
    [bears, television] = parse("Two Teddy Bears on a Television")
    assert (bears.name, bears.surface) == ("teddy bear", "teddy bears")
    assert (television.name, television.surface, television.merged_from) == ("tv", "television", "television")


def test_captions_are_parsed_each_for_itself() -> None:
    captions = ["a dog", "", "a dog and a dog", "cats"]
    assert list(PARSER.mentions(captions)) == [parse(caption) for caption in captions]


VOCABULARY = (
    "a the two red orange young man people dog dogs bus park parks stand stands riding covered painted to of with "
    "and is has , traffic light teddy bear hot living room set back photo very it snow green close up t - building"
)
words = st.lists(st.sampled_from(VOCABULARY.split(" ")), max_size=12)


@given(words)
@settings(max_examples=200, deadline=None)
def test_a_mention_is_a_run_of_nouns_that_a_person_or_a_plural_ends(caption: Sequence[str]) -> None:
    classes = settle(caption)
    runs: list[list[str]] = [[]]
    for word, name in zip(caption, classes, strict=True):
        if name in (NOUN, PERSON, PLURAL):
            runs[-1].append(word)
        if name != NOUN:
            runs.append([])
    expected = [" ".join(run[-MAX_WORDS:]) for run in runs if run]
    if "-" not in caption:
        assert [mention.surface for mention in parse(" ".join(caption))] == expected


@given(words)
@settings(max_examples=100, deadline=None)
def test_attributes_only_lengthen_mentions(caption: Sequence[str]) -> None:
    text = " ".join(caption)
    for plain, attributed in zip(parse(text), parse(text, WITH_ATTRIBUTES), strict=True):
        assert attributed.surface == plain.surface or attributed.surface.split(" ", 1)[1] == plain.surface


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_any_text_gives_short_lower_case_mentions_of_its_words(caption: str) -> None:
    for mention in parse(caption):
        assert 1 <= len(mention.surface.split(" ")) <= MAX_WORDS
        assert mention.name == mention.name.lower().strip()
        assert all(word in caption.lower() for word in mention.surface.split(" "))


BLANK = spacy.blank("en")
MATCHER = Matcher(BLANK.vocab)
MATCHER.add("noun phrase", list(PATTERNS), greedy="LONGEST")
STRETCHES = [
    "traffic",
    "lights,",
    "men",
    "woman's",
    "dogs",
    "red",
    "of",
    "park",
    "riding",
    "can't",
    "(u.s.)",
    "a.m.",
    "3",
]


@given(st.lists(st.sampled_from(STRETCHES), max_size=9))
@settings(max_examples=60, deadline=None)
def test_phrases_are_what_the_patterns_match_in_the_whole_caption(stretches: list[str]) -> None:
    words = [token.text for token in BLANK.tokenizer(" ".join(stretches))]
    spans = sorted((start, end) for _, start, end in MATCHER(Doc(BLANK.vocab, words=words, tags=settle(words))))
    expected = [" ".join(words[max(start, end - MAX_WORDS) : end]) for start, end in spans]
    assert [mention.surface for mention in parse(" ".join(stretches))] == expected
