"""Which encoding a text file has, from its first bytes: UTF-8, UTF-16 by its mark or its zero bytes, Windows-1252 by its letters.

What it is not: it opens no file (`records.py`). A file of an encoding that is none of these is read as UTF-8, and each row that is not is
told with its byte.
"""

import codecs
import re

NOT_UTF8 = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as `surrogateescape` gives it
RUNS = re.compile("[\udc80-\udcff]+")
WESTERN = "cp1252"  # what spreadsheets in Western Europe and the Americas save; Latin-1 but for a few signs
LETTERS = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿŠŒŽšœžŸ€‚„…‘’“”–—™\xa0¡£§©«®°²³·»¿")
LEAST, SHARE = 3, 0.9  # bytes beyond ASCII that must be there, and the share of them that must be such a letter; our own choice
SAYS = "The file is not UTF-8. It was read as Windows-1252 (Western European). If letters look wrong, save it as UTF-8 and bring it again."


def encoding_of(head: bytes) -> str:
    """The name by which Python knows it."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    pairs = len(head) // 2
    if pairs >= 8 and head[1::2].count(0) > 0.8 * pairs:
        return "utf-16-le"
    if pairs >= 8 and head[0::2].count(0) > 0.8 * pairs:
        return "utf-16-be"
    return WESTERN if _is_western(head) else "utf-8-sig"


def _is_western(head: bytes) -> bool:
    """Nothing beyond ASCII is UTF-8, and most of it are letters of Western Europe that stand alone: two in a row are Chinese, Cyrillic or
    damage."""
    if head.isascii():
        return False
    text = head.decode("utf-8", "surrogateescape")
    runs = RUNS.findall(text)
    count = sum(map(len, runs))
    if count < LEAST or count < sum(not sign.isascii() for sign in text):
        return False
    western = sum(sign in LETTERS for sign in head.decode(WESTERN, "replace"))
    return western >= SHARE * count and sum(len(run) == 1 for run in runs) >= count / 2
