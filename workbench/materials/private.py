"""Private data in a text: addresses, numbers and keys that belong to somebody, found by their form and checked by their sums.

What it is: nine detectors, each a cheap look that costs nothing where there is nothing, a pattern, and a validator. What it is not: it
knows no names and no streets (that needs a model that reads), and puts nothing in the place of what was found (`redaction.py`).
The kinds are those of datatrove, Data-Juicer and Presidio [R]; the patterns are ours [O]. [K] known.
"""

import ipaddress
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

Span = tuple[int, int]  # characters [start, end)


@dataclass(frozen=True)
class Hit:
    """Characters [start, end) of a text, and what they are."""

    start: int
    end: int
    kind: str


Finder = Callable[[str], Iterator[Span]]


# Addresses. Patterns begin with a letter that is rare and look back from there: such a search costs a twentieth.

MAILBOX, AT_DOMAIN = re.compile(r"\w[\w.+-]{0,63}\Z"), re.compile(r"@(?:[\w-]{1,63}\.){1,8}([^\W\d_]{2,24})")
SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,20}\Z")
SIGN_IN = re.compile(r"://[^\s/:@<>\"']{0,256}:[^\s/@<>\"']{1,256}@[^\s<>\"'“”„«»]{1,2000}(?<![.,;:!?)\]}])")
FIRST_BYTE, BYTES = re.compile(r"\d{1,3}\Z", re.A), re.compile(r"\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\w|\.\d)", re.A)
IPV6 = re.compile(r"[23][0-9A-Fa-f]{3}(?::{1,2}[0-9A-Fa-f]{1,4}){1,7}(?:::)?(?!:?\w)")  # 2000::/3 is all that has been given out [K]
COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
PAIR = re.compile(r"[0-9A-Fa-f]{2}\Z")
PAIRS = tuple(re.compile(rf"{mark}(?:[0-9A-Fa-f]{{2}}{mark}){{4}}[0-9A-Fa-f]{{2}}(?![\w:-])") for mark in ":-")
FILES = frozenset(("png", "jpg", "jpeg", "gif", "webp", "svg", "ico"))  # icon@2x.png is a picture
CALLED = re.compile(r"\w*\(")  # q@k.transpose(0, 1) multiplies
NOBODY = ("000000000000", "ffffffffffff")
VERSION = re.compile(r"(?:\b(?:versions?|ver|v|release|firmware|sections?|oids?)|§)[\s.:=(\"']{0,3}\Z", re.I)
RESOLVERS = ("8.8.8.8", "8.8.4.4", "9.9.9.9")  # addresses although they look like a version [K]


def emails(text: str) -> Iterator[Span]:
    for start, end in _back(MAILBOX, AT_DOMAIN, text, 64):
        everybody = text.startswith("git@", start)  # git@github.com:name
        if not everybody and text[start:end].rpartition(".")[2].lower() not in FILES and not CALLED.match(text, end):
            yield start, end


def urls(text: str) -> Iterator[Span]:
    """Addresses of the web with a name and a password in them."""
    if "@" in text:
        yield from _back(SCHEME, SIGN_IN, text, 21)


def addresses(text: str) -> Iterator[Span]:
    """Addresses of machines that can be reached from everywhere; those of a house's own network belong to nobody."""
    for start, end in _back(FIRST_BYTE, BYTES, text, 3):
        if _stands_alone(text, (start, end), ".") and _is_public(text[start:end]) and not _is_version(text, start, end):
            yield start, end
    if COLONS.search(text):
        yield from (span for span in _alone(IPV6, text, ".:") if _is_public(text[slice(*span)]))


def _is_public(value: str) -> bool:
    try:
        return ipaddress.ip_address(value).is_global
    except ValueError:
        return False


def _is_version(text: str, start: int, end: int) -> bool:
    """Whether it is called a version or the like, or is made of small numbers as they are: 1.3.6.1."""
    numbers = [int(number) for number in text[start:end].split(".")]
    small = numbers[0] < 10 and max(numbers) < 20 and text[start:end] not in RESOLVERS
    return small or VERSION.search(text, max(0, start - 16), start) is not None


def machines(text: str) -> Iterator[Span]:
    """Numbers of network cards."""
    for pattern in PAIRS:
        for start, end in _back(PAIR, pattern, text, 2):
            digits = re.sub(r"\W", "", text[start:end]).lower()
            pairs = [int(text[at : at + 2], 10 if digits.isdigit() else 16) for at in range(start, end, 3)]
            if _stands_alone(text, (start, end), ":-") and digits not in NOBODY and not evenly(pairs):
                yield start, end


