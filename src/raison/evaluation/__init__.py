"""Judging rationales: do they match people's, and do they drive the model's own decision."""
