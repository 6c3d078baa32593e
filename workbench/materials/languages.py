"""Which language a text is in, by py3langid's model (after langid.py, Lui and Baldwin 2012), which lies in its package.

What it is not: a rule for what stays (`methods/selectors/language.py`). Naive Bayes over groups of bytes, so that a short text may be told
wrong with great confidence; how long it must be is the caller's to say.
"""

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier


def likeliest(text: str) -> tuple[str, float]:
    """(code of ISO 639-1, its probability)."""
    code, probability = _identifier().classify(text)
    return str(code), float(probability)


def known() -> list[str]:
    """The codes of all languages that can be told."""
    return sorted(_identifier().labels)


@cache
def _identifier() -> LanguageIdentifier:
    """Read once: it takes a second."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
