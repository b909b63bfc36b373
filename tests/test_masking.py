"""Passwords, tokens and keys leave the process in no text."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from urllib.parse import quote

import pytest

from forked import run_forked
from harness import masking
from harness.masking import masked, masked_code, masked_tree
from harness.runs.folders import RunFolder
from harness.runs.record import Status
from harness.study.load import load_text
from harness.terminal import console, streams
from harness.tracking import provenance

STUDY = "study: tiny\ntoggles: [mix_logits]\n"


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_remembered", set())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://alice:s3cret@h:9/x", "http://alice:***@h:9/x"),
        ("postgresql+psycopg2://u:p%40ss@h/db", "postgresql+psycopg2://u:***@h/db"),
        ("postgresql://u:p@ss/w@h/db", "postgresql://u:***@h/db"),
        ("redis://:pw@h", "redis://:***@h"),
        ("https://ghp_12345@github.com/x", "https://***@github.com/x"),
        ("see 'http://h/x?token=abc&y=1'", "see 'http://h/x?token=***&y=1'"),
        ("https://h/?X-Amz-Signature=abcdef", "https://h/?X-Amz-Signature=***"),
        ("host=h password=hunter2 user=u", "host=h password=*** user=u"),
        ("Authorization: Bearer eyJhbGciOi.x.y", "Authorization: Bearer ***"),
        ("--set tracking.uri=http://a:b@h", "--set tracking.uri=http://a:***@h"),
    ],
)
def test_what_is_secret_by_its_place_is_hidden(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part",
    ["a", "aB3+/", "a.-_", "_", "=", ":/", "http:", "http://a:", "a@", "password", "token ", "sk-", "xoxb-", "hf_"],
)
def test_a_word_of_a_megabyte_is_looked_through_at_once(part: str) -> None:
    """Such as an image in a page: it took minutes where a pattern read on to the end from each letter."""
    word = part * (2**20 // len(part))
    assert masked(f"{word}\n http://u:pw@h").endswith("\n http://u:***@h")
    assert masked_code(f"{word}\n http://u:pw@h").endswith("\n http://u:***@h")


@pytest.mark.parametrize("prefix", ["hf_", "ghp_", "github_pat_", "glpat-", "AKIA", "sk-", "sk-proj-", "xoxb-"])
def test_tokens_that_show_what_they_are_are_hidden_in_code_too(prefix: str) -> None:
    token = prefix + ("A1" * 8 if prefix == "AKIA" else "a1B2" * 9)
    code = f'cls_token, key = None, "{token}"  # {prefix}'
    assert masked_code(code) == code.replace(token, "***") and token not in masked(code)
    assert masked_code(f"my{token}") == f"my{token}", "a name that ends like one"
    short = f"{prefix}short"
    assert masked(short) == short == masked_code(short)


@pytest.mark.parametrize(
    "text",
    ["http://h:9/a", "mysql://u@h/db", "sqlite:////home/a@b/x:y.db", "git@github.com:x/y", "max_tokens=512", "key=3",
     "train.token_dim=5", "http://h/users/a@b", "file:///a:b/c@d", "a red heart"],
)  # fmt: skip
def test_what_is_none_is_shown(text: str) -> None:
    assert masked(text) == text


def test_secrets_of_the_environment_are_hidden_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "tr0ub4dor&3")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "AbCd/eFgH+1")
    monkeypatch.setenv("OLDPWD", "/home/somebody")
    monkeypatch.setenv("USE_TOKEN", "true")
    assert masked("it said tr0ub4dor&3, tr0ub4dor%263 and AbCd/eFgH+1") == "it said ***, *** and ***"
    assert masked("true /home/somebody") == "true /home/somebody"


def test_a_known_password_is_hidden_where_a_library_quotes_it_alone() -> None:
    masking.remember("postgresql://u:p%40ss%2Fword@h/db")
    assert masked("login 'p@ss/word' failed; p%40ss%2Fword") == "login '***' failed; ***"
    assert masked_tree({"a": ["p@ss/word", 3], "p@ss/word": None}) == {"a": ["***", 3], "***": None}


@pytest.mark.parametrize(
    "password", ["Zx9'Geheim", 'pa"ss9word', "pa<ss>word", "pa`ss9word", "pa ss9word", "pa\nss#/?word"]
)
@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_the_password_of_a_whole_address_may_hold_any_sign(scheme: str, password: str) -> None:
    masking.remember(f"{scheme}://user:{password}@h:5/x")
    assert masked(f"MLflow at {scheme}://user:{password}@h:5/x: away") == f"MLflow at {scheme}://user:***@h:5/x: away"
    assert masked(f"{password} {quote(password)}") == "*** ***"


def test_all_that_is_shown_goes_through_it(capsys: pytest.CaptureFixture[str]) -> None:
    url = "http://u:s3cret@h"
    console.configure(quiet=False, verbose=True)
    console.note(url)
    console.failure(url)
    console.result(url)
    console.json_document({"a": [url]})
    try:
        raise ValueError(url)
    except ValueError:
        logging.getLogger("harness").debug("why", exc_info=True)
    said = capsys.readouterr()
    assert "s3cret" not in said.out + said.err
    assert (said.out + said.err).count("u:***@h") == 5
    logging.getLogger("harness").handlers = []


def test_streams_hide_what_others_print() -> None:
    stream = streams.SafeStream(raw := io.BytesIO(), "utf-8", False, "a test")
    print("Traceback: http://u:s3cret@h", file=stream, flush=True)
    assert raw.getvalue() == b"Traceback: http://u:***@h\n"


def test_what_is_kept_holds_none(tmp_path: Path) -> None:
    study = load_text(
        STUDY, tmp_path / "s.yaml", None, ["tracking.uri=http://u:s3cret@h", "tune.storage=redis://:pw99@h"]
    )
    told = json.dumps(provenance.provenance(study, "run-grid"))
    assert "s3cret" not in told and "pw99" not in told and "tracking.uri=http://u:***@h" in told
    RunFolder(tmp_path).put(Status(state="failed", error="could not reach http://u:s3cret@h/x"))
    assert "s3cret" not in (tmp_path / "status.json").read_text()


@pytest.mark.parametrize("words", ["plan -v", "terms", "status --trials http://u:s3cret@h", "sync"])
def test_no_verb_prints_the_password_of_the_study(tmp_path: Path, words: str) -> None:
    (tmp_path / "ablations.yaml").write_text(STUDY + "tracking: {uri: 'http://u:s3cret@127.0.0.1:9'}\n"
                                             "data: {source: folder, path: 'http://u:s3cret@h/nowhere'}\n")  # fmt: skip
    done = run_forked(words.split(), tmp_path)
    assert "s3cret" not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert not any("s3cret" in file.read_text() for file in tmp_path.rglob("runs/**/*") if file.is_file())


@pytest.mark.parametrize("end", [": it is away", ". Next", "; next", "", ":", " x"])
@pytest.mark.parametrize("value", ["abc12345", "a:b.c", "***", "***hunter", "."])
def test_the_sentence_around_a_secret_stays_whole(value: str, end: str) -> None:
    said = masked(f"MLflow at http://h/?token={value}{end}")
    assert said == f"MLflow at http://h/?token=***{end}" == masked(said)


@pytest.mark.parametrize("address", ["me:hunter2@host/x", "//me:hunter2@host", "http//me:hunter2@host:80"])
def test_an_address_without_a_scheme_hides_its_password(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_remembered", set())
    masking.remember(address)
    assert "hunter2" not in masked(f"{address!r} is a folder") and "host" in masked(address)
