"""Turn examples into token ids and mask them; the only room that knows templates.

Scored: the *last* assistant turn, given everything before it, without its end marker.
Trained on: *every* assistant turn with its end marker.
"""

from pilotfish.tokenization.render import Segment, preview, render, template_digest
from pilotfish.tokenization.scoring import encode_needs, encode_scoring
from pilotfish.tokenization.tokens import Encoded, Passage, clamp_max_length
from pilotfish.tokenization.training import (
    encode_prompts,
    encode_texts,
    encode_training,
    end_ids,
    end_marker,
)

__all__ = [
    "Encoded",
    "Passage",
    "Segment",
    "clamp_max_length",
    "encode_needs",
    "encode_prompts",
    "encode_scoring",
    "encode_texts",
    "encode_training",
    "end_ids",
    "end_marker",
    "preview",
    "render",
    "template_digest",
]
