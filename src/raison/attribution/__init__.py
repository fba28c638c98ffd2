"""Attribution: a score for every word, computed from the model."""

from raison.attribution.attention import attention, attention_rollout
from raison.attribution.continuation import continuation
from raison.attribution.erasure import occlusion
from raison.attribution.extract import METHODS, extract, extract_to_file
from raison.attribution.gradients import gradient, input_x_gradient, integrated_gradients
from raison.attribution.imports import from_captum, from_inseq
from raison.attribution.random import random

__all__ = [
    "METHODS",
    "attention",
    "attention_rollout",
    "continuation",
    "extract",
    "extract_to_file",
    "from_captum",
    "from_inseq",
    "gradient",
    "input_x_gradient",
    "integrated_gradients",
    "occlusion",
    "random",
]
