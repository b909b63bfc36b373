"""Code that is no idea, and what is said of it."""

HEAD = "from harness.ideas import *\nN = 3\n"
REFUSED = {
    '@term\ndef a(step): ...': 'mine.py:3: a: write @term("generator") or @term("discriminator")',
    '@term("Disc")\ndef a(step): ...': """the player must be 'generator' or 'discriminator', not 'Disc': @term("disc""",
    '@adversarial()\ndef a(player, logits): ...': "mine.py:3: a: write @adversarial, without brackets",
    '@term("generator", 2.0)\ndef a(step): ...': "mine.py:3: a: term has one argument without a name, its player",
    '@term("generator", wait=2)\ndef a(step): ...': "mine.py:3: a: term has no further 'wait'; did you mean 'weight'?",
    '@term("generator", **N)\ndef a(step): ...': "mine.py:3: a: term has no further '**N'",
    '@term("generator", weight=-1)\ndef a(step): ...': "mine.py:3: a: weight must be a number of at least 0, not -1",
    '@term("generator", weight=1e999)\ndef a(step): ...': "mine.py:3: a: weight must be a number of at least 0, not 1e",
    '@penalty("generator", every=0)\ndef a(step): ...': "mine.py:3: a: every must be a whole number of at least 1",
    '@layer("generator")\nclass a(M): ...': "mine.py:3: a: layer needs at, which is 4 or 8 or 16",
    '@layer("generator", at=9)\nclass a(M): ...': "mine.py:3: a: at must be 4 or 8 or 16",
    '@layer("generator", at=N)\nclass a(M): ...': "mine.py:3: a: at must be written out, as the file is read and not r",
    '@layer("generator", at=8)\ndef a(x): ...': "mine.py:4: a: must be a class: class a(nn.Module), whose __init__ get",
    '@layer("discriminator", at=8, reads=("h",))\nclass a(M): ...': "mine.py:3: a: a layer of the discriminator cannot",
    '@layer("generator", at=8, reads=("f_res",))\nclass a(M): ...': "mine.py:3: a: a layer of the generator cannot rea",
    '@layer("generator", at=8)\nclass a(M):\n def __init__(self, n, m): ...': "mine.py:5: a: m stands among what it is",
    '@layer("generator", at=8, reads=("h",))\nclass a(M):\n def forward(self, x): ...': "mine.py:5: a: must be def for",
    '@augment\nclass a(M):\n def forward(self, images, rng, *, p: int = 1): ...': "mine.py:5: a: forward has no settin",
    '@augment\nclass a: ...': "mine.py:4: a: must be a network: class a(nn.Module)",
    '@term("generator", reads="f_res")\ndef a(step): ...': "mine.py:3: a: reads is a list of names: write reads=('f_re",
    '@term("generator", reads=("f_rse",))\ndef a(step): ...': "mine.py:4: a: reads 'f_rse', which is no feature; did y",
    '@term("generator")\ndef a(): ...': "mine.py:4: a: must be def a(step, *, ...), not def a()",
    '@term("generator")\ndef a(step, n: int = 1): ...': "mine.py:4: a: n stands among what it is called with; a settin",
    '@term("generator")\ndef a(step, *n): ...': "mine.py:4: a: *n is not allowed",
    '@term("generator")\ndef a(step, **n): ...': "mine.py:4: a: **n is not allowed",
    '@adversarial\ndef a(logits, player): ...': "mine.py:4: a: must be def a(player, logits, *, ...)",
    '@augment\ndef a(images): ...': "mine.py:4: a: must be def a(images, rng, *, ...), not def a(images)",
    '@discriminator\nclass a(M):\n def __init__(self, text_dim, resolution): ...': "mine.py:5: a: must be def __init__",
    '@term("generator")\nasync def a(step): ...': "mine.py:4: a: must be an ordinary function",
    '@term("generator")\ndef a(step, *, n: int = 1.5): ...': "mine.py:4: a: n must be a whole number, not 1.5",
    '@term("generator")\ndef a(step, *, n: int = True): ...': "mine.py:4: a: n must be a whole number, not True",
    '@term("generator")\ndef a(step, *, n: "Positive" = 0): ...': "mine.py:4: a: n must be a number above 0, not 0",
    '@term("generator")\ndef a(step, *, n: Literal[1, 2] = 3): ...': "mine.py:4: a: n must be 1 or 2, not 3",
    '@term("generator")\ndef a(step, *, n: int = N): ...': "mine.py:4: a: n must be written out, as the file is read",
    '@term("generator")\ndef a(step, *, n: int = None): ...': "mine.py:4: a: n must be a whole number, not None",
    '@term("generator")\ndef a(step, *, n: list = 3): ...': "mine.py:4: a: the setting n cannot have the type list; al",
    '@term("generator")\ndef a(step, *, n: int | None = 3): ...': "mine.py:4: a: the setting n cannot have the type in",
    '@term("generator")\ndef a(step, *, n=3): ...': "mine.py:4: a: the setting n needs a type, as n: float = 1.0; allo",
    '@term("generator")\ndef a(step, *, n: int): ...': "mine.py:4: a: the setting n needs a default: n: int = ...",
    '@term("generator")\ndef a(step, *, weight: float = 1.0): ...': "mine.py:4: a: weight is a setting of every term",
    '@term("generator")\ndef a(step, *, _n: int = 1): ...': "mine.py:4: a: _n: a setting's name is a letter",
    '@term("generator")\ndef A(step): ...': "mine.py:4: A: an idea's name is a letter, then up to 63 of a-z",
    '@term("generator")\ndef mix_logits(step): ...': "mine.py:4: mix_logits: this is the name of a built-in toggle",
    '@term("generator")\ndef iic(step): ...': "mine.py:4: iic: this is the name of a built-in term; rename it",
    '@term("generator")\ndef full(step): ...': "mine.py:4: full: this is the name of a cell; rename it",
    '@term("generator")\ndef f_res(step): ...': "mine.py:4: f_res: this is the name of a symbol; rename it",
    '@term("generator")\ndef every(step): ...': "mine.py:4: every: this is the name of a setting of ideas; rename it",
    'f_c = feature("timm:x")': "mine.py:3: f_c: this is the name of a symbol; rename it",
    'f_a = feature("timm:x", size=-1)': "mine.py:3: f_a: size must be a whole number of at least 0",
    'f_a = feature()': "mine.py:3: f_a: feature needs network",
    'f_a = f_b = feature("timm:x")': "mine.py:3: feature: a feature has its name at the top of the file",
    '@feature("timm:x")\ndef a(): ...': "mine.py:4: a: feature is no decorator; write a = feature(NETWORK)",
    '@term("generator")\n@adversarial\ndef a(step): ...': "mine.py:5: a: has two marks; an idea has one",
    '@cached\n@term("generator")\ndef a(step): ...': "mine.py:5: a: @term must be its first decorator",
    'if N:\n @term("generator")\n def a(step): ...': "mine.py:4: a: is marked inside a condition or loop",
    'class B:\n @term("generator")\n def a(self, step): ...': "mine.py:4: a: is marked inside class B",
    'def b():\n @augment\n def a(images, rng): ...': "mine.py:4: a: is marked inside function b",
    'a = term("generator")(print)': "mine.py:3: term: is a mark, which stands above a function or class",
    't = term': "mine.py:3: term: is a mark, which stands above a function or class at the top of the file",
    'a = [augment for _ in [1]]': "mine.py:3: augment: is a mark, which stands above",
    'for i in [1]:\n f_a = feature("x")': "mine.py:4: feature: a feature has its name at the top of the file",
    '@term("generator")\ndef a(step): ...\na = 1': "mine.py:5: a: is defined again; first at mine.py:4; rename one",
    '@augment\nclass half(M):\n def forward(self, images, rng): ...': "mine.py:4: half: this is the name of a part of",
    'from harness.ideas import trem': "mine.py:3: harness.ideas has no 'trem'; did you mean 'term'?",
    'def a(:': "mine.py:3: is not valid Python: ",
    'return 3': "mine.py:3: is not valid Python: 'return' outside function",
    'def a():\n break': "mine.py:4: is not valid Python: 'break' outside loop",
    'def a(b, *, b): ...': "is not valid Python: duplicate argument 'b'",
    'from __future__ import annotations': "mine.py:3: is not valid Python: from __future__ imports must",
    'def a():\n N = 1\n global N': "mine.py:5: is not valid Python: name 'N' is assigned to before global",
    "a = '\\0'.\0": "is not valid Python: ",
    '((((((((((' * 60 + '1' + '))))))))))' * 60: "is not valid Python: ",
}  # fmt: skip
"""What stands behind the head -> the beginning of the message."""


