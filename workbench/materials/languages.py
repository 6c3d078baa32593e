"""Which language a text is in: the likeliest one, by py3langid's model (after langid.py, Lui and Baldwin 2012), which lies in its package,
and the one that two witnesses agree on.

Naive Bayes over groups of bytes tells short texts, names and code wrong with great confidence. So `told` asks for a second witness: the
script, or the small words that every sentence has and that one language alone has. What neither of them says has no language here. What it
is not: a rule for what stays (`methods/selectors/language.py`). Tags as in the project's notes: [O] our own choice.
"""

import re
from collections import Counter
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

READ = 500  # characters of a text: more say nothing new [O]
LEAST = 20  # letters of a text below which it has no language: "ok" is said in many [O]
WIDE = 3  # letters that one of Chinese, Japanese or Korean counts for [O]
MOST = 0.6  # share of the letters that are of one script, where it is a witness [O]
PROSE = 0.75  # share of letters of all signs but spaces, below which a text is a formula, a table or code [O]
SMALL, TIMES = 2, 2  # different small words that a language must have, and how many times as many as every other [O]
CODE = re.compile(r"```|[{};][ \t]*$|\w\([^()\n]*\)[ \t]*[:;{.\n]|^\s*(def|class|import|from|return|function|var|const|#include)\b", re.M)
WORD = re.compile(r"[^\W\d_]+")
SCRIPTS: dict[str, tuple[str, str]] = {
    "Japanese": ("ja", "\u3040-\u30ff"),  # before Chinese, whose signs it uses too
    "Chinese": ("zh", "\u3400-\u4dbf\u4e00-\u9fff"),
    "Korean": ("ko", "\uac00-\ud7af\u1100-\u11ff"),
    "Cyrillic script": ("ru uk bg sr mk be kk ky mn tg ba cv tt", "\u0400-\u052f"),
    "Arabic script": ("ar fa ur ps ug sd ckb", "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff"),
    "Devanagari": ("hi mr ne sa", "\u0900-\u097f"),
    "Greek": ("el", "\u0370-\u03ff\u1f00-\u1fff"),
    "Hebrew script": ("he yi", "\u0590-\u05ff"),
    "Thai": ("th", "\u0e00-\u0e7f"),
    "Bengali script": ("bn as", "\u0980-\u09ff"),
    "Tamil": ("ta", "\u0b80-\u0bff"),
    "Telugu": ("te", "\u0c00-\u0c7f"),
    "Georgian": ("ka", "\u10a0-\u10ff"),
    "Armenian": ("hy", "\u0530-\u058f"),
}
"""Languages that their script gives away, or the script where several share it: its codes, and its letters."""
WORDS: dict[str, tuple[str, str]] = {
    "English": (
        "en",
        "the and of to is are was were that this these with for it you he she they we have has had not be been from what which "
        "who where when why how does do did will would can could in on at as an or but if my your his her its their there one",
    ),
    "German": (
        "de",
        "der die das und ist nicht ein eine einen einem einer dem den des mit auf für von zu im in am auch sich wie wir ich du "
        "er sie es ihr aber oder wird sind war hat haben wo was wer wenn dass nach bei als um an noch nur man zum zur kann ja",
    ),
    "French": (
        "fr",
        "le la les de des du est et un une dans pour que qui qu pas sur avec au aux ce cette ces sont il elle nous vous je tu "
        "être plus ou mais ne se son sa ses leur où comme ont fait peut",
    ),
    "Spanish": (
        "es",
        "el la los las de que y en un una es por con para del se no su sus al lo como más pero está son hay muy donde cuando "
        "también fue ha han sin esta este sobre puede",
    ),
    "Italian": (
        "it",
        "il lo la gli le di che è un una per con del della dei delle degli non si sono nel nella come più anche ma questo "
        "questa dal alla al ha se dove quando suo essere",
    ),
    "Portuguese": (
        "pt",
        "os as de que em um uma é por com para do da dos das não se no na nos nas ao mais como mas são você ele ela foi pelo "
        "pela isso seu sua também onde quando está",
    ),
    "Dutch": (
        "nl",
        "de het een en van is niet dat die op te zijn voor met aan er ook maar als bij wordt naar ik je in om wat waar hij zij "
        "heeft kan deze",
    ),
    "Swedish": (
        "sv",
        "och att det som en är på för av med den inte ett till har om jag kan var men från ska hon han eller där när vad de",
    ),
    "Danish or Norwegian": (
        "da no nb nn",
        "og at det som en er på for af av å med den ikke et til har om jeg kan var men fra skal hun han eller hvor når hvad hva de",
    ),
    "Finnish": (
        "fi",
        "ja on ei se että oli hän mutta myös kun niin ovat tai joka jos minä sinä olla tämä sen mikä missä",
    ),
    "Polish": (
        "pl",
        "nie na się do to że jest jak za co ale po tak od są przez dla tym może który która gdzie jego oraz by",
    ),
    "Czech or Slovak": (
        "cs sk",
        "se na je že do to jako za ale by po jsou pro si nebo který není také co jak kde sú sa ktorý aj",
    ),
    "Turkish": (
        "tr",
        "ve bir bu da de için ile olarak çok daha ne gibi olan ama en kadar değil var sonra mi nedir nerede",
    ),
    "Indonesian or Malay": (
        "id ms",
        "yang dan di untuk dengan ini dari itu pada adalah dalam tidak akan ke oleh juga saya anda atau bisa apa",
    ),
    "Romanian": (
        "ro",
        "și în de la cu este nu pe să un care din mai pentru ce că sunt au fi al se unde o",
    ),
    "Hungarian": (
        "hu",
        "az és hogy nem egy is meg de van volt ez csak ha mint ki mit vagy én hol",
    ),
    "Vietnamese": (
        "vi",
        "và của là có không được trong cho một người với các đã này để những khi về như tôi",
    ),
}
"""Languages in Latin letters that their small words give away; a word that stands here twice is no witness."""
CODES = {name: frozenset(codes.split()) for name, (codes, _) in (SCRIPTS | WORDS).items()}
"""What the name of a language can be in codes: of languages that are too near to one another to be told apart, all."""


