"""One check of a bearer token, as each request over TCP pays it: in memory, among ten thousand tokens."""

from __future__ import annotations

import time
from pathlib import Path

from bench.figures import Figure, percentile
from runtimed import tokens
from runtimed.http.guesses import Guesses
from wal.tokens import TokenRow

TOKENS = 10_000
CHECKS = 50_000
CHECK_MS_MAX = 0.2
KEY = b"k" * tokens.KEY_BYTES


def _made(number: int) -> tuple[TokenRow, bytes]:
    token_id, secret = tokens.new_id(), tokens.new_secret()
    kept = tokens.digest(KEY, token_id, secret)
    row = TokenRow(token_id, f"t{number}", "viewer", kept, 0, None, None, None, None)
    return row, tokens.written(token_id, secret).encode()


def _times_ms(table: tokens.TokenTable, texts: list[bytes]) -> list[float]:
    times = []
    for at in range(CHECKS):
        text = texts[at % len(texts)]
        began = time.perf_counter()
        table.check(text, 1)
        times.append((time.perf_counter() - began) * 1e3)
    return times


def measure(folder: Path) -> list[Figure]:
    """Right tokens, and wrong ones, which must not cost less or more in a way that tells them apart."""
    made = [_made(number) for number in range(TOKENS)]
    table = tokens.TokenTable(KEY, [row for row, _ in made])
    right = _times_ms(table, [text for _, text in made])
    wrong = _times_ms(table, [_made(0)[1] for _ in range(1_000)])
    guesses = Guesses()
    began = time.perf_counter()
    for at in range(CHECKS):
        guesses.failed(f"10.0.{at % 256}.{at % 251}", at / 1_000)
    budget_ms = (time.perf_counter() - began) / CHECKS * 1e3
    return [
        Figure("one token check, p50", percentile(right, 0.50), "ms", at_most=CHECK_MS_MAX, note=f"{TOKENS:,} tokens"),
        Figure("  the same, p99", percentile(right, 0.99), "ms", at_most=CHECK_MS_MAX),
        Figure("  a token that is none, p50", percentile(wrong, 0.50), "ms", at_most=CHECK_MS_MAX),
        Figure("  the budget of one wrong token", budget_ms, "ms"),
    ]
