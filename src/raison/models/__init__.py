"""The only room that knows Hugging Face model classes."""

from raison.models.answerer import Answerer
from raison.models.classifier import Classifier

__all__ = ["Answerer", "Classifier"]
