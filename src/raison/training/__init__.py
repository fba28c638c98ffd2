"""Training: Hugging Face's trainer on records, and the testbed's small models."""

from raison.training.aligned import Alignment
from raison.training.finetune import Config, few_shot, finetune
from raison.training.lora import LoraConfig, finetune_lora
from raison.training.losses import LOSSES
from raison.training.small import small_model
from raison.training.tagging import finetune_tagger

__all__ = [
    "LOSSES",
    "Alignment",
    "Config",
    "LoraConfig",
    "few_shot",
    "finetune",
    "finetune_lora",
    "finetune_tagger",
    "small_model",
]
