"""What every number of a verdict means, and in which direction it is better.

A metric or reference that does not stand here is shown under its own name, with no direction claimed for it.
"""

from typing import Literal, NamedTuple

Better = Literal["higher", "lower", ""]


class Metric(NamedTuple):
    """What a reader must know of one metric."""

    name: str  # as in Cell.metric
    title: str  # as shown
    group: str  # a key of GROUPS
    main: bool  # shown at once, or only with all metrics
    better: Better  # empty = no direction is claimed
    meaning: str
    formula: str
    frame: str  # what it stands beside
    edges: str  # what happens where it is undefined


GROUPS = {
    "alignment": "Agreement with people",
    "faithfulness": "Faithfulness to the model",
    "replies": "What became of the replies",
    "told": "Told apart by a judge or by people",
    "other": "Other metrics",
}

REFERENCES = {
    "chance": ("chance", "what a random choice of as many words (for AUPRC: a random order of the words) reaches on "
               "average; computed, not drawn"),
    "select_all": ("select all", "what a source reaches that chooses every word"),
    "human": ("human", "people: for agreement, each person judged against the others (leave one out); for "
              "faithfulness, the words that people marked taken as the rationale"),
    "random": ("random words", "as many words as the source chose, drawn at random (mean of the draws); for AOPC, the "
               "source of random scores"),
    "least": ("least words", "as many words as the source chose, but those that it scored lowest"),
    "full": ("every word", "every word masked: about the most that taking words away can do"),
    "ceiling": ("the person", "the same question about what the person did write"),
    "floor": ("another person", "the same question about what somebody else wrote of the same items"),
    "relative": ("relative", "where it stands between chance (0) and the person’s own texts (1)"),
    "unmasked": ("no word", "outputs written anew with no word masked: above 0 only where the originals were given"),
}  # fmt: skip

_PEOPLE = "Chance, select all, and people judged against each other."
_POOLED = "It has no references of its own: read it beside F1."
_NO_HUMAN = (
    "A record on which nobody marked a word is left out and counted. A source that chose no word gets 0, and so does "
    "the comparison with a person who marked none where others did."
)
_REMOVED = "Random words of the same number, the words people marked, the lowest-scored words, and every word."
_KEPT = "Random words of the same number kept, and no word kept."
_TOLD = "Chance, the person’s own texts (the ceiling) and another person’s of the same items (the floor)."
_UNTOLD = "An answer that could not be read, or that was left open, is left out and counted."
_EMPTY = "A record without a rationale is left out and counted; one with no words in it changes nothing."
_UNSCORED = "Undefined for sources without scores."
_NO_DROP = "A record whose label is no less probable with every word masked is left out, and one without a rationale."
_NO_OUTPUT = "A record whose output is empty is left out and counted, and so is one without a rationale."
_BOUNDS = (
    f"{_UNSCORED} A record is left out where all orders are alike, or where a word has no score. Up to eight words the "
    "bounds are exact; beyond that a beam search finds them nearly."
)
_SOFT = (
    f"{_UNSCORED} A record is left out where all scores are alike or missing, or where its label is no less probable "
    "without any word."
)
_TUNED = "The tuned model errs by itself now and then, so random words are what to compare with. " + _EMPTY

