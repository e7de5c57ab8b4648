"""The plain way to next-token log-probabilities: one model, no cache, no batch."""

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def direct_log_probs(checkpoint: Path, adapter: Path | None, tokens: Sequence[int]) -> torch.Tensor:
    """[tokens, vocabulary] log-probabilities by transformers and PEFT."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, local_files_only=True)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    with torch.inference_mode():
        return model(torch.tensor([list(tokens)])).logits[0].float().log_softmax(-1)
