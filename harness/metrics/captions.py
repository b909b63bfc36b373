"""What the CLIPs that guide and measure a run do not see of its captions, for the reader of a plan."""

from __future__ import annotations

from harness import cache
from harness.data.caption_counts import count_captions, is_clip
from harness.data.dataset import without_split
from harness.data.packed import find_prepared
from harness.metrics.definitions import POOL


def remarks(data: str, guide: str, measure: str) -> tuple[str, ...]:
    """What these two CLIPs do not see of the captions of a data set with that fingerprint, or that it is not known yet.

    Nothing where all is well.
    """
    if not (find_prepared(without_split(data), cache.root()) and is_clip(guide) and is_clip(measure)):
        return ()
    if guide == measure:
        lines = [_remark(data, guide, "conditions the generator and measures")]
    else:
        lines = [_remark(data, guide, "conditions the generator"), _remark(data, measure, "measures")]
    counts = count_captions(data, measure)
    if counts and counts.equal and counts.distinct == 1:
        reason = f"all held-out captions are the same for {measure}, so no caption is wrong for an image"
        lines.append(f"R-precision is left out: {reason}")
    elif counts and counts.equal and counts.distinct < POOL:
        chance = f"chance is {1 / counts.distinct:.2g}"
        lines.append(f"R-precision ranks a caption among {counts.distinct} different ones by {measure}: {chance}")
    return tuple(filter(None, lines))


def _remark(data: str, clip: str, does: str) -> str:
    counts = count_captions(data, clip)
    if counts is None:
        when = "`harness data prepare` counts them if its tokenizer is installed, run-grid once it is loaded"
        return f"how many captions {clip} cuts off is not known yet: {when}"
    equal = f"{counts.equal:,} of {counts.held_out:,} held-out captions"
    if not counts.cut:
        return f"{equal} equal another for {clip}, which {does}" if counts.equal else ""
    cut = f"{counts.cut:,} of {counts.captions:,} captions are cut off at {counts.context} tokens"
    verb = "is" if counts.read == 1 else "are"
    left = f"; of {counts.written:,} different ones {counts.read:,} {verb} left" if counts.read < counts.written else ""
    return f"{cut} by {clip}, which {does}{left}" + (f"; {equal} then equal another" if counts.equal else "")
