"""The digest chain over the records: each digest covers the record and the digest before it.

Whoever changes, drops, adds or reorders records must compute every later digest anew, and one bit that a disk turned
over is seen. The digest is BLAKE2b (RFC 7693) of 16 bytes: against accidents and for audit, not a signature.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b

from wal.codec import encode_record
from wal.records import Entry

DIGEST_BYTES = 16
GENESIS = bytes(DIGEST_BYTES)
"""What stands for the digest before the first record."""

_PREFIX = struct.Struct("<16sqqqq")

Row = tuple[int, int, int, int, bytes, str]
"""A row of the table `records`: seq, run_key, prev_seq, at, digest, body."""


class ChainError(Exception):
    """A batch that does not continue the log; a defect of its sender."""


def link(before: bytes, seq: int, run_key: int, prev_seq: int, at: int, body: bytes) -> bytes:
    """The digest of one record: over the digest before, the four integers as little-endian int64, and the body."""
    return blake2b(_PREFIX.pack(before, seq, run_key, prev_seq, at) + body, digest_size=DIGEST_BYTES).digest()


def extend(entries: Sequence[Entry], last_seq: int, digest: bytes) -> list[Row]:
    """The rows that continue a log which ends with `last_seq` and `digest`. Raises `ChainError` for a gap."""
    rows: list[Row] = []
    add, pack, encode = rows.append, _PREFIX.pack, encode_record
    for entry in entries:
        seq, run_key, prev_seq, at = entry.seq, entry.run_key, entry.prev_seq, entry.at
        last_seq += 1
        if seq != last_seq:
            raise ChainError(f"record {seq} where {last_seq} is next")
        if not 0 <= prev_seq < seq:
            raise ChainError(f"record {seq} names {prev_seq} as the one before it")
        body = encode(entry.record)
        # As `link` has it, which would be a call more for each record.
        digest = blake2b(pack(digest, seq, run_key, prev_seq, at) + body, digest_size=DIGEST_BYTES).digest()
        add((seq, run_key, prev_seq, at, digest, body.decode()))
    return rows
