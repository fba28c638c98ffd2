"""Results as a person reads them: one self-contained HTML file, a view for notebooks, tables for a terminal."""

from raison.report.html import notebook_html, render, write_report
from raison.report.terminal import table

__all__ = ["notebook_html", "render", "table", "write_report"]
