"""What can be concluded from a verdict: for each metric who leads, what is resolved, and what is withheld."""

from collections import Counter
from typing import Literal, NamedTuple

from raison.evaluation.results import Cell, Comparison, Diagnosis, Grades, Verdict
from raison.report.glossary import Metric, describe, ordered
from raison.report.text import interval, number

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
    warned: bool = False
    metrics: tuple[str, ...] = ()  # that are put together; a page lists them in place of the title


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
    """Say in words what may be concluded, metric by metric; what is withheld stands last, once for each reason.

    What is known against the metrics themselves, where they were graded, stands first.
    """
    found = _warnings(verdict, verdict.grades) if verdict.grades else []
    withheld: dict[str, list[str]] = {}
    for finding in findings(verdict):
        if finding.withheld:
            withheld.setdefault(finding.withheld, []).append(finding.metric.title)
        else:
            found.append(Conclusion(finding.metric.title, _sentence(finding), _details(finding), False))
    for reason, titles in withheld.items():
        said = f"No ranking: {reason.rstrip('.')}."
        found.append(Conclusion(", ".join(titles), said, [], True, metrics=tuple(titles)))
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


# ---------------------------------------------------------------------------------- the metrics themselves, graded

RIVALS = {
    "random_words": ("random words", "random other words"),
    "distractors": ("distractors", "words that look like them and decide nothing"),
}
RULE = 0.9  # share of testbed records that a model must label right for its reasons to be taken for the planted ones


def rival_title(name: str) -> str:
    """Give the name of what stood against the true words, as shown."""
    return RIVALS.get(name, (name.replace("_", " "),))[0]


def standing(diagnosis: Diagnosis) -> str:
    """Say what a grade amounts to: `better than chance`, `no better than chance`, `worse than chance`, `undefined`."""
    if diagnosis.estimate.value is None:
        return "undefined"
    if diagnosis.estimate.high is not None and diagnosis.estimate.high < 0.5:
        return "worse than chance"
    return "better than chance" if diagnosis.informative else "no better than chance"


def origin(grades: Grades) -> str:
    """Say where grades come from, and what that leaves open."""
    share = f", {100 * grades.accuracy:.0f} % of them labelled right" if grades.accuracy is not None else ""
    return (
        f"From the testbed: model {grades.model} on {grades.records:,} records with planted reasons{share}. "
        "Nothing is known from it of other models and texts."
    )


def untaught(grades: Grades) -> str:
    """Say so where the graded model is not shown to go by the planted words; else empty."""
    if grades.accuracy is None:
        return "It is not known how many records the model labels right, so whether the planted words are its reasons."
    if grades.accuracy >= RULE:
        return ""
    return (
        f"The model labels only {100 * grades.accuracy:.0f} % right, so the planted words may not be its reasons: the "
        "grades say little."
    )


def _warnings(verdict: Verdict, grades: Grades) -> list[Conclusion]:
    """Warn of every metric of faithfulness that is shown and not known to be better than chance."""
    metrics = [metric for metric in ordered([c.metric for c in verdict.cells]) if metric.group == "faithfulness"]
    found: list[Conclusion] = []
    ungraded: list[str] = []
    for metric in metrics:
        known = {rival: one for rival, one in diagnoses_of(metric.name, grades).items() if one.estimate.n}
        weak = {rival: one for rival, one in known.items() if not one.informative}
        if weak:
            details = [_grade(*pair) for pair in weak.items()]
            found.append(Conclusion(metric.title, _weakness(weak), details, False, warned=True))
        elif not known:
            ungraded.append(metric.title)
    good = len(metrics) - len(found) - len(ungraded)
    if ungraded:
        found.append(Conclusion(", ".join(ungraded), "Not graded on the testbed.", [], False, warned=True))
    said = f"{good} of {len(metrics)} metrics of faithfulness are shown to tell true reasons from others."
    details = [origin(grades), *filter(None, [untaught(grades)])]
    return [*found, Conclusion("The metrics themselves", said, details, False)] if metrics else []


def diagnoses_of(metric: str, grades: Grades) -> dict[str, Diagnosis]:
    """Give what is known of one metric: what stood against the true words -> diagnosis."""
    return {rival: found[metric] for rival, found in grades.against.items() if metric in found}


def _weakness(weak: dict[str, Diagnosis]) -> str:
    worse = all(standing(diagnosis) == "worse than chance" for diagnosis in weak.values())
    others = " or from ".join(RIVALS.get(name, ("", rival_title(name)))[1] for name in weak)
    return f"{'Worse' if worse else 'No better'} than chance at telling the true words from {others}."


def _grade(rival: str, diagnosis: Diagnosis) -> str:
    found = diagnosis.estimate
    span = interval(found.low, found.high)
    return f"Against {rival_title(rival)}: D = {number(found.value)} {span} on {found.n} records; chance is 0.5."


def _listed(names: list[str], longest: int = 4) -> str:
    if len(names) > longest:
        return f"{', '.join(names[: longest - 1])} and {len(names) - longest + 1} others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
