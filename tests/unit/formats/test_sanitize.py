"""Text from strangers is made harmless before a terminal sees it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditor.formats.sanitize import plain, shorten, size
from auditor.model.plural import plural

#: Every character that Python knows, surrogates too.
ANY = st.text(alphabet=st.characters(exclude_categories=()))
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@given(ANY)
@example("\x1b[31mred\x1b[0m\x07\r\n\t\x7f\x9b")
@example("\u202ekcab\u2066x\u2069\u200b\u200d\ufeff\u061c\u00ad")
@example("\ud800\udfff\ue000\U000f0000\U000e0041\u2028\u2029\uffff")
def test_nothing_that_a_terminal_obeys_or_hides_gets_through(text: str) -> None:
    shown = plain(text)
    assert not [char for char in shown if unicodedata.category(char) in HIDDEN]
    assert len(shown.splitlines()) <= 1
    shown.encode()


@given(ANY, st.integers(1, 200))
def test_a_width_is_kept(text: str, width: int) -> None:
    assert len(plain(text, width=width)) <= width
    assert plain(text, width=10_000) in (plain(text), shorten(plain(text), 10_000))


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_what_is_visible_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("docker.io/library/nginx:1.27", "docker.io/library/nginx:1.27"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb", r"a\nb"),
        ("\u202etxt", r"\u202etxt"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("größe ☂", "größe ☂"),
    ],
)
def test_escapes_are_the_usual_ones(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_long_name_keeps_both_ends() -> None:
    name = "registry.example.com/" + "x" * 4000 + ":v1.2"
    shown = shorten(name, 60)
    assert len(shown) == 60
    assert shown.startswith("registry.example.com/")
    assert shown.endswith(":v1.2")
    assert "…" in shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (1 << 30, "1.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 62, "4194304.0 TiB"),
    ],
)
def test_sizes(number: int, shown: str) -> None:
    assert size(number) == shown


def test_plurals() -> None:
    assert [plural(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
