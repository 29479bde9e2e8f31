"""Which scripts a language is written in, and which language a script is most often met in."""

# fmt: off
_WRITTEN_IN = {
    "Han": "zh yue wuu gan hak nan lzh", "Han Hiragana Katakana": "ja", "Hangul": "ko",
    "Arabic": "ar fa ur ps ug ckb sd", "Cyrillic": "ru uk be bg mk ky tg tt ba",
    "Devanagari": "hi mr ne sa mai bho", "Bengali": "bn as", "Tibetan": "bo dz", "Greek": "el",
    "Hebrew": "he yi", "Ethiopic": "am ti", "Armenian": "hy", "Georgian": "ka", "Gujarati": "gu",
    "Kannada": "kn", "Khmer": "km", "Lao": "lo", "Malayalam": "ml", "Myanmar": "my",
    "Oriya": "or", "Sinhala": "si", "Tamil": "ta", "Telugu": "te", "Thaana": "dv", "Thai": "th",
}
# fmt: on
"""Languages by their scripts, where English uses none of these; others are told from their text."""
LANGUAGE_OF_SCRIPT = {
    scripts.split()[-1]: tags.split()[0] for scripts, tags in _WRITTEN_IN.items()
} | {"Han": "zh"}
"""The language that a script is most often met in."""
_USUAL_SCRIPTS = ("hans", "hant", "hani", "jpan", "kore")


def scripts_of_language(tag: str) -> tuple[str, ...]:
    """Unicode scripts of a BCP 47 tag; none where only a text can tell.

    >>> scripts_of_language("zh-Hant"), scripts_of_language("sr-Cyrl")
    (('Han',), ())
    """
    language, *more = tag.lower().split("-")
    if any(len(part) == 4 and part.isalpha() and part not in _USUAL_SCRIPTS for part in more):
        return ()
    found = (scripts for scripts, tags in _WRITTEN_IN.items() if language in tags.split())
    return tuple(next(found, "").split())
