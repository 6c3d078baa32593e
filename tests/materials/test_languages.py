"""Languages: what nobody would doubt is told in many scripts; short rows, code, formulas, names and two languages in one text are not."""

import pytest

from workbench.materials.languages import CODES, SCRIPTS, WORDS, known, told

SENTENCES = {
    "English": "The ship left the harbour before the sun had risen over the hills.",
    "German": "Das Schiff verließ den Hafen, bevor die Sonne über den Hügeln aufging, und es war noch nicht hell.",
    "French": "Le navire a quitté le port avant que le soleil ne se lève sur les collines, et nous étions dans la cabine.",
    "Spanish": "El barco salió del puerto antes de que el sol saliera sobre las colinas, pero los marineros dormían.",
    "Italian": "La nave ha lasciato il porto prima che il sole sorgesse sulle colline, e non c'era nessuno nella strada degli alberi.",
    "Portuguese": "O navio deixou o porto antes que o sol nascesse sobre as colinas, mas os marinheiros não dormiam em casa.",
    "Dutch": "Het schip verliet de haven voordat de zon boven de heuvels opkwam, maar het was niet zo koud op zee.",
    "Swedish": "Skeppet lämnade hamnen innan solen hade gått upp över kullarna, och jag var inte hemma för att se det från stranden.",
    "Danish or Norwegian": "Skibet forlod havnen, og jeg var ikke hjemme for at se det, da det skal sejle fra kysten hvor hun bor.",
    "Polish": "Statek opuścił port, zanim słońce wzeszło nad wzgórzami, ale nie było tam nikogo, kto się przez to martwi.",
    "Turkish": "Gemi güneş doğmadan önce limandan ayrıldı ve bu çok güzel bir sabah için iyi bir başlangıç oldu.",
    "Japanese": "太陽が丘の上に昇る前に、船は港を出て行きました。",
    "Chinese": "太阳还没有从山上升起来，那条船就已经离开了港口。",
    "Korean": "해가 언덕 위로 떠오르기 전에 배는 항구를 떠났습니다. 조용한 아침이었습니다.",
    "Cyrillic script": "Корабль покинул гавань до того, как солнце взошло над холмами.",
    "Arabic script": "غادرت السفينة الميناء قبل أن تشرق الشمس فوق التلال الهادئة.",
    "Greek": "Το πλοίο έφυγε από το λιμάνι πριν ανατείλει ο ήλιος πάνω από τους λόφους.",
}
DOUBTED = {
    "short": "Ja, und?",
    "short with small words": "Und wie ist das?",
    "one word": "Donaudampfschifffahrtsgesellschaft",
    "a name": "Johann Sebastian Bach, Wolfgang Amadeus Mozart, Ludwig van Beethoven",
    "a list": "Spaghetti carbonara, risotto alla milanese, lasagne, tiramisù",
    "code": "for der in die:\n    und = der.find(ist)\n    return und\n",
    "code with words": "const el = document.getElementById('los');\nlas.pero = el.value;\n",
    "a fence": "```\nder die das und ist nicht\n```",
    "a formula": "x = (3 + 4) * 12 / 7 = 12; y = 2 * x - 1 = 23; z = 44.5 %",
    "sums": "Natalia sold 48/2 = <<48/2=24>>24 clips. She sold 48+24 = <<48+24=72>>72 clips.",
    "two languages": "Translate to German: where is the station that you have seen? Wo ist der Bahnhof, den du gesehen hast?",
    "cities": "Flights from Los Angeles to Las Vegas",
    "numbers": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18",
    "nothing": "",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_plain_sentence_is_told(name: str) -> None:
    assert told(SENTENCES[name]) == name


@pytest.mark.parametrize("why", DOUBTED)
def test_what_may_be_doubted_has_no_language(why: str) -> None:
    assert told(DOUBTED[why]) in ("", "English") and (told(DOUBTED[why]) == "" or why == "cities")


def test_a_foreign_word_or_name_does_not_change_a_sentences_language() -> None:
    assert told("She said that the word 日本 means Japan, and that this is what the sun and the book are for.") == "English"
    assert told("他说这个词在英语里叫做 machine learning，也就是机器学习的意思。") == "Chinese"


def test_every_language_has_words_of_its_own_and_codes_that_can_be_told() -> None:
    for name in (*SCRIPTS, *WORDS):
        assert CODES[name] & set(known()), name
    every = [word for _, words in WORDS.values() for word in set(words.split())]
    for name, (_, words) in WORDS.items():
        assert sum(every.count(word) == 1 for word in words.split()) >= 8, name
