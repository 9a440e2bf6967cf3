"""Format numbers and codes for the page: one function each, so that a number always looks alike."""

import math

from pilotfish.comparison.arm_names import ARM_WORDS, parse_arm_name

OUTCOMES = {
    "better": "Better",
    "equivalent": "Equivalent",
    "worse": "Worse",
    "undecided": "Undecided",
    "not_tested": "Not tested",
}

REASONS = {
    "kept": "kept",
    "over_budget": "ranked below the last row that fits the budget",
    "over_ceiling": "score above the method's ceiling",
    "under_floor": "score below the method's floor",
    "unmatched": "no selected row of the same length and source was left to match",
    "in_selection": "part of the selection that this control is matched to",
    "over_quota": "ranked below the last row that fits its group's quota",
    "duplicate_of": "a duplicate of a better-ranked row",
    "empty_response": "the response is empty",
    "no_response_tokens": "truncation removed the whole response",
    "prompt_over_limit": "the prompt alone fills the model's window",
    "too_few_tokens": "too few response tokens to measure",
    "too_short": "too short for the method",
    "zero_denominator": "the formula would divide by zero",
    "nonfinite": "the model's output was not a finite number",
    "missing_signal": "a signal that the method needs is missing",
    "model_error": "the model failed on this row",
    "cascade_skipped": "the first model of the cascade did not pass it on",
    "oom_single_row": "the row alone did not fit into memory",
}

_LARGE, _HUGE = 1e4, 1e12
_LONG = 32  # characters of a path from which only its end is shown
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def whole(value: float | None) -> str:
    """Format a whole number: 12,345; a dash for None."""
    return "–" if value is None else _minus(f"{value:,.0f}")


def count(value: float | None) -> str:
    """Format a count or a median of counts: 15, 15.5."""
    return whole(value) if value is None or value == int(value) else _minus(f"{value:,.1f}")


def decimal(value: float | None, digits: int = 3) -> str:
    """Format a number with a fixed number of decimals: 0.873; a dash for None."""
    return "–" if value is None else _minus(_fixed(value, "", digits))


def signed(value: float | None, digits: int = 3) -> str:
    """Format a difference: +0.047 or −0.012."""
    return "–" if value is None else _minus(_fixed(value, "+", digits))


def _fixed(value: float, sign: str, digits: int) -> str:
    """Format with fixed decimals; one digit of tiny numbers, as in the verdict's sentence.

    Numbers from ten thousand on have no decimals, and from 1e12 on an exponent.
    """
    tiny = value != 0 and abs(value) < 0.5 * 10**-digits
    if abs(value) >= _LARGE:
        return f"{value:{sign},.0f}" if abs(value) < _HUGE else f"{value:{sign}.3e}"
    return f"{value:{sign}.1g}" if tiny else f"{value:{sign}.{digits}f}"


def percent(value: float | None) -> str:
    """Format a share: 12.3% from .123."""
    return "–" if value is None else _minus(f"{100 * value:.1f}%")


def points(value: float | None) -> str:
    """Format a change of a share: +12.3 points."""
    return "–" if value is None else f"{_minus(f'{100 * value:+.1f}')} points"


def measure(value: float | None) -> str:
    """Format a score of any size with 3 to 4 digits: 1.234, 0.0123, 1.23 × 10⁻⁷."""
    if value is None:
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = 3 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
        return _minus(f"{value:,.{digits}f}")
    return power(value)


def power(value: float | None) -> str:
    """Format FLOPs: 1.23 × 10¹⁵; small numbers have no exponent."""
    if value is None:
        return "–"
    if abs(value) >= 1e6 or 0 < abs(value) < 1e-3:
        digits, exponent = f"{value:.2e}".split("e")
        return _minus(f"{digits} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}")
    return measure(value) if value else "0"


def seconds(value: float | None) -> str:
    """Format a duration: 8.1 s, 3 min 20 s, 2 h 05 min."""
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
    """Describe a reason code; unknown codes are shown as they are."""
    head, _, rest = code.partition(":")
    if head == "unscorable" and rest:
        return f"unscorable: {reason(rest)}"
    return REASONS.get(code, code.replace("_", " "))


def about(arm: str) -> str:
    """Describe an arm; "" for an arm of the user's own."""
    name = parse_arm_name(arm)
    budget = f"budget {name.budget.replace('pct', '%')}" if name.budget else ""
    equal = "equal epochs" if name.equal else ""
    return ", ".join(part for part in (ARM_WORDS.get(name.arm, ""), budget, equal) if part)


def metric(name: str | None) -> str:
    """Return the name of a metric as words: exact match."""
    return (name or "metric").replace("_", " ")


def tail(path: str) -> str:
    """Return the end of a long path, cut between folders; the provenance has all of it."""
    *before, folder, last = ["", *path.rstrip("/").split("/")]
    return f"…/{folder}/{last}" if len(path) > _LONG and any(before) else path


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")


def ordinal(number: int) -> str:
    """Format a rank: 1st, 2nd, 11th, 22nd."""
    last = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number:,}{last or 'th'}"


def split(sentence: str, at: str) -> tuple[str, str]:
    """Split a verdict into its claim and its numbers, which begin with `at`."""
    head, found, rest = sentence.partition(at)
    return head, found + rest


FILTERS = (
    *(whole, count, decimal, signed, percent, points, measure, power, seconds),
    *(reason, about, ordinal, split, metric, tail),
)
