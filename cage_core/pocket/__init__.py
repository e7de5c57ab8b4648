"""The bundled default model: a tiny Llama checkpoint and four LoRA principals, trained by this package."""

from pathlib import Path

POCKET_DIR: Path = Path(__file__).parent / "weights"
"""Ordinary Hugging Face checkpoint directory; adapters live under ``principals/{name}``."""

SMALL_POCKET_DIR: Path = Path(__file__).parent / "small"
"""A smaller model of the same tokens, with principals of its own: what guides the larger one from below."""
