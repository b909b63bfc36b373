"""How CLIPs read texts, against the features that come of them and against open_clip's own tokenizer."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from harness.models.encoders import tokens
from harness.models.encoders.load import load_clip

LONG = "one thing of many that are all told of at the same great length before it is said what it is " * 4


class TestTokens:
    @pytest.mark.parametrize("name", ["embedded:clip-guide", "embedded:clip-measure"])
    def test_what_is_cut_off_is_not_read(self, name):
        reader = tokens.reader(name)
        clip = load_clip(name)
        texts = [LONG + "a cat", LONG + "a dog", "a cat", "A CAT", "a  cat ", "a cat.", ""]
        read = list(reader.read(texts))
        assert [text.cut for text in read] == [True, True, False, False, False, False, False]
        same = [[a.tokens == b.tokens for b in read] for a in read]
        features = clip.text(texts).numpy()
        assert same == [[bool(np.allclose(a, b, atol=1e-5)) for b in features] for a in features]
        assert same[0][1] and same[2][3] and same[2][4] and not same[2][5]

    def test_a_text_that_just_fits_is_whole(self):
        reader = tokens.reader("embedded:clip-guide")
        words = " ".join(["," for _ in range(reader.context)])
        cuts = []
        for count in (reader.context - 3, reader.context - 2, reader.context):
            (text,) = reader.read([words[: 2 * count]])
            cuts.append(text.cut)
        spelt = len(tokens.Words([], 10**6).row(",")[0]) - 1
        assert spelt == 2 and cuts[-1]
        whole = tokens.Words([","], 5)
        assert [whole.row("," * count)[1] for count in (3, 4, 5)] == [False, False, True]

    def test_no_torch_for_the_shipped_ones(self):
        code = (
            "import sys, harness.data.caption_counts; from harness.models.encoders.tokens import reader;"
            "list(reader('embedded:clip-guide').read(['a'])); sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    @pytest.mark.parametrize("model", ["ViT-B-32", "RN50"])
    def test_open_clip_s_own_tokenizer_says_what_is_cut_off(self, model):
        import open_clip

        reader = tokens.reader(f"open_clip:{model}/openai")
        whole = " ".join(["cat"] * 75)
        texts = [whole, whole + " cat", whole + " dog", "cat", "CAT ", "!" * 200]
        read = list(reader.read(texts))
        assert reader.context == 77
        assert [text.cut for text in read] == [len(open_clip.get_tokenizer(model).encode(text)) > 75 for text in texts]
        assert [text.cut for text in read][:5] == [False, True, True, False, False]
        assert read[0].tokens == read[1].tokens == read[2].tokens
        assert read[3].tokens == read[4].tokens != read[0].tokens
