"""How the page says numbers and codes: one function each, so that a number looks alike anywhere."""

import math

from pilotfish.comparison.arm_names import parse_arm_name
from pilotfish.comparison.wording import ARMS

OUTCOMES = {
    "better": "Better",
    "equivalent": "Equivalent",
    "worse": "Worse",
    "undecided": "Undecided",
    "not_tested": "Not tested",
}

REASONS = {
    "kept": "kept",
    "over_budget": "ranked after the last row the budget buys",
    "over_ceiling": "its score is over the method's ceiling",
    "under_floor": "its score is under the method's floor",
    "unmatched": "no selected row of its length and source was left to match",
    "in_selection": "stands in the selection this control is matched to",
    "over_quota": "ranked after the last row that its group's quota buys",
    "duplicate_of": "a copy of a better-ranked row",
    "empty_response": "the response is empty",
    "no_response_tokens": "truncation left no token of the response",
    "prompt_over_limit": "the prompt alone fills the model's window",
    "too_few_tokens": "too few response tokens to measure",
    "too_short": "shorter than the method can judge",
    "zero_denominator": "the formula would divide by zero",
    "nonfinite": "the model's answer was no finite number",
    "missing_signal": "something the method needs was not measured",
    "model_error": "the model failed on this row",
    "cascade_skipped": "the cheaper model of the cascade did not pass it on",
    "oom_single_row": "the row alone did not fit into memory",
}

_LARGE, _HUGE = 1e4, 1e12
_TAIL = 32  # characters of a path that are shown where its end is what tells it
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def whole(value: float | None) -> str:
    """12,345; a dash where there is no number."""
    return "–" if value is None else _minus(f"{value:,.0f}")


def count(value: float | None) -> str:
    """A number of things that may end in a half, as a median does: 15, 15.5."""
    return whole(value) if value is None or value == int(value) else _minus(f"{value:,.1f}")


def decimal(value: float | None, digits: int = 3) -> str:
    """0.873, always with the same number of decimals; a dash where there is no number."""
    return "–" if value is None else _minus(_fixed(value, "", digits))


def signed(value: float | None, digits: int = 3) -> str:
    """+0.047 or −0.012."""
    return "–" if value is None else _minus(_fixed(value, "+", digits))


def _fixed(value: float, sign: str, digits: int) -> str:
    """Fixed decimals; what would round to nothing keeps one digit, as in the verdict's words.

    From ten thousand on the decimals say nothing, and from a million million on the digits.
    """
    tiny = value != 0 and abs(value) < 0.5 * 10**-digits
    if abs(value) >= _LARGE:
        return f"{value:{sign},.0f}" if abs(value) < _HUGE else f"{value:{sign}.3e}"
    return f"{value:{sign}.1g}" if tiny else f"{value:{sign}.{digits}f}"


def percent(value: float | None) -> str:
    """12.3% from the share .123."""
    return "–" if value is None else _minus(f"{100 * value:.1f}%")


def points(value: float | None) -> str:
    """A change of a share in percentage points: +12.3 points."""
    return "–" if value is None else f"{_minus(f'{100 * value:+.1f}')} points"


def measure(value: float | None) -> str:
    """Four significant digits, for scores of any size: 1.234, 0.0123, 1.2 × 10⁻⁷."""
    if value is None:
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = 3 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
        return _minus(f"{value:,.{digits}f}")
    return power(value)


def power(value: float | None) -> str:
    """1.23 × 10¹⁵, for FLOPs; small numbers are written out."""
    if value is None:
        return "–"
    if abs(value) >= 1e6 or 0 < abs(value) < 1e-3:
        digits, exponent = f"{value:.2e}".split("e")
        return _minus(f"{digits} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}")
    return measure(value) if value else "0"


def seconds(value: float | None) -> str:
    """8.1 s, 3 min 20 s, 2 h 05 min."""
    if value is None:
        return "–"
    if round(value, 1) < 60:
        return f"{value:.1f} s"
    whole_seconds = round(value)
    if whole_seconds < 3600:
        return f"{whole_seconds // 60} min {whole_seconds % 60:02d} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def reason(code: str) -> str:
    """A reason code as words; an unknown one as it is."""
    head, _, rest = code.partition(":")
    if head == "unscorable" and rest:
        return f"unscorable: {reason(rest)}"
    return REASONS.get(code, code.replace("_", " "))


def about(arm: str) -> str:
    """An arm in words; nothing for an arm of the user's own."""
    place = parse_arm_name(arm)
    more = [f"budget {place.budget.replace('pct', '%')}" if place.budget else ""]
    more.append("in equal epochs" if place.equal else "")
    return ", ".join(part for part in (ARMS.get(place.arm, ""), *more) if part)


def metric(name: str | None) -> str:
    """A metric as words: exact match."""
    return (name or "metric").replace("_", " ")


def tail(path: str) -> str:
    """The end of a long path, cut between folders; the whole of it stands in the provenance."""
    *before, folder, last = ["", *path.rstrip("/").split("/")]
    return f"…/{folder}/{last}" if len(path) > _TAIL and any(before) else path


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")


def ordinal(number: int) -> str:
    """1st, 2nd, 11th, 22nd."""
    last = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number:,}{last or 'th'}"


def split(sentence: str, at: str) -> tuple[str, str]:
    """A verdict's claim and the numbers behind it, cut where `at` begins; all of it without one."""
    head, found, rest = sentence.partition(at)
    return head, found + rest


FILTERS = (
    *(whole, count, decimal, signed, percent, points, measure, power, seconds),
    *(reason, about, ordinal, split, metric, tail),
)
