"""What is masked, and what only sounds like it: tables."""

from __future__ import annotations

import pytest

from flor_runtime.errors import ReplayError
from flor_runtime.secrets import MASK, find, is_secret, mask, mask_arguments, mask_bytes, mask_text, unmask_arguments

# Put together here, so that no scanner takes this file for a leak.
WORD = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1cD3"
HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c"
FORMS = {
    "hf": "hf_" + WORD,
    "github": "ghp_" + WORD,
    "github_pat": "github_" + "pat_" + WORD + "_" + WORD,
    "gitlab": "glpat-" + WORD[:20],
    "openai": "sk-" + WORD,
    "openai_project": "sk-proj-" + WORD + "-" + WORD,
    "anthropic": "sk-ant-api03-" + WORD,
    "stripe": "sk_" + "live_" + WORD,
    "aws": "AKIA" + "Q3EGRZ7YLMXVDW5K",
    "google": "AIza" + WORD[:35],
    "slack": "xoxb" + "-123456789012-" + WORD[:20],
    "npm": "npm_" + WORD,
    "jwt": "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0." + WORD,
    "pem": "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
}

NOT_MASKED = [
    ["--tokens", "512"],
    ["--max-tokens", "2048"],
    ["--tokenizer", "gpt2"],
    ["--tokenizer", "meta-llama/Llama-3.1-8B-Instruct"],
    ["--key-dim", "64"],
    ["--num-keys", "8"],
    ["--pad-token", "<pad>"],
    ["--eos_token", "<|endoftext|>"],
    ["--placeholder-token", "sks"],
    ["--monitor-key", "val_loss"],
    ["--key", "image"],
    ["--token", "7"],
    ["--use-auth-token", "true"],
    ["--secret-size", "3"],
    ["--password-file", "/run/secrets/db"],
    ["--credentials", "~/.gcp/account.json"],
    ["--private-key", "/home/me/.ssh/id_ed25519.pub"],
    ["--author", "someone"],
    ["--compass", "north"],
    ["--lr", "1e-3", "--name", "a-very-long-run-name-with-2024-12-31"],
    ["--sha", HEX],
    ["--checkpoint", "sk-learn-random-forest-classifier-v2"],
    ["--url", "https://user@example.org:8080/path?q=1"],
    ["--data", "s3://bucket/key=value/file.parquet"],
    ["model.key_dim=64", "data.tokenizer=bert", "+trainer.max_tokens=10"],
    ["--", "key", "value"],
    ["--password"],
    ["--api-key", "--lr", "3"],
    ["-k", "5"],
    ["a***b", "--note", "***"],
]

MASKED = [
    (["--api-key", "abcdef"], ["--api-key", MASK], {"1": ["FLOR_SECRET_API_KEY"]}),
    (["--api_key=abcdef", "x"], [f"--api_key={MASK}", "x"], {"0": ["FLOR_SECRET_API_KEY"]}),
    (["--apiKey", "abcdef"], ["--apiKey", MASK], {"1": ["FLOR_SECRET_APIKEY"]}),
    (["--token=hunter2"], [f"--token={MASK}"], {"0": ["FLOR_SECRET_TOKEN"]}),
    (["--hub_token", "abc", "--lr", "1"], ["--hub_token", MASK, "--lr", "1"], {"1": ["FLOR_SECRET_HUB_TOKEN"]}),
    (["-password", "12345"], ["-password", MASK], {"1": ["FLOR_SECRET_PASSWORD"]}),
    (["db.password=x", "+wandb.key=y"], [f"db.password={MASK}", f"+wandb.key={MASK}"], None),
    (["--aws-secret-access-key", "/x+y"], ["--aws-secret-access-key", MASK], None),
    (["--key", HEX], ["--key", MASK], {"1": ["FLOR_SECRET_KEY"]}),
    (["--my-token", WORD], ["--my-token", MASK], None),
    (["--auth", "me:pass"], ["--auth", MASK], None),
    ([FORMS["hf"]], [MASK], {"0": ["FLOR_SECRET_ARGUMENT_1"]}),
    (["--x", FORMS["openai"]], ["--x", MASK], {"1": ["FLOR_SECRET_X"]}),
    (["--x", "https://me:pw@host/p"], ["--x", f"https://me:{MASK}@host/p"], {"1": ["FLOR_SECRET_X"]}),
    (["--token", "one", "--token", "two"], ["--token", MASK, "--token", MASK], {"1": ["FLOR_SECRET_TOKEN"], "3": ["FLOR_SECRET_TOKEN_2"]}),
    (
        ["--config", '{"api_key": "abcd", "lr": 1, "db": {"password": "efgh"}}'],
        ["--config", f'{{"api_key": "{MASK}", "lr": 1, "db": {{"password": "{MASK}"}}}}'],
        {"1": ["FLOR_SECRET_CONFIG", "FLOR_SECRET_CONFIG_2"]},
    ),
    (["https://a:***@h", f"***{FORMS['hf']}"], ["https://a:***@h", MASK], {"1": ["FLOR_SECRET_ARGUMENT_2"]}),
]  # fmt: skip