def evenly(numbers: Sequence[int]) -> bool:
    """Whether three numbers or more count in even small steps, as lists do: 01 02 03 04 05. 01 23 45 67 89 does not."""
    steps = {after - before for before, after in pairwise(numbers)}
    return len(numbers) > 2 and len(steps) == 1 and abs(steps.pop()) < 20


def _back(head: re.Pattern[str], rest: re.Pattern[str], text: str, width: int) -> Iterator[Span]:
    """Where `rest` matches and `head` does in the `width` characters before it."""
    for found in rest.finditer(text):
        before = head.search(text, max(0, found.start() - width), found.start())
        if before:
            yield before.start(), found.end()


def _alone(pattern: re.Pattern[str], text: str, more: str) -> Iterator[Span]:
    """Where the pattern matches and stands alone; what begins inside of a match that does not is looked at too."""
    at = 0
    while found := pattern.search(text, at):
        alone = _stands_alone(text, found.span(), more)
        if alone:
            yield found.span()
        at = found.end() if alone else found.start() + 1


def _stands_alone(text: str, span: Span, more: str) -> bool:
    """Whether neither a letter, a digit nor one of `more` stands before it."""
    before = text[span[0] - 1] if span[0] else " "
    return not (before.isalnum() or before == "_" or before in more)


# Numbers.

GAP = r"[ ./()\u00a0-]{0,3}"
LANDS = (
    r"(?:2[07]|2[1-689]\d|3[0-469]|3[578]\d|4[013-9]|42\d|5[1-8]|5[09]\d|6[0-6]|6[7-9]\d|7"
    + GAP
    + r"[3-9]\d\d|8[1246]|8[0578]\d|9[0-58]|9[67]\d|99[2-8])"
)
NORTH_AMERICA = rf"1{GAP}[2-9]\d\d{GAP}[2-9]\d\d{GAP}\d{{4}}(?!\d)"
DATE = r"(?<!\d)(?:19|20)\d\d(?:-\d\d-\d\d|[/-](?:19|20)\d\d)(?!\d)"  # 2023-10-05 or 2010-2020
ABROAD = rf"(?={LANDS})[2-9](?:{GAP}(?!{DATE})\d){{7,14}}(?!\d)"
# +20 000 000 and +20.000.000.000 are amounts; +48 123 456 789 is how telephones are written in Poland, Spain and Portugal [K]
AMOUNT = r"\d{1,3}(?:(?:\.\d{3}){2,}|(?:[ \u00a0]\d{3}){2}|(?:[ \u00a0]\d{3})+[ \u00a0]000)(?![ .\u00a0-]?\d)"
PHONES = (
    re.compile(rf"(?:\+|00){NORTH_AMERICA}", re.A),  # +1 212 555 0123
    re.compile(rf"\+(?!{AMOUNT}){ABROAD}", re.A),  # +49 30 555 1234
    re.compile(rf"00{ABROAD}", re.A),  # 0049 30 555 1234
    re.compile(  # (212) 555-0123; 250.300.4500 is none
        r"(?:1[ .-])?(?!\d\d0\.\d\d0\.\d{3}0)(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[ .-]\d{4}(?![\w-])", re.A
    ),
    re.compile(r"(?:\(0[1-9]\d{1,4}\)|0[1-9]\d{1,4})[ /-]{1,3}\d{3,8}(?:[ -]\d{2,8}){0,3}(?![\w-])", re.A),  # 030 555 1234
    re.compile(r"(?<!\b\d\d[ .])0[1-9](?:[ .]\d\d){4}(?![\w-]|[ .]\d\d(?!\d))", re.A),  # 01 23 45 67 89: five pairs, no more
)
CARDS = tuple(
    re.compile(rf"[2-6]{shape}(?!\w|[ -]\d{{4}})", re.A)  # 2 to 6: the banks' and the travellers' cards [K]
    for shape in (
        r"\d{3}([ -])\d{4}\1\d{4}\1\d{4}\1\d{3}", r"\d{3}([ -])\d{4}\1\d{4}\1\d{4}", r"\d{3}([ -])\d{6}\1\d{4,5}", r"\d{12,18}",
    )
)  # fmt: skip
LONGER = re.compile(r"\d{4}[ -]\Z", re.A)
SSN = re.compile(r"(?!000|666)[0-8]\d\d-(?!00)\d\d-(?!0000)\d{4}(?![\w-])", re.A)
IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}", re.A)
COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 "
    "FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 "
    "ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 "
    "ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
LENGTHS = {country[:2]: int(country[2:]) for country in COUNTRIES.split()}  # characters of an account's number by country [K]


