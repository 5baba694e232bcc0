"""Hugging Face configurations as they are published, by the row of the catalogue."""

import dataclasses
import json

from huggingface_alternating import ALTERNATING
from huggingface_uniform import UNIFORM

CASES = UNIFORM | ALTERNATING
NESTED = "ForConditionalGeneration"


def written(folder, architecture, text, beside=None):
    """Write a configuration; return its path."""
    content = {"text_config": text} if architecture.endswith(NESTED) else text
    whole = {"architectures": [architecture], **content, **(beside or {})}
    path = folder / "config.json"
    path.write_text(json.dumps(whole))
    return path


def shapes(entry):
    """Return what the numbers say."""
    row = dataclasses.asdict(entry)
    return {key: row[key] for key in row if key not in ("name", "confidence", "source")}
