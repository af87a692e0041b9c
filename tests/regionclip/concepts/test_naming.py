"""Names of concepts: singulars, spellings, synonyms, frame words and the endings that a compound may count as."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.concepts import lexicon
from regionclip.concepts.mentions import MAX_WORDS, Mention
from regionclip.concepts.naming import FRAME_WORD, Naming, endings, normalize, singular_name

NAMING = Naming()
GROUPS = [value for value in vars(lexicon).values() if isinstance(value, frozenset)]
WORDS = sorted({word for names in (*GROUPS, lexicon.IRREGULAR, lexicon.VARIANTS) for word in " ".join(names).split()})
NAMES = sorted({*lexicon.PHRASES, *lexicon.FIXED_NAMES, *lexicon.VARIANTS, *lexicon.VARIANTS.values()})
compounds = st.one_of(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join),
    st.tuples(st.sampled_from(WORDS), st.sampled_from(NAMES)).map(" ".join),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(WORDS)).map(" ".join),
)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("men", "man"),
        ("firemen", "fireman"),
        ("people", "person"),
        ("children", "child"),
        ("feet", "foot"),
        ("geese", "goose"),
        ("mice", "mouse"),
        ("knives", "knife"),
        ("shelves", "shelf"),
        ("loaves", "loaf"),
        ("puppies", "puppy"),
        ("tomatoes", "tomato"),
        ("buses", "bus"),
        ("couches", "couch"),
        ("sheep", "sheep"),
        ("skis", "skis"),
        ("ski", "skis"),
        ("scissors", "scissors"),
        ("glasses", "glasses"),
        ("wine glasses", "wine glass"),
        ("jeans", "jeans"),
        ("bus", "bus"),
        ("grass", "grass"),
        ("tennis", "tennis"),
        ("Teddy_Bears", "teddy bear"),
        ("  Traffic   LIGHTS ", "traffic light"),
        ("peoples", "person"),
        ("", ""),
    ],
)
def test_a_name_is_lower_case_with_its_last_word_in_the_singular(written: str, name: str) -> None:
    assert normalize(written) == name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("televisions", "tv"),
        ("cellular phone", "cell phone"),
        ("doughnuts", "donut"),
        ("doughnut shop", "donut shop"),
        ("grey cat", "gray cat"),
        ("toy mobile phones", "toy cell phone"),
        ("hotdogs", "hot dog"),
    ],
)
def test_spellings_are_merged_wherever_they_stand(written: str, name: str) -> None:
    assert normalize(written) == name


@given(st.one_of(compounds, st.text(max_size=30)))
@settings(max_examples=300, deadline=None)
def test_a_normal_name_is_its_own_normal_name(text: str) -> None:
    name = normalize(text)
    assert normalize(name) == name


def test_every_variant_is_merged_into_its_name() -> None:
    for variant, name in lexicon.VARIANTS.items():
        assert normalize(variant) == normalize(name)


@given(compounds)
@settings(max_examples=200, deadline=None)
def test_endings_are_whole_words_from_the_end_and_never_cut_a_fixed_name(name: str) -> None:
    found = endings(name)
    assert found[0] == name
    lengths = [len(ending.split(" ")) for ending in found]
    assert lengths == sorted(set(lengths), reverse=True)
    for position, ending in enumerate(found):
        assert f" {name}".endswith(f" {ending}")
        assert endings(ending) == found[position:]
        before = name.removesuffix(ending).split()
        for fixed in lexicon.FIXED_NAMES:
            first, *rest = fixed.split(" ")
            assert not (before[-1:] == [first] and ending.split(" ")[: len(rest)] == rest)


def test_a_compound_counts_as_its_endings_but_a_fixed_name_does_not() -> None:
    assert endings("fire hydrant cap") == ["fire hydrant cap", "hydrant cap", "cap"]
    assert endings("hot dog") == ["hot dog"]
    assert endings("chili hot dogs") == ["chili hot dogs", "hot dogs"]
    assert endings("hot dog bun") == ["hot dog bun", "bun"]
    assert endings("parking lot") == ["parking lot"]
    for fixed in lexicon.FIXED_NAMES:
        assert endings(f"old {fixed}") == [f"old {fixed}", fixed]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), st.sampled_from(["", "red", "grey"]))
@settings(max_examples=200, deadline=None)
def test_a_mention_has_the_last_words_and_a_normal_name(words: list[str], attribute: str) -> None:
    mention = NAMING.mention(words, attribute)
    kept = words[-MAX_WORDS:]
    assert mention.surface == " ".join([attribute, *kept] if attribute and kept == words else kept)
    assert mention.name == normalize(mention.surface)
    singular = singular_name(mention.surface.split(" "))
    assert mention.merged_from == ("" if singular == mention.name else singular)


def test_an_attribute_leads_the_name_whose_endings_are_the_compound_and_the_head() -> None:
    mention = NAMING.mention(["city", "buses"], attribute="red")
    assert mention == Mention("red city bus", "red city buses")
    assert endings(mention.name) == ["red city bus", "city bus", "bus"]
    assert NAMING.mention(["bus"], attribute="grey") == Mention("gray bus", "grey bus", "grey bus")


def test_what_ends_in_a_frame_word_is_no_concept() -> None:
    for words in (["photos"], ["cat", "photo"], ["background"]):
        assert NAMING.mention(words).reason == FRAME_WORD
    for words in (["photo", "album"], ["parking", "lot"], ["ice", "cream"]):
        assert NAMING.mention(words).reason == ""


def test_synonyms_replace_a_name_or_its_longest_ending() -> None:
    naming = Naming({"couch": ("sofa", "settees"), "cell phone": ("phone",)})
    assert naming.mention(["sofas"]) == Mention("couch", "sofas", "sofa")
    assert naming.mention(["leather", "sofa"]) == Mention("leather couch", "leather sofa", "leather sofa")
    assert naming.mention(["settee"]).name == "couch"
    assert naming.mention(["sofa", "cushion"]).name == "sofa cushion"
    assert naming.mention(["mobile", "phones"]).name == naming.mention(["phone"]).name == "cell phone"
    assert naming.mention(["cell", "phone"]) == Mention("cell phone", "cell phone")
    assert naming.mention(["pay", "phone"]).name == "pay phone"
    assert {"phone", "mobile phone"} <= set(naming.other_words("cell phone"))


def test_synonyms_leave_fixed_names_whole() -> None:
    assert Naming({"puppy": ("dog",)}).mention(["hot", "dogs"]).name == "hot dog"


def test_synonyms_of_synonyms_come_to_the_same_concept() -> None:
    naming = Naming({"vehicle": ("car",), "car": ("automobile",)})
    assert naming.mention(["automobiles"]).name == "vehicle"


def test_a_concept_that_is_a_spelling_names_all_its_spellings() -> None:
    naming = Naming({"television": ("telly",)})
    written = (["telly"], ["tv"], ["tvs"], ["television"], ["television", "set"])
    assert {naming.mention(words).name for words in written} == {"television"}
    assert naming.mention(["tv", "stand"]).name == "television stand"


def test_a_concept_of_synonyms_is_no_frame_word() -> None:
    assert Naming({"background": ("backdrop",)}).mention(["backdrop"]) == Mention("background", "backdrop", "backdrop")


@pytest.mark.parametrize(
    ("synonyms", "message"),
    [
        ({"couch": ("sofa",), "seat": ("sofas",)}, "'sofas' stands for 'couch' and for 'seat'"),
        ({"couch": ("sofa",), "sofa": ("couch",)}, "circle: (sofa -> couch|couch -> sofa)"),
        ({"big cat": ("dog",), "small dog": ("cat",)}, "in a circle"),
        ({"couch": (" ",)}, "synonym of 'couch' is empty"),
        ({"": ("sofa",)}, "concept of synonyms is empty"),
    ],
)
def test_synonyms_that_contradict_each_other_are_refused(synonyms: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Naming(synonyms)


letters = st.sampled_from("abcdefgh")


@given(st.dictionaries(letters, st.lists(letters, max_size=2), max_size=4), compounds)
@settings(max_examples=100, deadline=None)
def test_names_under_any_sound_synonyms_are_named_no_further(synonyms: dict[str, list[str]], text: str) -> None:
    try:
        naming = Naming(synonyms)
    except ValueError:
        return
    for words in ([*text.split(), "a"], ["a"], ["x", "h"], text.split()):
        name = naming.name(words)
        assert naming.name(name.split(" ")) == name
