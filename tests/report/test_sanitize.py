"""Hidden characters become visible, secrets go, numbers stay JSON."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.redaction import redact
from pilotfish.report.sanitize import clean, excerpt, visible
from tests.report.hostile import HOSTILE, SECRETS


def hidden(text: str) -> list[str]:
    return [
        char
        for char in text
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and char not in "\n\t\u200c\u200d"
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hidden_is_left(text: str) -> None:
    assert hidden(visible(text)) == []


@given(st.text(st.characters(), max_size=60))
def test_nothing_hidden_is_left_of_any_text(text: str) -> None:
    shown = visible(text)
    assert hidden(shown) == []
    assert visible(shown) == shown
    shown.encode()


def test_what_was_hidden_is_named() -> None:
    assert visible("a\u202eb") == "a[U+202E]b"
    assert visible("\x1b[31m") == "␛[31m"
    assert visible("\x9b") == "[U+009B]"
    assert visible("\ud800") == "\ufffd"


def test_ordinary_text_is_untouched() -> None:
    text = "Größe, naïve, 日本語, नमस्ते, می‌خواهم, 👩‍💻, e\u0301\n\ttabbed"
    assert visible(text) == text


def test_stacked_accents_are_cut_to_four() -> None:
    assert visible("Z" + "\u0336" * 50 + "y") == "Z" + "\u0336" * 4 + "y"


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_taken_out(secret: str) -> None:
    shown = redact(f"token {secret} end")
    assert "abcdefgh" not in shown
    assert "pa55word" not in shown
    assert shown.startswith("token ")
    assert shown.endswith(" end") or shown.endswith("example.org/x end")


def test_clean_makes_strict_json_of_any_depth() -> None:
    value = {"a": [float("nan"), 1.5, {"\u202e": (float("inf"), True, None)}]}
    cleaned = clean(value)
    assert cleaned == {"a": [None, 1.5, {"[U+202E]": [None, True, None]}]}
    json.dumps(cleaned, allow_nan=False)


def test_excerpt_says_how_much_is_left_out() -> None:
    assert excerpt("abc", 3) == "abc"
    assert excerpt("a" * 1200, 200) == "a" * 200 + " … (+1,000 characters)"
