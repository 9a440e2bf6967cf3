"""Example -> segments of text: what is prompt, what is reply, what ends a reply.

Three forms. `template`: the tokenizer's chat template, or the plain one where it has none.
`plain`: contents joined by a blank line, an end token after every assistant turn where the
tokenizer has one. `superfiltering`: contents and response joined by a line feed, nothing else.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pilotfish.errors import UsageError, unknown_name
from pilotfish.records import Example, Turn

FORMS = ("template", "plain", "superfiltering")
GAP = "\n\n"

_PROBE = "pilotfishprobe"
_HOLE = re.compile("\ue0f1([0-9]+)\ue0f2")  # stands in for a control token spelled in a row


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered row, tokenised on its own.

    supervised: trained on. scored: part of the response that is measured. literal: text of the
    row in which a spelled-out control token ("<|im_end|>") must stay plain characters.
    """

    text: str
    supervised: bool
    scored: bool = False
    literal: bool = False


def render(example: Example, tokenizer: Any = None, form: str = "template") -> tuple[Segment, ...]:
    """The row as a model is shown it; the text is the segments glued together.

    Without a tokenizer the plain template is used, with no end token. Raises UsageError when the
    chat template cannot render this conversation, or its rendering of a prompt is no prefix of its
    rendering of prompt and reply.
    """
    return Renderer.of(tokenizer, form).segments(example)


def preview(example: Example, tokenizer: Any = None, form: str = "template") -> str:
    """The rendered row with the parts a model learns to say between ⟦ and ⟧."""
    parts = render(example, tokenizer, form)
    text = "".join(f"⟦{part.text}⟧" if part.supervised else part.text for part in parts)
    return text.replace("⟧⟦", "")


def template_digest(tokenizer: Any, form: str = "template") -> str:
    """sha256 of everything but the row that decides its text."""
    template = chat_template(tokenizer) if form == "template" else None
    end = getattr(tokenizer, "eos_token", None)
    return hashlib.sha256(json.dumps([form, template, end, GAP]).encode()).hexdigest()


def chat_template(tokenizer: Any) -> str | None:
    """The tokenizer's own template (the default one where it has several), or None."""
    found = getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict):
        found = found.get("default")
    return found or None


def turns_of(example: Example) -> tuple[Turn, ...]:
    """A row as a conversation; a label is the reply to its text; plain text has no turns."""
    if example.turns or example.label is None:
        return example.turns
    return (Turn("user", example.text or ""), Turn("assistant", example.label))


@dataclass(frozen=True)
class Renderer:
    """One way to write rows, decided once for many rows.

    frame: what the chat template puts before and after the words of a reply; None: plain text.
    """

    tokenizer: Any
    form: str
    frame: tuple[str, str] | None
    controls: re.Pattern[str] | None

    @classmethod
    def of(cls, tokenizer: Any, form: str) -> "Renderer":
        """Raises UsageError for an unknown form or a chat template that keeps no prefix."""
        if form not in FORMS:
            raise unknown_name("text form", form, FORMS)
        chat = form == "template" and chat_template(tokenizer) is not None
        frame = _frame(tokenizer) if chat else None
        return cls(tokenizer, form, frame, _control_tokens(tokenizer) if chat else None)

    def segments(self, example: Example) -> tuple[Segment, ...]:
        """The row, prompt and replies. Raises UsageError where the template refuses the row."""
        turns = turns_of(example)
        if self.form == "superfiltering":
            return _superfiltering(example, turns)
        if not turns:
            body = Segment(example.text or "", True, scored=True, literal=True)
            return (body, *self._end())
        if self.frame is None:
            return self._plain(turns)
        shielded, holes = self._shield(turns)
        return _fill(self._chat(shielded), holes)

    def prompt(self, example: Example) -> tuple[Segment, ...]:
        """Everything a model is shown before it answers; () for plain text, which asks nothing."""
        turns = turns_of(example)
        asked = turns[:-1] if turns and turns[-1].role == "assistant" else turns
        return self.segments(replace(example, turns=asked, text=None, label=None)) if asked else ()

    def _end(self) -> tuple[Segment, ...]:
        end = getattr(self.tokenizer, "eos_token", None)
        return (Segment(end, True),) if end else ()

    def _plain(self, turns: Sequence[Turn]) -> tuple[Segment, ...]:
        segments: list[Segment] = []
        pending = ""
        for index, turn in enumerate(turns):
            if turn.role != "assistant":
                pending += turn.content + GAP
                continue
            last = index == len(turns) - 1
            segments.append(Segment(pending, False, literal=True))
            segments.append(Segment(turn.content, True, scored=last, literal=True))
            segments.extend(self._end())
            pending = GAP
        if turns[-1].role != "assistant":
            segments.append(Segment(pending, False, literal=True))
        return tuple(part for part in segments if part.text or part.supervised)

    def _chat(self, turns: Sequence[Turn]) -> tuple[Segment, ...]:
        assert self.frame is not None
        asks = turns[-1].role != "assistant"
        whole = _apply(self.tokenizer, turns, ask=asks)
        segments: list[Segment] = []
        done = 0
        for index, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            before = _apply(self.tokenizer, turns[:index], ask=True)
            if not whole.startswith(before) or len(before) < done:
                raise _no_prefix()
            last = index == len(turns) - 1
            reply = _reply(whole[len(before) :], turn.content, self.frame, scored=last)
            segments += [Segment(whole[done : len(before)], False), *reply]
            done = len(before) + sum(len(part.text) for part in reply)
        segments.append(Segment(whole[done:], False))
        return tuple(part for part in self._cut_after_end(segments) if part.text or part.scored)

    def _cut_after_end(self, segments: Sequence[Segment]) -> list[Segment]:
        """What follows the end token inside an end marker is never generated: not supervised."""
        end = getattr(self.tokenizer, "eos_token", None)
        cut: list[Segment] = []
        for part in segments:
            if not end or not part.supervised or part.scored or end not in part.text:
                cut.append(part)
                continue
            head, found, rest = part.text.partition(end)
            cut += [replace(part, text=head + found), Segment(rest, False)]
        return cut

    def _shield(self, turns: Sequence[Turn]) -> tuple[list[Turn], list[str]]:
        """The turns with every control token spelled in them swapped for a numbered hole."""
        holes: list[str] = []

        def hole(match: re.Match[str]) -> str:
            holes.append(match.group())
            return f"\ue0f1{len(holes) - 1}\ue0f2"

        if self.controls is None:
            return list(turns), holes
        shielded = [replace(turn, content=self.controls.sub(hole, turn.content)) for turn in turns]
        return shielded, holes


