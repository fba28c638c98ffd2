"""The result of stability as cells, the form in which every table is written."""

from collections.abc import Iterator

from raison.annotators.stability import Looked, Stability
from raison.annotators.variance import Share
from raison.evaluation.results import Cell

Frame = dict[str, float | None]  # what a number stands beside


def stability_cells(found: Stability) -> list[Cell]:
    """Give every number as a cell beside its references.

    The source is `view/reduction`, or the layer, or whose share it is; chance is in the frame of every accuracy, and
    the permutations' band beside the accuracy of least squares, whose test it is.
    """
    cells = [cell for looked in found.looked for cell in _of_view(looked)]
    cells += _share("item", found.item_share, found) + _share("annotator", found.person_share, found)
    if found.categories is not None:
        known = found.categories
        cells.append(
            Cell("cramers_v", "category", "all", known.v, None, None, known.n, {"chi2": known.chi2, "p": known.p})
        )
    for layer in found.finding.layers:
        frame: Frame = {"null": layer.null, "p": layer.p, "p_holm": layer.p_holm}
        cells.append(Cell("layer_accuracy_1", layer.name, "all", layer.accuracy, None, None, found.responses, frame))
    needed = found.finding.items_needed
    cells.append(Cell("items_needed", "verdict", "all", needed, None, None, found.responses, {}, found.finding.words))
    return cells


def _of_view(looked: Looked) -> Iterator[Cell]:
    source = f"{looked.view}/{looked.reduction}"
    for one in looked.identified:
        value = one.accuracy
        chance: Frame = {"chance": one.chance}
        yield Cell(
            f"accuracy_{one.k}", source, "all", value.value, value.low, value.high, value.n, chance, one.undefined
        )
        yield Cell(f"log_loss_{one.k}", source, "all", one.log_loss, None, None, value.n, {}, one.undefined)
    for null in looked.nulls:
        frame: Frame = {"null_low": null.low, "null_high": null.high, "p": null.p}
        yield Cell(f"tested_accuracy_{null.k}", source, "all", null.observed, None, None, looked.responses, frame)
    split: Frame = {"p": looked.split_half_p}
    yield Cell("split_half", source, "all", looked.split_half, None, None, looked.responses, split)
    undefined = "" if looked.exponent is not None else "fewer than two group sizes are off chance and off 1"
    yield Cell(
        "exponent", source, "all", looked.exponent, None, None, looked.responses, {"independent": 0.5}, undefined
    )


def _share(whose: str, share: Share, found: Stability) -> list[Cell]:
    frame = {"null": share.null, "p": share.p}
    undefined = "" if share.value is not None else "the view `raw` was not looked at, or its vectors are all alike"
    return [Cell("eta_squared", whose, "all", share.value, None, None, found.responses, frame, undefined)]
