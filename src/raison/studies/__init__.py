"""The papers' experiments, each a file that can be read from top to bottom, thin over the package."""
