"""Render an example as segments of text: prompt, reply, and the end marker of a reply.

Three text forms. `template`: the tokenizer's chat template, or the plain form where it has none.
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
_PLACEHOLDER = re.compile("\ue0f1([0-9]+)\ue0f2")  # replaces a control token spelled in a row


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered row, tokenized on its own."""

    text: str
    supervised: bool  # trained on
    scored: bool = False  # part of the response that is measured
    literal: bool = False  # text of the row: a spelled-out "<|im_end|>" must stay characters


def render(example: Example, tokenizer: Any = None, form: str = "template") -> tuple[Segment, ...]:
    """Render a row as a model reads it: the segments joined.

    Args:
        example: The row.
        tokenizer: Its chat template is used; without a tokenizer the plain form without end token.
        form: One of FORMS.

    Raises:
        UsageError: The chat template cannot render this conversation, or its rendering of a prompt
            is no prefix of its rendering of prompt and reply.
    """
    return Renderer.of(tokenizer, form).segments(example)


def preview(example: Example, tokenizer: Any = None, form: str = "template") -> str:
    """Return the rendered row with the parts that a model is trained on between ⟦ and ⟧."""
    parts = render(example, tokenizer, form)
    text = "".join(f"⟦{part.text}⟧" if part.supervised else part.text for part in parts)
    return text.replace("⟧⟦", "")


def template_digest(tokenizer: Any, form: str = "template") -> str:
    """Return sha256 of everything except the row that decides the rendered text."""
    template = chat_template(tokenizer) if form == "template" else None
    end = getattr(tokenizer, "eos_token", None)
    return hashlib.sha256(json.dumps([form, template, end, GAP]).encode()).hexdigest()


def chat_template(tokenizer: Any) -> str | None:
    """Return the tokenizer's own template (the default one of several), or None."""
    found = getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict):
        found = found.get("default")
    return found or None


def turns_of(example: Example) -> tuple[Turn, ...]:
    """Return a row as a conversation: a label is the reply to its text; plain text has no turns."""
    if example.turns or example.label is None:
        return example.turns
    return (Turn("user", example.text or ""), Turn("assistant", example.label))


@dataclass(frozen=True)
class Renderer:
    """One way to render rows, decided once for many rows."""

    tokenizer: Any
    form: str  # one of FORMS
    # text that the chat template writes before and after a reply; None without a template
    frame: tuple[str, str] | None
    # matches the tokenizer's control tokens; None without a template
    controls: re.Pattern[str] | None

    @classmethod
    def of(cls, tokenizer: Any, form: str) -> "Renderer":
        """Prepare a text form for a tokenizer.

        Raises:
            UsageError: An unknown form, or a chat template that is not prefix-preserving.
        """
        if form not in FORMS:
            raise unknown_name("text form", form, FORMS)
        if form != "template" or chat_template(tokenizer) is None:
            return cls(tokenizer, form, None, None)
        return cls(tokenizer, form, _find_frame(tokenizer), _control_tokens(tokenizer))

    def segments(self, example: Example) -> tuple[Segment, ...]:
        """Render prompt and replies of a row.

        Raises:
            UsageError: The chat template refuses the row.
        """
        turns = turns_of(example)
        if self.form == "superfiltering":
            # Li et al. 2024 (arXiv:2402.00530): each prompt turn and a line feed, then the response
            prompt = "".join(turn.content + "\n" for turn in _prompt_turns(turns))
            return (Segment(prompt, False), Segment(example.response, True, scored=True))
        if not turns:
            body = Segment(example.text or "", True, scored=True, literal=True)
            return (body, *self._end_token())
        if self.frame is None:
            return self._plain(turns)
        shielded, controls = self._hide_control_tokens(turns)
        return _restore_control_tokens(self._chat(shielded, self.frame), controls)

    def prompt(self, example: Example) -> tuple[Segment, ...]:
        """Render everything a model reads before it answers; () for plain text."""
        turns = _prompt_turns(turns_of(example))
        return self.segments(replace(example, turns=turns, text=None, label=None)) if turns else ()

    def _end_token(self) -> tuple[Segment, ...]:
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
            segments.extend(self._end_token())
            pending = GAP
        if turns[-1].role != "assistant":
            segments.append(Segment(pending, False, literal=True))
        return tuple(part for part in segments if part.text or part.supervised)

    def _chat(self, turns: Sequence[Turn], frame: tuple[str, str]) -> tuple[Segment, ...]:
        """Cut the template's text: each reply begins where the prompt before it, rendered, ends."""
        open_question = turns[-1].role != "assistant"
        whole = _apply_template(self.tokenizer, turns, generation_prompt=open_question)
        segments: list[Segment] = []
        done = 0
        for index, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            before = _apply_template(self.tokenizer, turns[:index], generation_prompt=True)
            if not whole.startswith(before) or len(before) < done:
                raise _not_prefix_preserving()
            last = index == len(turns) - 1
            reply = _reply(whole[len(before) :], turn.content, frame, scored=last)
            segments += [Segment(whole[done : len(before)], False), *reply]
            done = len(before) + sum(len(part.text) for part in reply)
        segments.append(Segment(whole[done:], False))
        return tuple(part for part in self._cut_after_end(segments) if part.text or part.scored)

    def _cut_after_end(self, segments: Sequence[Segment]) -> list[Segment]:
        """Stop supervising after the end token of an end marker: the rest is never generated."""
        end = getattr(self.tokenizer, "eos_token", None)
        cut: list[Segment] = []
        for part in segments:
            if not end or not part.supervised or part.scored or end not in part.text:
                cut.append(part)
                continue
            head, found, rest = part.text.partition(end)
            cut += [replace(part, text=head + found), Segment(rest, False)]
        return cut

    def _hide_control_tokens(self, turns: Sequence[Turn]) -> tuple[list[Turn], list[str]]:
        """Replace control tokens spelled in the turns by numbered placeholders; return both."""
        found: list[str] = []

        def placeholder(match: re.Match[str]) -> str:
            found.append(match.group())
            return f"\ue0f1{len(found) - 1}\ue0f2"

        if self.controls is None:
            return list(turns), found
        hidden = [
            replace(turn, content=self.controls.sub(placeholder, turn.content)) for turn in turns
        ]
        return hidden, found