_METRICS = (
    Metric("f1", "F1", "alignment", True, "higher",
           "How well the words chosen match the words that people marked.",
           "twice the words in common, divided by the words chosen plus the words marked; the mean over records",
           _PEOPLE, _NO_HUMAN),
    Metric("f1_normalised", "Normalised F1", "alignment", True, "higher",
           "Where F1 lies between chance (0) and people (1). Comparable between data sets; above 1 is possible.",
           "F1 minus chance, divided by human F1 minus chance",
           "It has its references inside: 0 is chance, 1 is people.",
           "Undefined where fewer than two people were asked, or where people agree no better than chance."),
    Metric("iou", "IoU", "alignment", True, "higher",
           "The overlap of chosen and marked words: F1 with a stricter scale.",
           "words in common, divided by words in either; the mean over records", _PEOPLE, _NO_HUMAN),
    Metric("auprc", "AUPRC", "alignment", True, "higher",
           "Whether high scores fall on marked words, whatever the number of words chosen.",
           "area under precision against recall, as the words are taken from the highest score down",
           "Chance, and people judged against each other.",
           f"{_UNSCORED} A person who marked every word or none is left out."),
    Metric("precision", "Precision", "alignment", False, "higher",
           "Of the words chosen, the share that people marked.",
           "words in common, divided by words chosen; the mean over records", _PEOPLE, _NO_HUMAN),
    Metric("recall", "Recall", "alignment", False, "higher",
           "Of the words that people marked, the share that was chosen.",
           "words in common, divided by words marked; the mean over records", _PEOPLE, _NO_HUMAN),
    Metric("f1_micro", "Pooled F1", "alignment", False, "higher",
           "F1 with the words of all records counted together, so that long records weigh more.",
           "twice all words in common, divided by all words chosen plus all words marked", _POOLED, _NO_HUMAN),
    Metric("span_iou_f1", "Span F1", "alignment", False, "higher",
           "Whether stretches of words are found as stretches (ERASER’s IoU-F1).",
           "a stretch chosen is a hit if it overlaps a marked stretch with an IoU of at least one half; twice the "
           "hits, divided by stretches chosen plus stretches marked, counted over all records", _POOLED, _NO_HUMAN),
    Metric("flip_rate", "Flip rate", "faithfulness", True, "higher",
           "How often the model changes its label when the chosen words are masked.",
           "records whose predicted label differs without these words, divided by all records",
           _REMOVED, f"{_EMPTY} A model that always answers the same can’t flip: see the validity verdict."),
    Metric("flip_rate_normalised", "Normalised flip rate", "faithfulness", True, "higher",
           "Where the flip rate lies between random words (0) and every word (1).",
           "flip rate minus that of random words, divided by that of every word minus that of random words",
           "It has its references inside: 0 is random words, 1 is every word.",
           "Undefined where masking every word flips no more than masking random ones does."),
    Metric("comprehensiveness", "Comprehensiveness", "faithfulness", True, "higher",
           "How much of the model’s confidence goes when the chosen words are masked.",
           "probability of the predicted label minus its probability without these words; the mean over records",
           _REMOVED, _EMPTY),
    Metric("sufficiency", "Sufficiency", "faithfulness", True, "lower",
           "How much of the model’s confidence is lost when only the chosen words are kept. Near 0, they suffice.",
           "probability of the predicted label minus its probability with only these words; the mean over records",
           _KEPT, "A record without a rationale is left out and counted."),
    Metric("aopc_comprehensiveness", "AOPC comprehensiveness", "faithfulness", True, "higher",
           "Comprehensiveness without a choice of budget: averaged over growing shares of the best-scored words.",
           "mean of comprehensiveness over the shares of words on the curve’s axis",
           "The source of random scores, where one was judged.", _UNSCORED),
    Metric("aopc_sufficiency", "AOPC sufficiency", "faithfulness", True, "lower",
           "Sufficiency without a choice of budget: averaged over growing shares of the best-scored words.",
           "mean of sufficiency over the shares of words on the curve’s axis",
           "The source of random scores, where one was judged.", _UNSCORED),
    Metric("tau_loo", "Leave-one-out τ", "faithfulness", True, "higher",
           "Whether the order of the scores is the order in which single words matter to the model.",
           "Kendall’s τ-b between the scores and the drop of confidence when each word alone is masked; the mean over "
           "records", "0 is no relation, 1 the same order, −1 the reverse.",
           f"{_UNSCORED} A record of fewer than two words, or with all scores or all drops alike, is left out."),
    Metric("sufficiency_flip_rate", "Kept-only flip rate", "faithfulness", False, "lower",
           "How often the model changes its label when only the chosen words are kept.",
           "records whose predicted label differs with only these words, divided by all records",
           _KEPT, "A record without a rationale is left out and counted."),
    Metric("flip_unreadable", "No answer without", "faithfulness", True, "",
           "How often the model’s answer is none of its labels when the chosen words are masked.",
           "records with such an answer, divided by those with an answer to the whole text",
           _REMOVED, "Only of models that answer in words. In the flip rate such an answer is missing: no flip, and no "
           "label that stayed."),
    Metric("normalised_comprehensiveness", "Normalised comprehensiveness", "faithfulness", True, "higher",
           "How much of what masking every word costs the model is lost when only the chosen words are masked.",
           "drop of the label’s probability (0 if it rises) divided by its drop with every word masked, cut to 0 to 1; "
           "the mean over records",
           "Random words of the same number, the words people marked, and the lowest-scored words.", _NO_DROP),
    Metric("normalised_sufficiency", "Normalised sufficiency", "faithfulness", True, "higher",
           "How much of what masking every word costs the model is saved by keeping only the chosen words. Unlike for "
           "sufficiency, higher is better.",
           "1 minus the drop of the label’s probability with only these words (0 if it rises) divided by its drop with "
           "every word masked, cut to 0 to 1; the mean over records", "Random words of the same number kept.",
           _NO_DROP),
    Metric("log_odds", "Log-odds drop", "faithfulness", True, "higher",
           "Comprehensiveness on a scale that does not run out where the model is sure.",
           "log(p/(1−p)) of the predicted label minus the same without the chosen words, in nats, with p clipped to "
           "10⁻⁶ from 0 and 1; the mean over records", _REMOVED, _EMPTY),
    Metric("flip_fraction", "Share of words to a flip", "faithfulness", True, "lower",
           "How soon the label changes when words are masked from the highest score down (DFFrac).",
           "words masked at the first change, divided by the scored words; 1 where it never changes; the mean over "
           "records", "The source of random scores, where one was judged.", _UNSCORED),
    Metric("flip_top", "Flips by the top word", "faithfulness", True, "higher",
           "How often masking the one word with the highest score changes the label (DFMIT).",
           "records whose predicted label differs without this word, divided by all records",
           "Single words at random (every word in turn).", _UNSCORED),
    Metric("naopc_comprehensiveness", "NAOPC comprehensiveness", "faithfulness", True, "higher",
           "Where masking words from the highest score down stands between the worst (0) and the best (1) order that "
           "this record’s words have. Comparable between models.",
           "drop of the label’s probability, averaged over masking the first 1, 2, … all words, minus the lowest such "
           "average of any order, divided by the highest minus the lowest; the mean over records",
           "The source of random scores, where one was judged.", _BOUNDS),
    Metric("naopc_sufficiency", "NAOPC sufficiency", "faithfulness", True, "lower",
           "The same with words masked from the lowest score up: what goes first should not matter.",
           "as NAOPC comprehensiveness, in the reverse order",
           "The source of random scores, where one was judged.", _BOUNDS),
    Metric("soft_comprehensiveness", "Soft comprehensiveness", "faithfulness", True, "higher",
           "Normalised comprehensiveness without a choice of budget: every word is taken away as far as its score says "
           "(Soft-NC).",
           "scores are scaled to 0 to 1 in each record, and each element of a word’s embedding is dropped with that "
           "chance; then as normalised comprehensiveness, the mean over draws and records",
           "The source of random scores, where one was judged.", _SOFT),
    Metric("soft_sufficiency", "Soft sufficiency", "faithfulness", True, "higher",
           "Normalised sufficiency without a choice of budget: every word is kept as far as its score says (Soft-NS). "
           "Unlike for sufficiency, higher is better.",
           "scores are scaled to 0 to 1 in each record, and each element of a word’s embedding is kept with that "
           "chance; then as normalised sufficiency, the mean over draws and records",
           "The source of random scores, where one was judged.", _SOFT),
    Metric("f_fidelity_plus", "F-Fidelity+", "faithfulness", True, "higher",
           "How often a model that is used to masked words changes the label when some of the chosen words are masked.",
           "1 minus the share of draws in which the tuned model gives the judged model’s label, each chosen word "
           "masked by half chance, and no more than a tenth of all words on average; the mean over records",
           "Random words of the same number.", _TUNED),
    Metric("f_fidelity_minus", "F-Fidelity−", "faithfulness", True, "lower",
           "How often a model that is used to masked words changes the label when some of the other words are masked.",
           "as F-Fidelity+, with the words that were not chosen", "The words left by random ones of the same number.",
           _TUNED),
    Metric("reply_missing", "No reply", "replies", False, "lower",
           "How many requests for words were never answered, as by a server that was away.",
           "share of the requests sent", "", "Such a record has no rationale: it is left out of every other metric."),
    Metric("reply_unreadable", "Unreadable", "replies", True, "lower",
           "How many replies name no words that can be read: empty, cut off, or without a list.",
           "share of replies", "", "Such a reply is a rationale of no words: agreement 0, nothing masked."),
    Metric("reply_refused", "Refused", "replies", True, "lower", "How many replies decline to answer.",
           "share of replies", "", "A refusal is a rationale of no words: agreement 0, nothing masked."),
    Metric("reply_cut", "Cut off", "replies", False, "lower",
           "How many replies end before their list does. What was whole before the end is kept.",
           "share of replies", "", ""),
    Metric("reply_hallucinated", "Not in the text", "replies", True, "lower",
           "How many of the items that a reply names are nowhere in the text. They are left out of the rationale.",
           "share of a reply’s items; the mean over replies", "", "A reply that names nothing is left out."),
    Metric("reply_from_prompt", "From the question", "replies", False, "lower",
           "How many of the items that a reply names stand in the question alone, such as a label. They are left out.",
           "share of a reply’s items; the mean over replies", "", "A reply that names nothing is left out."),
    Metric("reply_partial", "In part", "replies", False, "",
           "How many of the items are phrases of which only some words are in the text. These words count.",
           "share of a reply’s items; the mean over replies", "", "A reply that names nothing is left out."),
    Metric("reply_fuzzy", "But for a letter", "replies", False, "",
           "How many of the items are words of the text but for one letter, where that was allowed.",
           "share of a reply’s items; the mean over replies", "", "A reply that names nothing is left out."),
    Metric("reply_over", "Too many", "replies", True, "lower",
           "How many replies name more words than were asked for. The first of them count.",
           "share of the replies that were read, where a number was asked for", "", ""),
    Metric("reply_under", "Too few", "replies", True, "lower",
           "How many replies name fewer words than were asked for. None are added.",
           "share of the replies that were read, where a number was asked for", "", ""),
    Metric("reply_share", "Words chosen", "replies", True, "",
           "How large the rationales are.",
           "share of the record’s words; the mean over replies that were read", "", ""),
    Metric("reply_then_agrees", "Same answer after", "replies", True, "",
           "How often the label that a model gives after naming its words is the one that it gives without.",
           "share of the replies after which both answers are labels", "",
           "Asked only where words come first (explain-then-predict)."),
    Metric("reply_then_unreadable", "No answer after", "replies", True, "lower",
           "How often the answer after naming words is none of the labels.",
           "share of replies", "", "Asked only where words come first (explain-then-predict)."),
    Metric("answer_flip_rate", "Answer flip rate", "faithfulness", True, "higher",
           "How often the model writes another answer when the chosen words are masked.",
           "records whose output without these words no longer matches the original (the same words, without case, "
           "punctuation and articles; or by token F1, see the notes), divided by all records",
           "Random words of the same number, the words people marked, every word, and no word.",
           "A record whose original output is empty is left out and counted; an empty output without the words is "
           "another answer."),
    Metric("log_probability_drop", "Log-prob. drop", "faithfulness", True, "higher",
           "How much less the model would write its own output when the chosen words are masked.",
           "mean log-probability of the original output’s tokens minus the same without these words, in nats per "
           "token; the mean over records", _REMOVED, _NO_OUTPUT),
    Metric("log_probability_sufficiency", "Log-prob. sufficiency", "faithfulness", True, "lower",
           "How much of that is lost when only the chosen words are kept.",
           "mean log-probability of the original output’s tokens minus the same with only these words, in nats per "
           "token; the mean over records", _KEPT, _NO_OUTPUT),
    Metric("aopc_log_probability_drop", "AOPC log-prob. drop", "faithfulness", True, "higher",
           "The drop of log-probability averaged over shares of words, so that no single budget decides.",
           "mean of the drops without the highest-scored 1, 5, 10, 20 and 50 % of words (or the shares asked for); the "
           "mean over records", "The source of random scores, where one was judged.", _UNSCORED),
    Metric("aopc_log_probability_sufficiency", "AOPC log-prob. suff.", "faithfulness", True, "lower",
           "The sufficiency of log-probability averaged over shares of words.",
           "mean of the drops with only the highest-scored 1, 5, 10, 20 and 50 % of words (or the shares asked for); "
           "the mean over records", "The source of random scores, where one was judged.", _UNSCORED),
    Metric("judge_accuracy", "Judge: accuracy", "told", True, "higher",
           "How often a judge that saw examples of each person takes the texts for those of the person meant.",
           "share of the readable answers that name the person; rotations of one question are averaged first",
           _TOLD, _UNTOLD),
    Metric("judge_probability", "Judge: probability", "told", False, "higher",
           "The probability that the judge gives to the person meant.",
           "mean of the probability of the person’s letter among all letters", "Chance.",
           "Only for judges that give probabilities."),
    Metric("judge_log_loss", "Judge: log-loss", "told", False, "lower",
           "How surprised the judge is by who was meant.",
           "mean of minus the natural logarithm of that probability", "Chance, the logarithm of the number of people.",
           "Only for judges that give probabilities."),
    Metric("human_valid", "People: a valid reason", "told", True, "higher",
           "How often raters find the explanation a valid reason for its label.",
           "mean over items of the share of raters who say yes", "The ceiling and the floor.", _UNTOLD),
    Metric("human_style", "People: style", "told", True, "higher",
           "How often raters, by its style, take the text for that of the person meant, of two.",
           "mean over items of the share of raters who name the person", _TOLD, _UNTOLD),
    Metric("human_reasoning", "People: reasoning", "told", True, "higher",
           "How often raters, by its reasoning alone, take the text for that of the person meant, of two.",
           "mean over items of the share of raters who name the person", _TOLD, _UNTOLD),
)  # fmt: skip

METRICS = {metric.name: metric for metric in _METRICS}


def describe(name: str) -> Metric:
    """Give what is known of a metric; an unknown one has its name as title and no direction."""
    known = METRICS.get(name)
    if known:
        return known
    meaning = "No description: this metric is not one of raison’s."
    return Metric(name, name.replace("_", " "), "other", True, "", meaning, "", "", "")


def ordered(names: list[str]) -> list[Metric]:
    """Describe metrics in the order of the glossary, unknown ones last in the order given; each once."""
    known = [metric for metric in _METRICS if metric.name in names]
    return known + [describe(name) for name in dict.fromkeys(names) if name not in METRICS]


def reference_title(name: str) -> str:
    """Give the name of a reference as shown."""
    return REFERENCES.get(name, (name.replace("_", " "), ""))[0]
