"""The only room that knows Hugging Face model classes."""

from raison.models.answerer import Answerer
from raison.models.classifier import Classifier
from raison.models.tagger import Tagger
from raison.models.writer import Writer

__all__ = ["Answerer", "Classifier", "Tagger", "Writer"]
