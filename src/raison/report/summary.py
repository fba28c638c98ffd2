"""What can be concluded from a verdict: for each metric who leads, what is resolved, and what is withheld."""

from collections import Counter
from typing import Literal, NamedTuple

from raison.evaluation.results import Cell, Comparison, Verdict
from raison.report.glossary import Metric, describe, ordered

Outcome = Literal["resolved", "unresolved", "withheld"]
Leads = dict[str, Comparison]  # the other source -> its comparison with the leader


class Finding(NamedTuple):
    """What the comparisons of one metric say together."""

    metric: Metric
    leader: str | None  # the source with the best value; None where none may be named
    tied: list[str]  # sources that are not resolved from the leader
    resolved: int  # differences that are resolved after correction
    family: int  # differences compared
    withheld: str  # why nothing may be ranked; empty where it may
    at_reference: list[str]  # sources whose interval reaches the reference
    reference: str  # its name; empty where there is none


def outcome(comparison: Comparison) -> Outcome:
    """Sort a comparison by its verdict."""
    if comparison.verdict in ("a higher", "b higher"):
        return "resolved"
    return "unresolved" if comparison.verdict.startswith("not resolved") else "withheld"


def higher(comparison: Comparison) -> str | None:
    """Give the source that is higher, where the difference is resolved."""
    return {"a higher": comparison.a, "b higher": comparison.b}.get(comparison.verdict)


def findings(verdict: Verdict) -> list[Finding]:
    """Give one finding for each metric whose sources were compared, in the glossary's order."""
    return [_finding(metric, verdict) for metric in ordered([comparison.metric for comparison in verdict.comparisons])]


def _finding(metric: Metric, verdict: Verdict) -> Finding:
    cells = [cell for cell in verdict.cells if cell.metric == metric.name and cell.slice == "all"]
    family = [comparison for comparison in verdict.comparisons if comparison.metric == metric.name]
    outcomes = Counter(outcome(comparison) for comparison in family)
    if outcomes["withheld"] == len(family):
        reason = Counter(comparison.verdict for comparison in family).most_common(1)[0][0]
        return Finding(metric, None, [], 0, len(family), reason.removeprefix("withheld: "), [], "")
    leader = _leader(metric, cells)
    tied = [_other(c, leader) for c in family if leader in (c.a, c.b) and outcome(c) != "resolved"] if leader else []
    reference, reached = _at_reference(metric, cells)
    return Finding(metric, leader, tied, outcomes["resolved"], len(family), "", reached, reference)


def _other(comparison: Comparison, source: str) -> str:
    return comparison.b if comparison.a == source else comparison.a


def _leader(metric: Metric, cells: list[Cell]) -> str | None:
    values = {cell.source: cell.value for cell in cells if cell.value is not None and not cell.verdict}
    if not values or not metric.better:
        return None
    best = max if metric.better == "higher" else min
    return best(values, key=lambda source: values[source])


def _at_reference(metric: Metric, cells: list[Cell]) -> tuple[str, list[str]]:
    """Give the reference of doing nothing, and the sources that are not better than it by their interval."""
    name = next((n for n in ("chance", "random") if any(n in cell.frame for cell in cells)), "")
    return name, [cell.source for cell in cells if metric.better and _reaches(cell, name, metric.better)]


def _reaches(cell: Cell, reference: str, better: str) -> bool:
    mark, near = cell.frame.get(reference), cell.low if better == "higher" else cell.high
    if mark is None or near is None:
        return False
    return near <= mark if better == "higher" else near >= mark


def sentence(finding: Finding) -> str:
    """Say in a sentence what the comparisons of a metric allow to conclude."""
    if finding.withheld:
        return f"No ranking: {finding.withheld.rstrip('.')}."
    if not finding.resolved:
        return "No difference between sources is resolved."
    if finding.leader is None:
        return "Some differences between sources are resolved."
    if not finding.tied:
        return f"{finding.leader} is {_best(finding)}, and resolved from every other source."
    if len(finding.tied) <= 3:
        return f"{finding.leader} is {_best(finding)}, but not resolved from {_listed(finding.tied)}."
    return f"{finding.leader} is {_best(finding)}, but not resolved from {len(finding.tied)} others."


def _best(finding: Finding) -> str:
    return "highest" if finding.metric.better == "higher" else "lowest (lower is better)"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def caution(finding: Finding) -> str:
    """Name the sources that are no better than the reference of doing nothing; empty where there are none."""
    if not finding.at_reference:
        return ""
    reference = "chance" if finding.reference == "chance" else "random words"
    return f"Not told apart from {reference} by the interval: {_listed(finding.at_reference)}."


def difference(comparison: Comparison) -> str:
    """Say which of two sources is higher, and which is better where a direction is known."""
    winner = higher(comparison)
    if winner is None:
        return comparison.verdict
    return f"{winner} higher" if describe(comparison.metric).better != "lower" else f"{winner} higher (worse)"