@pytest.mark.parametrize("argv", NOT_MASKED, ids=" ".join)
def test_what_stays(argv: list[str]) -> None:
    assert mask_arguments(argv) == (argv, {})


@pytest.mark.parametrize(("argv", "masked", "variables"), MASKED, ids=[" ".join(case[1]) for case in MASKED])
def test_command_lines(argv: list[str], masked: list[str], variables: dict[str, list[str]] | None) -> None:
    found = mask_arguments(argv)
    assert found.argv == masked
    assert variables is None or found.variables == variables


@pytest.mark.parametrize(("argv", "masked", "variables"), MASKED, ids=[" ".join(case[1]) for case in MASKED])
def test_a_replay_puts_them_in_again(argv: list[str], masked: list[str], variables: object) -> None:
    found = mask_arguments(argv)
    environment = {name: f"<{name}>" for names in found.variables.values() for name in names}
    again = unmask_arguments(found.argv, found.variables, environment)
    assert mask_arguments(argv) == found
    assert [one == two for one, two in zip(again, argv, strict=True)] == [
        str(n) not in found.variables for n in range(len(argv))
    ]
    assert all(MASK not in again[int(n)] for n in found.variables)
    with pytest.raises(ReplayError, match=next(iter(environment))):
        unmask_arguments(found.argv, found.variables, {})


@pytest.mark.parametrize("kind", FORMS)
def test_forms(kind: str) -> None:
    secret = FORMS[kind]
    for before, after in (("", ""), ("see ", " there"), ("'", "'"), ("x=", ";")):
        assert mask_text(before + secret + after) == before + MASK + after
    assert mask_text(secret[:10]) == secret[:10] or kind == "pem"
    assert [found.line for found in find(f"a\nb\n{secret}\n")] == [3]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgres://me:pw@db/x", f"postgres://me:{MASK}@db/x"),
        ("GET /?api_key=abcd&x=1", f"GET /?api_key={MASK}&x=1"),
        (f"Authorization: Bearer {WORD}", f"Authorization: Bearer {MASK}"),
        ("password = 'hunter2hunter2'", f"password = '{MASK}'"),
        ("bearer of good news everyone", None),
        ("password = 'your-password-here'", None),
        ('api_key = os.environ["OPENAI_API_KEY"]', None),
        ("token: '<eos>'", None),
        ("https://example.org/a:b@c", None),
        ("loss 0.1234567890123456789 at step 3", None),
        (HEX, None),
        ("550e8400-e29b-41d4-a716-446655440000", None),
        ("runs/2026-11-21T10-20-30-abcdef0123456789", None),
    ],
)
def test_texts(text: str, masked: str | None) -> None:
    assert mask_text(text) == (text if masked is None else masked)


def test_values() -> None:
    assert mask("api_key", "x" * 8) == MASK
    assert mask("token", 512) == 512
    assert mask("token", True) is True
    assert mask("password", 12345) == MASK
    assert mask("api_key", None) is None
    assert mask("api_key", "") == ""
    assert mask("loss", 0.5) == 0.5
    assert mask("db", {"user": "me", "password": "pw", "urls": ["a://b:c@d"]}) == {
        "user": "me", "password": MASK, "urls": [f"a://b:{MASK}@d"],
    }  # fmt: skip
    shape = (3, 4)
    assert mask("shape", shape) is shape
    assert is_secret("HF_TOKEN") and is_secret("clientSecret") and not is_secret("tokenizer") and not is_secret("")


def test_bytes_keep_their_length() -> None:
    data = b"\x00\xff" + FORMS["hf"].encode() + b"\x00password='hunter2'"
    masked = mask_bytes(data)
    assert len(masked) == len(data)
    assert masked == b"\x00\xff" + b"*" * len(FORMS["hf"]) + b"\x00password='*******'"
    assert mask_bytes(b"\x00" * 100) == b"\x00" * 100
    assert mask_bytes(b"a://b:\xff\x01@c") == b"a://b:\xff\x01@c"
    assert mask_bytes("password = 'гость'".encode()) == b"password = '**********'"
    assert mask_bytes(b"\xff a://b:cd@c\xff") == b"\xff a://b:**@c\xff"


@pytest.mark.parametrize("text", ["a" * 200_000, "a." * 100_000, "://" * 60_000, "eyJ" * 60_000, "x='" * 60_000])
def test_no_text_is_slow(text: str) -> None:
    """Patterns that try again from each position would take minutes."""
    assert mask_text(text) == text
