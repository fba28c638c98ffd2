"""Training: Hugging Face's trainer on records."""

from raison.training.finetune import Config, few_shot, finetune

__all__ = ["Config", "few_shot", "finetune"]
