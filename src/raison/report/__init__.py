"""Results as a person reads them: one self-contained HTML file, a view for notebooks, tables for a terminal."""

from raison.evaluation.results import VIEWS
from raison.report.html import notebook_html, render, write_report
from raison.report.terminal import as_text, grade_table, table

__all__ = ["grade_table", "notebook_html", "render", "table", "write_report"]

VIEWS.update(text=as_text, html=notebook_html)
