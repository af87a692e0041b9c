"""Which concepts of a pool a caption names."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

from regionclip.concepts.mentions import Mention
from regionclip.concepts.naming import endings, normalize
from regionclip.concepts.rules import RulesParser

_REMEMBERED = 1 << 16  # mentions whose concept is kept


class ConceptParser:
    """Finds which concepts of a pool a caption names.

    names: the pool. surface_forms: further words for a concept: what captions wrote, the names merged into it, a user's
    synonyms; those of a name outside the pool count for nothing. A compound that is not in the pool counts as the
    longest of its endings that is: a 'kitchen table' is a 'table' where the pool has no kitchen tables.
    """

    def __init__(self, names: Iterable[str], surface_forms: Mapping[str, Sequence[str]] | None = None) -> None:
        self._parser = RulesParser()
        names = list(names)
        others = [(word, name) for name in names for word in (surface_forms or {}).get(name, ())]
        self._concepts = {name: name for name in names}
        for forms in (((normalize(name), name) for name in names), others, ((normalize(w), n) for w, n in others)):
            for form, name in forms:
                self._concepts.setdefault(form, name)
        self._known = functools.lru_cache(_REMEMBERED)(self._concept)

    def concepts_of(self, caption: str) -> list[str]:
        """The concepts of the pool that a caption names, in order of first mention, each once."""
        [mentions] = self._parser.mentions([caption])
        found = (self._known(mention) for mention in mentions)
        return list(dict.fromkeys(concept for concept in found if concept is not None))

    def _concept(self, mention: Mention) -> str | None:
        names = (mention.merged_from or mention.name, *endings(mention.name))
        return next((self._concepts[name] for name in names if name in self._concepts), None)
