"""The hinge loss in place of the logistic loss (arXiv 1705.02894, and 1802.05957, Eqs. 16 and 17)."""

from torch.nn.functional import relu

from harness.ideas import NonNegative, adversarial


@adversarial
def hinge(player, logits, *, margin: NonNegative = 1.0):
    """D: E max(0, margin - D(r)) + E max(0, margin + D(x)).  G: -E D(x).

    D stops learning from an image that it judges right by the margin. Images x', where there are any, count as x do.
    """
    fake = [logits[name] for name in ("x", "x'") if name in logits]
    if player == "generator":
        return -sum(each.mean() for each in fake)
    return relu(margin - logits["r"]).mean() + sum(relu(margin + each).mean() for each in fake)
