"""Which column is which in a file whose columns have no known names: a guess from the names in other words and languages, and from the
values.

What it is: `guess` for files that nothing else fits, told as a `Hint` with the other way round, so that a person can turn it; `unused` for
texts that are read plain while a column beside them could be an answer. Three text columns without a telling name are no ground for a
guess. What it is not: it reads no row (`formats.py`), and where the usual names are there nobody asks it. All numbers are our own choice.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ASKS = """prompt question query instruction request problem q task_input user_input user human ask
frage fragen anfrage aufgabe eingabe anweisung demande consigne requete entree pregunta consulta instruccion entrada pergunta instrucao
domanda richiesta istruzione vraag pytanie soru fraga kysymys spørgsmal spørsmal otazka kerdes intrebare pertanyaan cau_hoi
вопрос запрос инструкция питання запитання ερωτηση 问题 問題 题目 題目 提问 指令 输入 質問 指示 入力 질문 문제 지시
سؤال السؤال प्रश्न सवाल คำถาม""".split()
SAYS = """answer answers response reply completion output target solution ans assistant bot a resp summary highlights translation label
antwort antworten ausgabe losung zusammenfassung reponse sortie respuesta salida solucion resumen resposta risposta soluzione antwoord
odpowiedz cevap yanıt svar vastaus odpoved valasz raspuns jawaban tra_loi cau_tra_loi
ответ решение відповідь απαντηση 答案 回答 解答 输出 輸出 回复 回覆 答え 出力 답변 정답 출력
جواب الجواب إجابة الإجابة उत्तर जवाब คำตอบ""".split()
LESS = ("input", "source", "src", "document", "article", "dialogue", "dialog", "title", "text", "content")
"""What often holds what is asked, where no other name says so."""
AROUND = "context passage document kontext contexto contexte contesto контекст 上下文 文脈 문맥".split()
SYSTEM = ("system", "system_prompt", "systemprompt")
BEST = frozenset("best final gold golden ideal expected canonical reference correct chosen true".split())
OTHER = frozenset(
    "incorrect wrong rejected bad worst false id ids key url link date time count num number length score rating type".split()
)
"""Words of a name that make it something else than the answer: `Incorrect Answers`, `answer_id`."""
PLAIN = re.compile(
    r"\s*(https?://\S*|www\.\S*|[-+]?[\d.,:/%\s-]+[tz]?|true|false|none|null|nan"
    r"|[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12})\s*",
    re.I,
)
ASKING = re.compile(r"[?？؟\u037e]\s*[\"'»”)]*\s*$|^\s*¿|[吗呢]\s*$")
SENTENCE = 60  # characters of a column's name beyond which it looks like a row
CLASSES, ENOUGH = 20, 20  # most values that a column of classes has, and the rows that must be there to tell
FREE = 12.0  # characters on average from which a column counts as free text; a letter of Chinese, Japanese or Korean counts three


@dataclass(frozen=True)
class Hint:
    """Something to be told of how a file was read. `columns` is another way to read it, and `offer` what taking it is called."""

    text: str
    columns: Mapping[str, str] = field(default_factory=dict)
    offer: str = ""


@dataclass(frozen=True)
class Guess:
    """`columns` by role, and what it goes by, in words."""

    columns: Mapping[str, str]
    by: str

    def hint(self) -> Hint:
        """What was guessed, and the other way round; of a plain text there is none."""
        own = self.columns
        if "messages" in own:
            return Hint(f"No column has a usual name. {own['messages']!r} is taken as the conversation, {self.by}.")
        if "text" in own:
            return Hint(f"No column has a usual name. {own['text']!r} is taken as plain text, {self.by}.")
        beside = f", with {own['input']!r} behind the prompt" if "input" in own else ""
        text = f"It is a guess that {own['prompt']!r} is the prompt and {own['answer']!r} the answer{beside}, {self.by}."
        return Hint(text, {**own, "prompt": own["answer"], "answer": own["prompt"]}, "Turn them round")


@dataclass(frozen=True)
class _Column:
    """What the values of a column are like: how many are texts, how long, how many of them ask, how many are different."""

    name: str
    texts: int
    length: float
    asking: float
    different: int
    plain: bool

    @property
    def free(self) -> bool:
        return self.length >= FREE and not self.plain and not self.classes

    @property
    def classes(self) -> bool:
        return self.texts >= ENOUGH and 2 <= self.different <= min(CLASSES, self.texts // 5) and self.length < 40


def guess(sample: Sequence[Mapping[str, Any]]) -> Guess | None:
    """The likeliest prompt and answer, the one conversation, or the one text; None where nothing tells."""
    if talk := _talk(sample):
        return Guess({"messages": talk}, "because it holds turns")
    columns = _columns(sample)
    asking = [one for one in columns if not one.plain]
    ask, say = _named(asking, ASKS), _named(columns, SAYS)
    if ask is None and (say is not None or len(_free(columns)) == 2):
        ask = _named([one for one in asking if one != say], LESS)
    by = "by their names"
    if ask is None and say is not None:
        ask, by = _asking([one for one in _free(columns) if one != say]), f"by the name {say.name!r} and the other column's texts"
    elif ask is not None and (say is None or say == ask):
        rest = [one for one in _free(columns) if one != ask]
        say, by = max(rest, key=lambda one: one.length, default=None), f"by the name {ask.name!r} and the other column's texts"
    if ask is None and say is None:
        return _by_values(columns)
    if ask is None or say is None or ask == say:
        return None
    return Guess(_with_others(columns, ask, say), by)


def unused(sample: Sequence[Mapping[str, Any]], text: str) -> Hint | None:
    """Of plain texts the column beside them that could be learnt as the answer to them."""
    columns = [one for one in _columns(sample) if one.name != text]
    answers = [one for one in columns if one.classes] if len(columns) < 4 else []
    found = _named(columns, SAYS) or (answers[0] if len(answers) == 1 else None)
    if found is None or found.texts < len(sample) / 2:
        return None
    values = f" ({found.different} values)" if found.classes else ""
    words = f"The rows are read as plain text, and {found.name!r}{values} is not learnt. It can be learnt as the answer to the text."
    return Hint(words, {"prompt": text, "answer": found.name}, "Learn it as the answer")


def headless(names: Collection[str]) -> Hint | None:
    """Where the first line of a table is no line of names but a row."""
    odd = [name for name in names if len(name) > SENTENCE or (len(name.split()) > 3 and ASKING.search(name))]
    if not odd:
        return None
    short = f"{odd[0][:SENTENCE]}…" if len(odd[0]) > SENTENCE else odd[0]
    return Hint(f"The first line was taken as the columns' names, and looks like a row ({short!r}). If it is one, put names above it.")


def _by_values(columns: Sequence[_Column]) -> Guess | None:
    free, classes = _free(columns), [one for one in columns if one.classes]
    ask = next((one for one in sorted(free, key=lambda one: -one.asking) if one.asking >= 0.4), None)
    if len(free) > 1 and ask is not None:
        say = max((one for one in free if one != ask), key=lambda one: one.length)
        return Guess({"prompt": ask.name, "answer": say.name}, f"because most texts of {ask.name!r} end with a question mark")
    if len(free) == 2:
        return Guess({"prompt": free[0].name, "answer": free[1].name}, "by their order alone")
    if len(free) == 1 and len(classes) == 1:
        few = f"because {classes[0].name!r} has {classes[0].different} values alone"
        return Guess({"prompt": free[0].name, "answer": classes[0].name}, few)
    return Guess({"text": free[0].name}, "because no other column holds texts") if len(free) == 1 else None


def _talk(sample: Sequence[Mapping[str, Any]]) -> str:
    """The column whose every value is a list of turns."""
    lists = [name for name, value in sample[0].items() if isinstance(value, list)]
    return next((name for name in lists if all(_are_turns(record.get(name)) for record in sample)), "")


def _are_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and ("role" in one or "from" in one) for one in value)


def _with_others(columns: Sequence[_Column], ask: _Column, say: _Column) -> dict[str, str]:
    rest = [one for one in columns if one not in (ask, say)]
    found = {"prompt": ask.name, "answer": say.name}
    for role, words in (("input", AROUND), ("system", SYSTEM)):
        named = next((one.name for one in rest if one.texts and plain_name(one.name) in words), "")
        found |= {role: named} if named else {}
    return found


def _free(columns: Sequence[_Column]) -> list[_Column]:
    return [one for one in columns if one.free]


def _asking(columns: Sequence[_Column]) -> _Column | None:
    """The one that asks most, else the first."""
    return max(columns, key=lambda one: one.asking, default=None)


def _named(columns: Sequence[_Column], words: Sequence[str]) -> _Column | None:
    """The column whose name says it most clearly: the word itself, then the word among others; the first of equals."""
    scored = [(_clear(one.name, words), one) for one in columns if one.texts]
    best = max(scored, key=lambda pair: pair[0], default=None)
    return best[1] if best and best[0] > 0 else None


def _clear(name: str, words: Sequence[str]) -> float:
    whole = plain_name(name)
    own = whole.split("_")
    if OTHER & set(own):
        return 0.0
    if whole in words:
        return 4.0
    told = any(word in own if word.isascii() else word in whole for word in words if len(word) > 1)
    return (2.0 + 0.5 * bool(BEST & set(own))) if told else 0.0


def plain_name(name: str) -> str:
    """`Best Answer`, `bestAnswer` and `réponse-2` as `best_answer` and `reponse_2`: words in lower case without accents."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    bare = "".join(sign for sign in unicodedata.normalize("NFKD", split) if not ("\u0300" <= sign <= "\u036f")).casefold()
    return re.sub(r"\W+|_+", "_", unicodedata.normalize("NFC", bare)).strip("_")


def _columns(sample: Sequence[Mapping[str, Any]]) -> list[_Column]:
    names = dict.fromkeys(name for record in sample for name in record)
    return [_column(name, [record.get(name) for record in sample]) for name in names]


def _column(name: str, values: Sequence[Any]) -> _Column:
    texts = [str(value) for value in values if isinstance(value, (str, int, float)) and str(value).strip()]
    few = max(1, len(texts))
    length = sum(len(text) + 2 * sum("\u2e80" <= sign <= "\ud7ff" for sign in text) for text in texts) / few
    asking = sum(ASKING.search(text) is not None for text in texts) / few
    plain = sum(PLAIN.fullmatch(text) is not None for text in texts) > 0.8 * few
    return _Column(str(name), len(texts), length, asking, len(set(texts)), plain)