def render_rows(
    examples: Sequence[Example], renderer: Renderer, *, prompts: bool = False
) -> tuple[list[tuple[Segment, ...]], list[bool]]:
    """Segments of every row, and which rows the template refuses (their segments are empty)."""
    write = renderer.prompt if prompts else renderer.segments
    rows: list[tuple[Segment, ...]] = []
    broken = []
    for example in examples:
        try:
            rows.append(write(example))
            broken.append(False)
        except UsageError:
            rows.append(())
            broken.append(True)
    return rows, broken


def _superfiltering(example: Example, turns: Sequence[Turn]) -> tuple[Segment, ...]:
    """Li et al. 2024 (arXiv:2402.00530): each prompt turn and a line feed, response glued on."""
    asked = turns[:-1] if turns and turns[-1].role == "assistant" else turns
    prompt = "".join(turn.content + "\n" for turn in asked)
    return (Segment(prompt, False), Segment(example.response, True, scored=True))


def _apply(tokenizer: Any, turns: Sequence[Turn], *, ask: bool) -> str:
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    except Exception as error:  # jinja, or whatever a template raises in words of its own
        raise UsageError(f"the chat template refuses a conversation: {error}") from error
    return str(text)


def _frame(tokenizer: Any) -> tuple[str, str]:
    """Find what the template writes before and after a reply, with a probe word as the reply."""
    turns = (Turn("user", "Hi"), Turn("assistant", _PROBE))
    before = _apply(tokenizer, turns[:1], ask=True)
    whole = _apply(tokenizer, turns, ask=False)
    lead, found, tail = whole[len(before) :].partition(_PROBE)
    if not whole.startswith(before) or not found:
        raise _no_prefix()
    return lead, tail


def _reply(rest: str, content: str, frame: tuple[str, str], *, scored: bool) -> list[Segment]:
    """The reply that `rest` begins with: lead, words, end marker.

    Some templates write the lead only before the last reply, and many strip the words.
    """
    lead, tail = frame
    for opening in dict.fromkeys((lead, "")):
        for words in dict.fromkeys((content, content.strip(), content.rstrip(), content.lstrip())):
            if not rest.startswith(opening + words + tail):
                continue
            # A blank lead belongs to the words: alone it would be cut into other tokens.
            glued = opening + words if not opening.strip() else words
            reply = [Segment(glued, True, scored=scored), Segment(tail, True)]
            return reply if not opening.strip() else [Segment(opening, True), *reply]
    raise _no_prefix()


def _no_prefix() -> UsageError:
    return UsageError(
        "the chat template is not prefix-preserving: a prompt rendered alone is not how the "
        "prompt with its reply begins, so no mask can say which tokens are the reply",
        hint="use a tokenizer without a chat template; the plain template is taken then",
    )


def _control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    names = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)
    longest_first = sorted(names - {""}, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, longest_first))) if names else None


def _fill(segments: Sequence[Segment], holes: Sequence[str]) -> tuple[Segment, ...]:
    """Put spelled control tokens back, each a literal segment of its own."""
    if not holes:
        return tuple(segments)
    filled: list[Segment] = []
    for part in segments:
        pieces = _HOLE.split(part.text)  # text, number, text, number, ..., text
        for index, piece in enumerate(pieces):
            if index % 2:
                filled.append(replace(part, text=holes[int(piece)], literal=True))
            elif piece or len(pieces) == 1:
                filled.append(replace(part, text=piece))
    return tuple(filled)
