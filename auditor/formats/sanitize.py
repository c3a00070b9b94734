"""Escape control characters in untrusted text (names, labels), which a terminal would execute; format sizes."""

from __future__ import annotations

import re

#: Control, format (bidi marks, zero-width), surrogate, private, unassigned; and the line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

#: Characters that may need an escape in JSON; new lines are its layout.
_NOT_PLAIN = r"[^\n -~]+"


def plain(text: str, *, width: int | None = None) -> str:
    r"""Escape control and invisible characters (`\x1b`, `\u202e`); cut in the middle to `width` characters."""
    shown = text if text.isascii() and text.isprintable() else "".join(map(_shown, text))
    return shorten(shown, width) if width is not None else shown


def _shown(char: str) -> str:
    import unicodedata  # noqa: PLC0415 - most texts are ASCII

    if unicodedata.category(char) not in _HIDDEN:
        return char
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def json_plain(text: str) -> str:
    """Escape control and invisible characters of a JSON text by JSON's own escapes; its meaning stays the same."""
    return text if text.isascii() and "\x7f" not in text else re.sub(_NOT_PLAIN, _escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return "".join(c if c.isprintable() else _json_escape(c) for c in found[0])


def _json_escape(char: str) -> str:
    """The escape of RFC 8259, section 7: the UTF-16 code units of a character."""
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def shorten(text: str, width: int) -> str:
    """Cut a long text in the middle; the registry at its start and the tag at its end remain."""
    if len(text) <= width:
        return text
    head = (width - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def size(number: int) -> str:
    """A number of bytes in binary units: 1536 is `1.5 KiB`."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - the step between binary units
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
