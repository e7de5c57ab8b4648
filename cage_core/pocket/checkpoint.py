"""Writing of the pocket base: ordinary Hugging Face files, weights stored in half precision."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cage_core.pocket.sampling import LONGEST_ANSWER_TOKENS, MIN_P


def write_base(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write model, tokenizer, chat template and generation defaults."""
    out.mkdir(parents=True, exist_ok=True)
    stored = copy.deepcopy(model).half()
    stored.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        min_p=MIN_P,
        max_new_tokens=LONGEST_ANSWER_TOKENS,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    stored.save_pretrained(out)
    # Half precision on disk only: loaders take the type from the config, and CPUs are slow in half precision.
    config_path = out / "config.json"
    config = json.loads(config_path.read_text())
    config["dtype"] = "float32"
    config_path.write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save_pretrained(out, save_jinja_files=False)
