"""Annotators: is there a person to learn, and did the model learn them (CAPO, Chen et al. 2026).

What is known of the paper is little; what is our reconstruction says so where it stands.
"""
