"""Training: Hugging Face's trainer on records, and the testbed's small models."""

from raison.training.finetune import Config, few_shot, finetune
from raison.training.small import small_model

__all__ = ["Config", "few_shot", "finetune", "small_model"]
