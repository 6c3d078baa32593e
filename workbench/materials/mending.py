"""Text as it was meant: letters that were read in a wrong encoding, and HTML that stands where plain text should.

What it is: pure functions of one text. What it is not: it knows no rows (`selectors/mend_text.py`). Two rules keep it off what is meant:
letters are put right only where they are UTF-8 read as Windows-1252 and nothing else, and HTML is taken out only of texts that are not
code. [O].
"""

import html
import re

CONT = "".join(sorted({bytes([code]).decode("cp1252", "ignore") or chr(code) for code in range(0x80, 0xC0)}))
LEAD = "[\u00c2-\u00df]{0}|[\u00e0-\u00ef]{0}{{2}}|[\u00f0-\u00f4]{0}{{3}}"
MISREAD = re.compile(LEAD.format(f"[{re.escape(CONT)}]"))  # what UTF-8 beyond ASCII looks like, read as Windows-1252
ODD = re.compile(
    "[\u0180-\u0191\u0193-\u02c5\u02c7-\u02db\u02dd-\u036f\ue000-\uf8ff\ufffd]"
)  # what comes of letters that stood there by right: Ç and a fixed space
OPENS, LOST = "â€œ", "â€"  # an opening quote, and a closing one whose third byte Windows-1252 does not have and many drop
BLOCKS = "p|div|br|li|tr|h[1-6]|ul|ol|table|section|article|header|footer|blockquote|hr|pre"
INLINE = "a|b|i|u|em|strong|span|font|img|td|th|thead|tbody|sup|sub|small|center|nav|figure|figcaption|iframe|input|button|form|label"
TAG = re.compile(rf"<(/?)({BLOCKS}|{INLINE})(?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>]+))*\s*/?>", re.I)
HIDDEN = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->", re.I | re.S)
CODE = re.compile(r"```|<!doctype|<html\b|</?(?:body|head|template)\b|\bHTML\b|<\?|[;{]\s*$", re.I | re.M)


def mended(text: str) -> str:
    """The text without both; itself where there is neither."""
    return without_html(with_letters(text))


def with_letters(text: str) -> str:
    """`cafÃ©` as `café`, `Itâ€™s` as `It’s`; as often as it was read wrongly."""
    opened = OPENS in text
    for _ in range(3):
        new = text if text.isascii() else MISREAD.sub(lambda hit: _meant(hit.group()), text)
        if new == text:
            break
        text = new
    return text.replace(LOST, "”") if opened else text


def _meant(letters: str) -> str:
    """What the letters were before; themselves where that is nothing that people write."""
    raw = b"".join(sign.encode("cp1252", "ignore") or sign.encode("latin-1") for sign in letters)
    meant = raw.decode("utf-8", "replace")
    fixed_space = "\xa0" in letters and letters[0] not in "ÂÃâ"
    return letters if ODD.search(meant) or fixed_space else meant


def without_html(text: str) -> str:
    """The words between the tags, a line for each block; code, and texts that speak of HTML, as they are."""
    if "<" not in text or CODE.search(text):
        return text
    bare, tags = TAG.subn(lambda tag: "\n" if re.fullmatch(BLOCKS, tag.group(2), re.I) else "", HIDDEN.sub("", text))
    if not tags:
        return text
    plain = html.unescape(bare).replace("\xa0", " ")
    lines = [" ".join(line.split(" ")).rstrip() for line in plain.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