def likeliest(text: str) -> tuple[str, float]:
    """(code of ISO 639-1, its probability)."""
    code, probability = _identifier().classify(text)
    return str(code), float(probability)


def told(text: str) -> str:
    """The name of the language (a key of `CODES`) that nobody would doubt, else an empty string."""
    text = text[:READ]
    letters = sum(map(str.isalpha, text))
    if not text.isascii() and (name := _by_script(text, letters)):
        return name
    if letters < LEAST or letters < PROSE * sum(not sign.isspace() for sign in text) or CODE.search(text):
        return ""
    name = _by_words(text)
    return name if name and likeliest(text)[0] in CODES[name] else ""


def known() -> list[str]:
    """The codes of all languages that can be told."""
    return sorted(_identifier().labels)


def _by_script(text: str, letters: int) -> str:
    """The language of the script that most letters are of; of Japanese a tenth of them is its own."""
    own = {name: len(pattern.findall(text)) for name, pattern in _scripts().items()}
    wide = own["Japanese"] + own["Chinese"] + own["Korean"]
    if own["Japanese"] >= 0.1 * (own["Japanese"] + own["Chinese"]):
        own["Japanese"], own["Chinese"] = own["Japanese"] + own["Chinese"], 0
    weighed = {name: count * (WIDE if name in ("Japanese", "Chinese", "Korean") else 1) for name, count in own.items()}
    name, most = max(weighed.items(), key=lambda pair: pair[1])
    return name if most >= max(LEAST, MOST * (letters + (WIDE - 1) * wide)) else ""


def _by_words(text: str) -> str:
    """The language that has the most small words of the text, if it has some and every other has far fewer."""
    small = _small()
    own = Counter(small[word] for word in set(WORD.findall(text.casefold())) if word in small)
    (first, most), (_, second) = [*own.most_common(2), ("", 0), ("", 0)][:2]
    return first if most >= SMALL and most >= TIMES * second else ""


@cache
def _small() -> dict[str, str]:
    """Each small word that one language alone has, and which."""
    every = {name: set(words.split()) for name, (_, words) in WORDS.items()}
    often = Counter(word for words in every.values() for word in words)
    return {word: name for name, words in every.items() for word in words if often[word] == 1}


@cache
def _scripts() -> dict[str, re.Pattern[str]]:
    return {name: re.compile(f"[{letters}]") for name, (_, letters) in SCRIPTS.items()}


@cache
def _identifier() -> LanguageIdentifier:
    """Read once: it takes a second."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
