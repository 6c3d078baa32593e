"""Private data in texts: what is found and what is not, by worked examples; and the laws of the tags."""

import random
import string

import pytest

from workbench.materials.private import KINDS, Hit, found, luhn, mod97
from workbench.materials.redaction import Tags, redacted

ALL = tuple(KINDS)
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq3\n-----END RSA PRIVATE KEY-----"

FOUND = {
    "email": ["bob99@example.org", "müller.h+x@straße.co.uk", "A_b-c@x-y.example"],
    "phone": [
        "+49 30 555 1234",
        "+493055512345",
        "0049 (30) 555-1234",
        "212.555.0123",
        "+49\u00a030\u00a05551234",
        "(212) 555-0123",
        "212-555-0123",
        "030 555 12345",
        "01 23 45 67 89",
        "+1 212 555 0123",
        "+1 (212) 555-0123",
        "001-212-555-0123",
        "+12125550123",
        "+48 123 456 789",
        "+45 2012 3456",
        "+7 495 123 45 67",
        "0033 1 23 45 67 89",
    ],
    "card": ["4111 1111 1111 1111", "4111111111111111", "5500-0000-0000-0004", "3782 822463 10005", "6304000000000000"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "NO9386011117947", "MT84MALT011000012345MTLCAST001S"],
    "ssn": ["078-05-1120"],
    "ip": ["8.8.8.8", "203.0.112.7", "5.6.78.9", "11.2.3.4", "2001:4860:4860::8888"],
    "mac": ["AA:BB:CC:DD:EE:01", "10-11-12-13-14-16", "00-1b-63-84-45-e6"],
    "key": ["AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1" * 18, "sk-proj-abcdefghij1234567890", TOKEN, PEM],
    "url": ["https://bob:secret@example.org:8443/x?y=1", "redis://:secret@cache:6379"],
}
NOT_FOUND = {
    "email": ["x@y", "git@github.com:a/b", "icon@2x.png", "@app.route", "lodash@4.17.21",
              "q@k.transpose(-2,-1)", "x@w.sum(0)", "A@B.mean()", "q@k.T.flatten()", "x@w.view_as(y)"],
    "phone": ["123456789", "+1.23456789", "2024-01-02 12:30", "01-02-2024", "0900-1700", "+2345678.12",
              "+4930555123456789012", "12345678901234567890", "1,234,567,890",
              "0012345678", "00112233445566", "00493055512345", "001 002 003 004", "0044 0045 0046 0047",
              "01 02 03 04 05", "01.02.03.04.05", "09 08 07 06 05", "02 04 06 08 10", "01 03 07 02 09 11", "00 01 23 45 67 89",
              "+10 000 000", "+15.000.000", "+20 000 000", "+20.000.000.000", "+48 123 456 000", "+20 000 000 (2019)",
              "+1 2023-10-05", "+49 2023-10-05", "+3.5 (2010-2020", "+33.5 (2010-2020)", "**+12345678", "+23456789", "+1 112 555 0123",
              "+999 1234 5678", "250.300.4500"],
    "card": ["4111 1111 1111 1112", "4111111111111112", "0000 0000 0000 0000", "4111 1111 1111 1111 1111", "1234 4111 1111 1111 1111",
             "x4111111111111111", "1 2 3 4 5 6 7 8 9 1 2 3 4"],
    "iban": ["DE89 3704 0044 0532 0130 01", "GB82WEST12345698765431", "XX89370400440532013000",
             "DE8937040044053201300", "DE893704004405320130001"],
    "ssn": ["000-12-3456", "666-12-3456", "912-12-3456", "078-00-1120", "078-05-0000", "1078-05-1120"],
    "ip": ["192.168.1.1", "127.0.0.1", "300.1.1.1", "1.2.3.4.5", "v1.2.3.4", "2001:db8::1", "12:34:56", "a::b", "std::cout",
           "version 1.2.3.4", "2.1.3.1", "1.3.6.1", "1.1.1.1", "version 12.4.0.25", "Version: 91.0.44.72", "v 12.4.0.25", "OID 1.2.250.1",
           "section 12.30.4.1", "§ 12.30.4.1"],
    "mac": ["aa:bb:cc:dd:ee:ff:00:11", "ff:ff:ff:ff:ff:ff", "aa:bb-cc:dd:ee:ff", "10-11-12-13-14-15", "08:09:10:11:12:13",
            "0a:0b:0c:0d:0e:0f", "00:11:22:33:44:55"],
    "key": ["sk-learn-is-a-library-for-things", "AKIA1234", "eyJhbGciOiJIUzI1NiJ9", "-----BEGIN PUBLIC KEY-----"],
    "url": ["https://example.org/@me", "http://localhost:8080/x@y", "mailto:bob"],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("around", ["{}", "Well ({}).", "ask: {}, then go", "{}\n", "„{}“"])
def test_each_kind_is_found_whole_and_alone(kind: str, around: str) -> None:
    for value in FOUND[kind]:
        text = around.format(value)
        start = text.index(value)
        assert found(text, ALL) == [Hit(start, start + len(value), kind)], text


@pytest.mark.parametrize("kind", KINDS)
def test_what_only_looks_like_it_is_not_found(kind: str) -> None:
    for value in NOT_FOUND[kind]:
        assert not found(f"Well: {value} it is.", [kind]) and not found(value, [kind]), value


def test_what_begins_inside_of_something_else_is_found() -> None:
    text = "x0123 4567 030 555 12345"
    assert found(text, ALL) == [Hit(text.index("030"), len(text), "phone")]


def test_a_telephone_number_ends_before_a_date() -> None:
    for date in ("2023-10-05", "2010-2020"):
        assert found(f"+49 30 555 1234 {date}", ALL) == [Hit(0, 15, "phone")]


def test_the_sums_find_every_digit_that_is_wrong() -> None:
    for number, sums in (("4111111111111111", luhn), ("DE89370400440532013000", mod97)):
        assert sums(number)
        for place in range(2, len(number)):
            others = (number[:place] + digit + number[place + 1 :] for digit in string.digits if digit != number[place])
            assert not any(map(sums, others)), place


def test_where_two_kinds_overlap_one_has_it() -> None:
    text = "https://bob:secret@example.org and 4111 1111 1111 1111"
    assert [hit.kind for hit in found(text, ALL)] == ["url", "card"]
    assert [hit.kind for hit in found(text, ("email", "card"))] == ["email", "card"]


def test_numbered_tags_tell_values_apart_and_take_none_that_there_is() -> None:
    text = "<EMAIL_1>: a@x.de, b@x.de, A@X.de, +49 30 5551234, +4930 555 1234"
    assert redacted(text, ALL, Tags(True, text))[0] == "<EMAIL_1>: <EMAIL_2>, <EMAIL_3>, <EMAIL_2>, <PHONE_1>, <PHONE_1>"
    assert redacted(text, ALL, Tags(False))[0] == "<EMAIL_1>: <EMAIL>, <EMAIL>, <EMAIL>, <PHONE>, <PHONE>"


# Laws over many texts.


def drawn(rng: random.Random) -> str:
    """Values, halves of values and what stands between them, in any order and often without a space."""
    values = [value for shelf in (FOUND, NOT_FOUND) for kind in shelf.values() for value in kind]
    pieces = [
        *values,
        *(value[rng.randrange(len(value)) :] for value in values),
        " ",
        ".",
        "-",
        ": ",
        "\n",
        "<EMAIL>",
        "<CARD_1>",
        "é",
        "+",
        "00",
    ]
    return "".join(rng.choice(pieces) for _ in range(rng.randint(1, 12)))


@pytest.mark.parametrize("numbered", [False, True])
def test_nothing_is_found_in_what_was_redacted(numbered: bool) -> None:
    rng = random.Random(0)
    for _ in range(800):
        text, kinds = drawn(rng), rng.choice([ALL, tuple(rng.sample(ALL, 3))])
        new, counts, _ = redacted(text, kinds, Tags(numbered, text))
        assert not found(new, kinds), (text, new)
        assert redacted(new, kinds, Tags(numbered, new)) == (new, {}, ()) and (counts.total() > 0) == (new != text)


def test_no_tag_is_private_data() -> None:
    tags = [f"<{kind.upper()}{number}>" for kind in KINDS for number in ("", "_1", "_12345678")]
    assert not found(" ".join(tags), ALL) and not found("".join(tags), ALL) and not any(found(tag, ALL) for tag in tags)


def test_the_cheap_look_hides_nothing() -> None:
    rng = random.Random(1)
    for _ in range(800):
        text = drawn(rng)
        for kind, (_, _, finder) in KINDS.items():
            assert bool(found(text, [kind])) == bool(list(finder(text))), (kind, text)


def test_spans_move_with_what_they_hold() -> None:
    rng = random.Random(2)
    for _ in range(800):
        text = drawn(rng)
        edges = sorted(rng.sample(range(len(text) + 1), min(len(text) + 1, 2 * rng.randint(1, 3)) // 2 * 2))
        spans = list(zip(edges[::2], edges[1::2], strict=True))
        new, counts, moved = redacted(text, ALL, Tags(False), spans)
        hits = found(text, ALL)
        if counts.total() != len(hits):
            continue  # found in a second search: what follows speaks of one
        letters = [any(start <= place < end for start, end in spans) for place in range(len(text))]
        expected, at = list[bool](), 0
        for hit in [*hits, Hit(len(text), len(text), "")]:
            expected += letters[at : hit.start] + [any(letters[hit.start : hit.end])] * (len(hit.kind) + 2 if hit.kind else 0)
            at = hit.end
        assert [any(start <= place < end for start, end in moved) for place in range(len(new))] == expected, (text, spans)
        edges = [edge for span in moved for edge in span]
        assert edges == sorted(edges) and all(start < end for start, end in moved), "apart and in order"


def test_a_long_text_without_anything_costs_little_and_one_full_of_it_ends() -> None:
    text = "a" * 200_000 + "@" + "-" * 200_000 + "1" * 100_000 + ":" * 100_000
    assert redacted(text, ALL, Tags(False))[0] == text
    assert redacted("bob@x.de " * 20_000, ALL, Tags(True))[0] == "<EMAIL_1> " * 20_000
