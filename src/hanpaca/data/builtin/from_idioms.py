"""The idioms as one source beside the others, with what can be asked of them."""

from dataclasses import asdict

from hanpaca.data.builtin.dictionary import Entry, character_in_gap, named_from_meaning
from hanpaca.data.builtin.material import BuiltinMaterial, secrets_of
from hanpaca.data.idioms import IdiomCorpus

OF_MEANING, IN_GAP = "idiom_of_meaning", "idiom_character"
_CHARACTERS = 4
"""Of each held-out idiom."""


def from_idioms(corpus: IdiomCorpus, *, seed: int = 0) -> BuiltinMaterial:
    """Add the questions to what is made of the table.

    Args:
        corpus: Documents, conversations and what is held out.
        seed: Of gaps and options.
    """
    heldout = [Entry(one.word, one.reference) for one in corpus.heldout_questions]
    learned = [Entry(word, meaning) for word, meaning in corpus.learned]
    four = [one for one in learned if len(one.word) == _CHARACTERS]
    asked, drills = named_from_meaning(OF_MEANING, "成语", heldout, learned, seed)
    gaps, gap_drills = character_in_gap(IN_GAP, "成语", heldout, four, seed)
    return BuiltinMaterial(
        documents=corpus.documents,
        conversations=corpus.conversations,
        heldout_documents=corpus.heldout_documents,
        heldout_questions=tuple(asdict(one) for one in corpus.heldout_questions),
        asked=(*asked, *gaps),
        drills={OF_MEANING: drills, IN_GAP: gap_drills},
        secrets=secrets_of([one.word for one in heldout], _CHARACTERS),
        num_dropped=corpus.num_dropped,
        num_leaking=corpus.num_leaking,
    )
