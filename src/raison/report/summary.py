"""What can be concluded from a verdict: for each metric who leads, what is resolved, and what is withheld."""

from collections import Counter
from typing import Literal, NamedTuple

from raison.evaluation.results import Cell, Comparison, Verdict
from raison.report.glossary import Metric, describe, ordered

Outcome = Literal["resolved", "unresolved", "withheld"]


class Finding(NamedTuple):
    """What the comparisons of one metric say together."""

    metric: Metric
    leader: str | None  # the source with the best value; None where none may be named
    tied: list[str]  # sources that are not resolved from the leader
    resolved: int  # differences that are resolved after correction
    family: int  # differences that could be tested
    withheld: str  # why nothing may be ranked; empty where it may
    at_reference: list[str]  # sources whose interval reaches the reference
    reference: str  # its name; empty where there is none


class Conclusion(NamedTuple):
    """A finding in words; findings that are withheld for one reason are put together."""

    title: str
    sentence: str
    details: list[str]
    withheld: bool


def outcome(comparison: Comparison) -> Outcome:
    """Sort a comparison by its verdict; one that is undefined counts as withheld."""
    if comparison.verdict in ("a higher", "b higher"):
        return "resolved"
    return "unresolved" if comparison.verdict.startswith("not resolved") else "withheld"


def difference(comparison: Comparison) -> str:
    """Say which of two sources is higher, by name, and where that is the worse one; else the verdict as it is."""
    if outcome(comparison) != "resolved":
        return comparison.verdict
    winner = comparison.a if comparison.verdict == "a higher" else comparison.b
    return f"{winner} higher (worse)" if describe(comparison.metric).better == "lower" else f"{winner} higher"


def findings(verdict: Verdict) -> list[Finding]:
    """Give one finding for each metric whose sources were compared, in the glossary's order."""
    return [_finding(metric, verdict) for metric in ordered([comparison.metric for comparison in verdict.comparisons])]


def _finding(metric: Metric, verdict: Verdict) -> Finding:
    cells = [cell for cell in verdict.cells if cell.metric == metric.name and cell.slice == "all"]
    family = [comparison for comparison in verdict.comparisons if comparison.metric == metric.name]
    tested = [comparison for comparison in family if outcome(comparison) != "withheld"]
    if not tested:
        reason = Counter(comparison.verdict for comparison in family).most_common(1)[0][0]
        return Finding(metric, None, [], 0, 0, reason.removeprefix("withheld: "), [], "")
    leader = _leader(metric, cells)
    open_ = [comparison for comparison in tested if outcome(comparison) == "unresolved"]
    tied = [c.b if c.a == leader else c.a for c in open_ if leader in (c.a, c.b)]
    reference, reached = _at_reference(metric, cells)
    return Finding(metric, leader, tied, len(tested) - len(open_), len(tested), "", reached, reference)


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


def conclusions(verdict: Verdict) -> list[Conclusion]:
    """Say in words what may be concluded, metric by metric; what is withheld stands last, once for each reason."""
    found: list[Conclusion] = []
    withheld: dict[str, list[str]] = {}
    for finding in findings(verdict):
        if finding.withheld:
            withheld.setdefault(finding.withheld, []).append(finding.metric.title)
        else:
            found.append(Conclusion(finding.metric.title, _sentence(finding), _details(finding), False))
    for reason, titles in withheld.items():
        found.append(Conclusion(", ".join(titles), f"No ranking: {reason.rstrip('.')}.", [], True))
    return found


def _sentence(finding: Finding) -> str:
    if not finding.resolved:
        return "No difference between sources is resolved."
    if finding.leader is None:
        return "Some differences between sources are resolved."
    lead = f"{finding.leader} is {'highest' if finding.metric.better == 'higher' else 'lowest (lower is better)'}"
    if not finding.tied:
        return f"{lead}, and resolved from every other source."
    return f"{lead}, but not resolved from {_listed(finding.tied)}."


def _details(finding: Finding) -> list[str]:
    plural = "" if finding.family == 1 else "s"
    details = [f"{finding.resolved} of {finding.family} difference{plural} resolved, after Holm’s correction."]
    if finding.at_reference:
        reference = "chance" if finding.reference == "chance" else "random words"
        details.append(f"Not better than {reference} by the interval: {_listed(finding.at_reference)}.")
    return details


def _listed(names: list[str], longest: int = 4) -> str:
    if len(names) > longest:
        return f"{', '.join(names[: longest - 1])} and {len(names) - longest + 1} others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