def _layer(reads: str, init: str) -> str:
    return _class(f'@layer("generator", at=8{f", reads={reads}" if reads else ""})', init)


def _class(mark: str, init: str) -> str:
    return f"{mark}\nclass a(M):\n def __init__(self, {init}): ..."


REFUSED |= {
    _layer('("h",)', "channels, *, n: int = 1"): (
        "mine.py:5: a: must be def __init__(self, channels, text_dim, *, ...), not def __init__(self, channels)"
    ),
    _layer('("h_tokens", "w", "h")', "channels, w_dim, text_dim"): (
        "mine.py:5: a: must be def __init__(self, channels, text_dim, w_dim, *, ...)"
    ),
    **dict.fromkeys(
        [_class('@term("generator")', "text_dim, n"), _class('@penalty("discriminator")', "n, text_dim")],
        "mine.py:5: a: n stands among what it is called with; a setting stands behind `*`: def __init__(self, text",
    ),
    _class('@term("generator")', "w_dim"): "mine.py:5: a: w_dim stands among what it is called with; a setting stands",
    _class("@augment", "text_dim"): "mine.py:5: a: text_dim stands among what it is called with; a setting stands",
    _layer("", "channels, text_dim"): (
        "mine.py:5: a: text_dim is for a layer that reads h or h_tokens: write reads=('h',) in its mark, or leave text"
    ),
    _layer('("h",)', "channels, text_dim, w_dim"): (
        "mine.py:5: a: w_dim is for a layer that reads w: write reads=('w',)"
    ),
    '@layer("generator", at=8, reads=("w",))\ndef a(x): ...': (
        "mine.py:4: a: must be a class: class a(nn.Module), whose __init__ gets channels, w_dim"
    ),
    '@term("generator")\ndef a(step, *, net: Network = "timm:x"): ...': (
        "mine.py:4: a: net: a frozen network is given to a constructor, and a function has none: make it class a(nn.Mod"
    ),
    '@term("generator")\nclass a(M):\n def __init__(self, *, net: Network = 3): ...': (
        "mine.py:5: a: net must be the name of a network, such as 'timm:resnet50.a1_in1k', not 3"
    ),
}
