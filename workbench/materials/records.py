"""One record of a file, and the guards that all readers share: encodings, huge rows, broken JSON, deep nesting.

What it is: bytes to text, and one JSON text to one mapping or a `Reject` with its sentence. What it is not: it reads no
whole file (`readers.py`) and does not know what a question or an answer is (`formats.py`). pyarrow unpacks zstd.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import orjson
import pyarrow as pa

from workbench.core.errors import WorkbenchError
from workbench.materials.encodings import NOT_UTF8, WESTERN, encoding_of
from workbench.materials.rows import Reject

HUGE = 10_000_000  # characters of one row; what is longer is a mistake in nearly every file and would stall the page
DEEPEST = 100  # brackets inside one another
EXCERPT = 200  # characters
HEAD = 65_536  # bytes that are looked at to tell encoding and layout
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # what packed files begin with, whatever they are called
PACKED = (".gz", ".zst", ".zstd")
FULL, FOLD = 1 << 27, 200  # bytes that any file may unpack to, and beyond them how many times its own size
LINES, DOCUMENT, TABLE, COLUMNS, ARROW, SAVED, PROSE = "lines", "document", "table", "columns", "arrow", "saved", "prose"
SAVED_SET, SAVED_PARTS = "state.json", "dataset_dict.json"  # what `datasets` leaves in a folder it saves: of one set, and of several
JSON = json.JSONDecoder(parse_constant=lambda name: None)  # NaN and Infinity are no numbers; a faster reader would lose digits
KINDS = {
    ".jsonl": LINES,
    ".ndjson": LINES,
    ".json": DOCUMENT,
    ".csv": TABLE,
    ".tsv": TABLE,
    ".tab": TABLE,
    ".parquet": COLUMNS,
    ".arrow": ARROW,
    ".feather": ARROW,
    ".txt": PROSE,
    ".md": PROSE,
}
MENDABLE = re.compile("[\x00\ud800-\udfff]")
CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat")


@dataclass(frozen=True)
class Record:
    """One row as a mapping of column to value, the line it begins in (from 1), and its first characters as they stand."""

    line: int
    value: dict[str, Any]
    raw: str


def kind_of(path: Path) -> str:
    """How the file is read, from its extension (`.gz` and `.zst` aside); what is missing or unknown is an error.

    Of folders only those are read that `datasets` saved, one set each.
    """
    if (path / SAVED_SET).is_file():
        return SAVED
    if (path / SAVED_PARTS).is_file():
        parts = sorted(part.parent.name for part in path.glob(f"*/{SAVED_SET}"))
        hint = f"Give one of them, for example {path / parts[0]}." if parts else "None of them is there."
        raise WorkbenchError(f"{path} holds several data sets ({', '.join(parts)}). {hint}")
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir() if extension(entry) in KINDS)[:5]
        hint = f" For example {path / inside[0]}." if inside else ""
        raise WorkbenchError(f"{path} is a folder, not a data file. Give the file inside it.{hint}")
    if not path.is_file():
        raise WorkbenchError(f"There is no file {path}. Check the path; it is read from the folder the program was started in.")
    if extension(path) not in KINDS:
        known = ", ".join(KINDS)
        raise WorkbenchError(
            f"{path.name} is not a kind of file that can be read here. Save it as one of {known}; text may be packed ({', '.join(PACKED)})."
        )
    return KINDS[extension(path)]


def reject(source: str, line: int, reason: str, remedy: str, raw: str = "", column: str = "") -> Reject:
    """A `Reject` whose excerpt is short and can be printed: undecodable bytes are shown as `\\xE9`."""
    shown = raw[:EXCERPT].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Reject(source, line, column, reason, remedy, shown.strip())


def text_head(path: Path) -> str:
    """The first characters of a text file, decoded as the rest will be; undecodable bytes are left out."""
    head = _bytes_head(path)
    return head.decode(encoding_of(head), errors="ignore")


def open_text(path: Path, newline: str | None = None) -> TextIO:
    """The file as text: unpacked if it is gzip or zstd, byte order mark removed, UTF-16 told by its mark or its zero bytes, Windows-1252
    by its letters.

    Bytes that are not UTF-8 come through as lone surrogates (`surrogateescape`), so that each bad row can be named.
    """
    encoding = encoding_of(_bytes_head(path))
    errors = "surrogateescape" if encoding in ("utf-8-sig", WESTERN) else "strict"
    return io.TextIOWrapper(_open_bytes(path), encoding=encoding, errors=errors, newline=newline)


def guarded(path: Path, rows: Iterator[Record | Reject]) -> Iterator[Record | Reject]:
    """`rows`, with what the operating system or a codec raises told as a sentence."""
    try:
        yield from rows
    except UnicodeError as error:
        raise WorkbenchError(
            f"{path.name} begins as UTF-16 but is damaged further on ({error.reason if isinstance(error, UnicodeDecodeError) else error}). "
            "Save it again as UTF-8."
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise WorkbenchError(f"{path.name} is a damaged gzip file ({error}). Fetch or pack it again.") from error
    except OSError as error:
        raise WorkbenchError(f"{path} cannot be read: {error.strerror or error}. Check that the file is whole and may be read.") from error


def bad_bytes(source: str, line: int, text: str) -> Reject | None:
    """The reject of a row that holds bytes which are not UTF-8, or None; byte, line and place in the row are named."""
    found = None if text.isascii() else NOT_UTF8.search(text)
    if found is None:
        return None
    line += text.count("\n", 0, found.start())
    place = found.start() - (text.rfind("\n", 0, found.start()) + 1) + 1
    return reject(
        source,
        line,
        f"Byte 0x{ord(found.group()) - 0xDC00:02X} in line {line}, character {place}, is not UTF-8.",
        "Save the file as UTF-8: in an editor choose the encoding UTF-8, in a spreadsheet the format 'CSV UTF-8'.",
        text[text.rfind("\n", 0, found.start()) + 1 :],
    )


def numbered_lines(stream: TextIO) -> Iterator[tuple[int, str, bool]]:
    """(number, text, whole): a line longer than `HUGE` comes as its beginning, with `whole` False."""
    number = 0
    while text := stream.readline(HUGE):
        number += 1
        whole = len(text) < HUGE or text.endswith("\n")
        yield number, text, whole
        while not whole:
            rest = stream.readline(HUGE)
            whole = len(rest) < HUGE or rest.endswith("\n")


def huge(source: str, line: int, text: str) -> Reject:
    """The reject of a row longer than `HUGE`."""
    return reject(
        source,
        line,
        f"This is a huge row: it has {HUGE // 1_000_000} million characters or more.",
        "Split it into several rows, or check that the line breaks of the file are intact.",
        text,
    )


def parse(source: str, line: int, text: str) -> Record | Reject:
    """One JSON value in `text` as a record."""
    if wrong := bad_bytes(source, line, text):
        return wrong
    if (texts := _texts(text)) is not None:
        return Record(line, texts, text[:EXCERPT])
    try:
        value = JSON.decode(text)
    except RecursionError:
        return too_deep(source, line, text)
    except json.JSONDecodeError as error:
        return broken(source, line + error.lineno - 1, error, text)
    except ValueError as error:
        return reject(source, line, f"The row cannot be read as JSON: {error}.", "Mend or remove the row.", text)
    return as_record(source, line, value, text)


def _texts(text: str) -> dict[str, str] | None:
    """A flat object of texts with nothing to mend, read in a third of the time; None for anything else: of numbers digits could be lost."""
    if "\\u" in text or "\x00" in text:
        return None
    try:
        value = orjson.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) and all(type(one) is str for one in value.values()) else None


def as_record(source: str, line: int, value: Any, text: str) -> Record | Reject:
    """A parsed JSON value as a record; `text` is what it was parsed from, for the guards and the excerpt."""
    if text.count("[") + text.count("{") > DEEPEST and _depth(value) > DEEPEST:
        return too_deep(source, line, text)
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict):
        kind = {list: "a list", bool: "true or false", int: "a number", float: "a number"}.get(type(value), "null")
        return reject(source, line, f"The row is {kind}, not an object.", 'Write each row as {"column": "value", …}.', text)
    if "\x00" in text or ("\\u" in text and ("\\u0000" in text or "\\ud" in text.lower())):
        value = mend(value)
    return Record(line, value, text[:EXCERPT])


def broken(source: str, line: int, error: json.JSONDecodeError, text: str) -> Reject:
    """The reject of JSON that does not parse, with line and column."""
    what = error.msg[0].lower() + error.msg[1:].replace("starting at", "starts here").removesuffix(" at")
    return reject(
        source,
        line,
        f"Broken JSON in line {line}, column {error.colno}: {what}.",
        'Mend that place; quotes and line breaks inside a text are written \\" and \\n.',
        text,
    )


def too_deep(source: str, line: int, text: str) -> Reject:
    return reject(source, line, f"The row is nested more than {DEEPEST} levels deep.", "Flatten or remove the row.", text)


def mend(value: Any) -> Any:
    """Zero characters and lone surrogates, which no tokenizer takes, replaced by U+FFFD; a surrogate pair is joined."""
    if isinstance(value, str):
        return MENDABLE.sub("\ufffd", value.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    if isinstance(value, dict):
        return {mend(name): mend(item) for name, item in value.items()}
    return [mend(item) for item in value] if isinstance(value, list) else value


def _depth(value: Any) -> int:
    """Levels of nesting, level by level, so that a deep value cannot exhaust the stack."""
    level, depth = [value], 0
    while level := [item for one in level if isinstance(one, (dict, list)) for item in (one.values() if isinstance(one, dict) else one)]:
        depth += 1
    return depth


def extension(path: Path) -> str:
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def _open_bytes(path: Path) -> BinaryIO:
    with path.open("rb") as probe:
        head = probe.read(4)
    if head.startswith(GZIP):
        return io.BufferedReader(_Unpacked(path, gzip.open(path, "rb")), HEAD)  # type: ignore[arg-type]
    if head == ZSTD:
        return io.BufferedReader(_Unpacked(path, pa.input_stream(str(path), compression="zstd")), HEAD)
    return path.open("rb")


class _Unpacked(io.RawIOBase):
    """What a packed file holds, until that is more than anybody packs: a few kilobytes can unpack to petabytes."""

    def __init__(self, path: Path, stream: BinaryIO):
        self._path, self._stream, self._done = path, stream, 0
        self._most = FULL + FOLD * path.stat().st_size

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        data = self._stream.read(len(room))
        room[: len(data)] = data
        self._done += len(data)
        if self._done > self._most:
            raise WorkbenchError(
                f"{self._path.name} unpacks to more than {FOLD} times its size ({self._done / 1e6:.0f} MB so far), as no text does. "
                "If it is what you want, unpack it yourself and bring what comes out."
            )
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _bytes_head(path: Path) -> bytes:
    with _open_bytes(path) as stream:
        return stream.read(HEAD)


def is_western(path: Path) -> bool:
    """Whether it is a file of text that is read as Windows-1252."""
    return kind_of(path) in (LINES, DOCUMENT, TABLE, PROSE) and encoding_of(_bytes_head(path)) == WESTERN
