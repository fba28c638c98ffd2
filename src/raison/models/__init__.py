"""The only room that knows Hugging Face model classes."""

from raison.models.classifier import Classifier

__all__ = ["Classifier"]