def phones(text: str) -> Iterator[Span]:
    """At least eight digits, with a country's code, or grouped as telephone numbers are; a bare number and a list are none."""
    for pattern in PHONES:
        for start, end in _alone(pattern, text, ".,+-"):
            groups = re.findall(r"\d+", text[start:end])
            digits = sum(map(len, groups))
            bare = len(groups) == 1 and text[start] != "+"
            least = 8 if text[start] == "+" and len(groups) > 1 else 9  # 0900-1700 are times of the day
            decimal = re.fullmatch(r"\+\d+\.\d+", text[start:end])  # +12345.678 is a number
            if least <= digits <= 17 and not bare and not decimal and not evenly([int(group) for group in groups]):
                yield start, end


def cards(text: str) -> Iterator[Span]:
    for pattern in CARDS:
        for start, end in _alone(pattern, text, ".,+-"):
            if not LONGER.search(text, max(0, start - 5), start) and luhn(text[start:end]):
                yield start, end


def luhn(number: str) -> bool:
    """Whether the digits have the check digit of a card's number: every second one from the right doubled, the sum ends in 0."""
    digits = [int(letter) for letter in reversed(number) if letter.isdigit()]
    return sum(digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits)) % 10 == 0


def accounts(text: str) -> Iterator[Span]:
    for start, end in _alone(IBAN, text, ""):
        places = [place for place in range(start, end) if text[place] != " "]
        wanted = LENGTHS.get(text[start : start + 2], 0)
        if 0 < wanted <= len(places):
            end = places[wanted - 1] + 1
            if not text[end : end + 1].isalnum() and mod97(text[start:end]):
                yield start, end


def mod97(account: str) -> bool:
    """Whether an account's number has its two check digits: its first four moved to the end, letters as 10 to 35, it leaves 1."""
    bare = account.replace(" ", "")
    return int("".join(str(int(letter, 36)) for letter in bare[4:] + bare[:4])) % 97 == 1


def insured(text: str) -> Iterator[Span]:
    """Social security numbers of the United States."""
    yield from _alone(SSN, text, "-")


# Keys.

KEYS = tuple(
    (mark, re.compile(pattern))  # the pattern costs something, the mark next to nothing
    for mark, pattern in (
        ("AKIA", r"AKIA[0-9A-Z]{16}(?!\w)"),
        ("ASIA", r"ASIA[0-9A-Z]{16}(?!\w)"),
        ("gh", r"gh[pousr]_[A-Za-z0-9]{36,255}"),
        ("github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}"),
        ("sk-", r"sk-(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,255}"),  # a key has digits; sk-learn-and-other-words has none
        ("hf_", r"hf_[A-Za-z]{34}(?!\w)"),
        ("xox", r"xox[abeoprs]-[A-Za-z0-9-]{10,255}"),
        ("AIza", r"AIza[0-9A-Za-z_-]{35}"),
        ("eyJ", r"eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{4,8000}\.[A-Za-z0-9_-]{0,4000}"),
        ("-----BEGIN", r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[\s\S]{0,20000}?-----END [A-Z ]{0,30}KEY-----|(?:\s+[\w+/=]{40,})*)"),
    )
)


def keys(text: str) -> Iterator[Span]:
    """Keys to other people's machines, by the marks that their makers put before them."""
    for mark, pattern in KEYS:
        if mark in text:
            yield from _alone(pattern, text, "")


# All of them.

KINDS: dict[str, tuple[str, bytes, Finder]] = {
    "url": ("web address with a password", b"", urls),
    "key": ("key", b"", keys),
    "email": ("e-mail address", b"", emails),
    "iban": ("bank account", b"AA00", accounts),
    "card": ("card number", b"0" * 13, cards),
    "ssn": ("social security number", b"0" * 9, insured),
    "ip": ("internet address", b"", addresses),
    "mac": ("number of a network card", b"", machines),
    "phone": ("telephone number", b"0" * 8, phones),
}
"""Kind → (what it is in words, what the shape of a text with one holds, how it is found). Where two overlap, the first here has it."""

SHAPE = bytes(0x30 if chr(byte) in "0123456789" else 0x41 if chr(byte) in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" else 0x78 for byte in range(256))
BETWEEN = b" ()./-\xa0"  # what may stand between the digits of a number


def found(text: str, kinds: Sequence[str]) -> list[Hit]:
    """What is found in one search, in the order of the text, none over another."""
    hits, shape = list[Hit](), text.encode("latin-1", "replace").translate(SHAPE, BETWEEN)
    for kind, (_, needs, finder) in KINDS.items():
        for start, end in finder(text) if kind in kinds and needs in shape else ():
            place = bisect_left(hits, start, key=lambda hit: hit.start)
            if (place == 0 or hits[place - 1].end <= start) and (place == len(hits) or end <= hits[place].start):
                hits.insert(place, Hit(start, end, kind))
    return hits
