"""What real images say of the caption metrics: whether they tell anything, and which runs go beyond. No torch here."""

from __future__ import annotations

from harness.analysis.results import MetricResult
from harness.analysis.statistics import quantile
from harness.metrics.definitions import base
from harness.report.material import Material
from harness.report.wording import listed, minus, number

_OF_CAPTIONS = ("clip_score", "r_precision")
_MOST_CELLS = 4


def against_real(material: Material) -> list[str]:
    """Sentences on a floor that is not below the ceiling, and on cells that are above it."""
    found = []
    for result in material.analysis.metrics:
        if base(result.metric.name) in _OF_CAPTIONS:
            found += [_no_gap(material, result), _beyond(material, result)]
    return [text for text in found if text]


def _no_gap(material: Material, result: MetricResult) -> str:
    """Real images that score no better with their own captions than with others'."""
    name = result.metric.name
    gap, error = (material.sanity.get(row, {}).get(name) for row in ("gap", "gap_error"))
    count = int(material.sanity.get("floor", {}).get("n", 0))
    if gap is None or error is None or count < 2 or gap > quantile(count - 1) * error:
        return ""
    measured = f"{minus(f'{gap:.2f}')} ± {quantile(count - 1) * error:.2f} {result.metric.unit}"
    return (
        f"{result.metric.title}: real images score no better with their own captions than with shuffled ones "
        f"(by {measured}): {result.card.get('extractor', 'the network')} cannot tell right from wrong captions of this "
        "data, so that no caption metric says anything of them."
    )


def _beyond(material: Material, result: MetricResult) -> str:
    """Cells that score above real images."""
    metric, ceiling = result.metric, material.sanity.get("ceiling", {}).get(result.metric.name)
    above = [cell for cell in result.cells if cell.mean is not None and ceiling is not None and cell.mean > ceiling]
    if ceiling is None or not above:
        return ""
    above.sort(key=lambda cell: -(cell.mean or 0.0))
    named = [f"{cell.cell} {number(metric, cell.mean or 0.0)}" for cell in above[:_MOST_CELLS]]
    more = [f"{len(above) - _MOST_CELLS} more"] if len(above) > _MOST_CELLS else []
    return (
        f"{metric.title}: {listed([*named, *more])} above real images with their own captions "
        f"({number(metric, ceiling)}). Training pulls images towards what a CLIP expects of a caption, further than "
        "real ones go: above the ceiling a higher score is closer to that, not a better picture."
    )