def render_rows(
    examples: Sequence[Example], renderer: Renderer, *, prompts: bool = False
) -> tuple[list[tuple[Segment, ...]], list[bool]]:
    """Render many rows.

    Args:
        examples: The rows.
        renderer: How to render them.
        prompts: Render only the text before the answer.

    Returns:
        The segments of every row, and whether the template refused it (then there are none).
    """
    render_row = renderer.prompt if prompts else renderer.segments
    rows: list[tuple[Segment, ...]] = []
    refused = []
    for example in examples:
        try:
            rows.append(render_row(example))
            refused.append(False)
        except UsageError:
            rows.append(())
            refused.append(True)
    return rows, refused


def _prompt_turns(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    return turns[:-1] if turns and turns[-1].role == "assistant" else turns


def _apply_template(tokenizer: Any, turns: Sequence[Turn], *, generation_prompt: bool) -> str:
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation_prompt
        )
    except Exception as error:  # jinja errors, or whatever a template raises itself
        raise UsageError(f"the chat template refuses a conversation: {error}") from error
    return str(text)


def _find_frame(tokenizer: Any) -> tuple[str, str]:
    """Find the text that the template writes around a reply, with a probe word as the reply."""
    turns = (Turn("user", "Hi"), Turn("assistant", _PROBE))
    before = _apply_template(tokenizer, turns[:1], generation_prompt=True)
    whole = _apply_template(tokenizer, turns, generation_prompt=False)
    lead, found, tail = whole[len(before) :].partition(_PROBE)
    if not whole.startswith(before) or not found:
        raise _not_prefix_preserving()
    return lead, tail


def _reply(rest: str, content: str, frame: tuple[str, str], *, scored: bool) -> list[Segment]:
    """Cut the reply that `rest` begins with into lead, words and end marker.

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
    raise _not_prefix_preserving()


def _not_prefix_preserving() -> UsageError:
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


def _restore_control_tokens(
    segments: Sequence[Segment], controls: Sequence[str]
) -> tuple[Segment, ...]:
    """Put hidden control tokens back, each as a literal segment of its own."""
    if not controls:
        return tuple(segments)
    restored: list[Segment] = []
    for part in segments:
        pieces = _PLACEHOLDER.split(part.text)  # text, number, text, number, ..., text
        for index, piece in enumerate(pieces):
            if index % 2:
                restored.append(replace(part, text=controls[int(piece)], literal=True))
            elif piece or len(pieces) == 1:
                restored.append(replace(part, text=piece))
    return tuple(restored)
