"""What comes in from outside, inside the coordinator: pages of connectors, deliveries to webhooks, holds and resets.

A page is one commit: its records or the runs and signals that they become, what had to be set aside, and the cursor.
So a crash leaves all of it or nothing, and whoever reads on from the cursor finds what is not there yet.

The last word of what is recorded but not durable is kept here, over what the journal holds: how a connector stands, and
which keys have been delivered. Everything is forgotten with the life of the coordinator, which begins by waiting until
all of it is on disk.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Raw

from actors import messages as m
from actors.active_run import ActiveRun
from actors.checks import check_cursor, check_id
from actors.connector_spec import ConnectorSpec, Deliver
from actors.errors import (
    Conflict,
    ConnectorHeld,
    ConnectorNotFound,
    Draining,
    InvalidInput,
    Overloaded,
    PayloadTooLarge,
)
from actors.mailbox import Letter
from actors.page_items import KEY_BYTES_MAX, as_key, delivery_id, set_aside, value_at
from actors.run_starts import RunStarts
from actors.saga_engine import SagaEngine
from wal import records as r
from wal.codec import PAYLOAD_DEPTH_MAX, payload_fault
from wal.errors import RuntimedError
from wal.intake import ITEMS_MAX, ConnectorRow
from wal.queries import Reader

WEBHOOK: Final = "webhook:"
STREAM_CHARACTERS_MAX: Final = 200
LARGE_PAGE: Final = 500
UNSEEN_PAGES: Final = 15
REMEMBERED_MAX: Final = 10_000
"""Streams, and refused keys with their reason, that are remembered. What is forgotten is looked up or recorded anew."""

Signal = Callable[[m.SignalRun], tuple[int, bool]]


class _Yield:
    """What a page came to: records to store, keys that had an effect, and the counts of the rest."""

    __slots__ = ("keys", "refused", "repeated", "runs", "set_aside", "stored")

    def __init__(self) -> None:
        self.stored: list[r.StoredItem] = []
        self.keys: list[str] = []
        self.set_aside: list[r.DeliveryRefused] = []
        self.runs: list[ActiveRun] = []
        self.repeated = self.refused = 0


class IntakeDesk:
    """Handles what `handlers` lists. `signal` sends a signal and says whether it had been before; `accept` answers a
    person; `changed` is told, once that is durable, that a connector was held, let go or reset."""

    def __init__(
        self,
        engine: SagaEngine,
        reader: Reader,
        starts: RunStarts,
        signal: Signal,
        accept: Callable[[Letter, m.Message], None],
        specs: Mapping[str, ConnectorSpec],
        changed: Callable[[str], None],
    ) -> None:
        self._engine, self._reader, self._starts, self._signal = engine, reader, starts, signal
        self._writer, self._accept, self._specs, self._changed = engine.writer, accept, specs, changed
        self._rows: dict[str, tuple[ConnectorRow, int]] = {}
        self._keys: dict[str, dict[str, int]] = {}  # by source: what was delivered and is not durable yet
        self._stored_seqs: OrderedDict[str, int] = OrderedDict()  # by stream: the last record that changed it
        self._unseen: dict[
            str, OrderedDict[str, int]
        ] = {}  # by connector, stream: pages that need no look at the store
        self._known_bad: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self.handlers: dict[type[m.Message], Callable[[Any, Letter], None]] = {
            m.TakePage: self.take_page,
            m.TakeWebhook: self.take_webhook,
            m.PauseConnector: self._pause,
            m.ResumeConnector: self._resume,
            m.ResetConnector: self._reset,
            m.QuarantineConnector: self._quarantine,
            m.NoteShape: self._note_shape,
        }

    # --- pages

    def take_page(self, command: m.TakePage, letter: Letter) -> None:
        """Record a page whole, or refuse it whole (ConnectorHeld, Overloaded, Draining)."""
        row = self._row(command.connector)
        self._check_open(command, row)
        cursor = row.cursor if command.cursor is None else command.cursor
        done = self._sort(command.connector, command.deliver, command.items, command.origin)
        self._add_refused(done, command.connector, command.refused)
        arrived = len(command.items) + len(command.refused)
        stream = command.stream or command.connector
        moved = bytes(cursor) != bytes(row.cursor)
        if command.begins:
            self._unseen.pop(command.connector, None)
        self._drop_unchanged(command.connector, stream, done)
        self._record_items(stream, command.connector, done)
        if moved or done.stored or done.keys or done.set_aside:
            record = r.CursorAdvanced(
                command.connector, cursor, command.source_kind, arrived, done.keys, done.repeated, done.refused
            )
            seq = self._writer.append(record, weight=len(cursor) + sum(map(len, done.keys)))
            self._keep(msgspec.structs.replace(row, cursor=cursor), seq)
            self._remember(command.connector, done.keys, seq)
        self._starts.begin(done.runs)
        reply = m.PageTaken(seq=self._writer.seq, records=arrived, repeated=done.repeated, refused=done.refused)
        self._writer.when_durable(reply.seq, letter.reply, reply)

    def _check_open(self, command: m.TakePage, row: ConnectorRow) -> None:
        if row.status != "running":
            raise ConnectorHeld(f"connector {command.connector!r} is {row.status}")
        if row.generation != command.generation:
            raise ConnectorHeld(f"connector {command.connector!r} was reset while it read this page")
        stream = command.stream
        if stream is not None and not (0 < len(stream) <= STREAM_CHARACTERS_MAX and stream.isprintable()):
            raise InvalidInput(f"stream {stream[:80]!r}: expected 1 to {STREAM_CHARACTERS_MAX} printable characters")
        if len(command.items) > ITEMS_MAX:
            raise InvalidInput(f"a page of {len(command.items)} records; one commit takes {ITEMS_MAX}")
        if command.cursor is not None:
            self._check_json(command.cursor, "$.cursor")
        self._check_room()
        if command.deliver.kind == "workflow" and self._starts.waiting >= self._engine.limits.runs_active_max:
            raise Overloaded("as many runs wait to begin as have room in memory")

    def _check_json(self, value: Raw, where: str) -> None:
        limit = self._engine.limits.payload_max_bytes
        if len(value) > limit:
            raise PayloadTooLarge(f"{where} is {len(value)} bytes, over the limit of {limit}")
        if (fault := payload_fault(bytes(value))) is not None:
            raise InvalidInput(f"{where}: it {fault}")

    def _check_room(self) -> None:
        if self._engine.draining:
            raise Draining("the runtime is stopping")
        if self._writer.crowded:
            raise Overloaded("too many records wait for the disk")

    def _sort(self, source: str, deliver: Deliver, items: list[r.StoredItem], origin: m.Origin) -> _Yield:
        """What becomes of each item; runs and signals are recorded, the rest is only looked at."""
        done = _Yield()
        good: list[r.StoredItem] = []
        if deliver.kind == "records" and self._all_plain(items):
            done.stored = items
            return done
        for item in items:
            fault = self._fault(item)
            if fault is None and item.deleted and deliver.kind != "records":
                fault = "deleted", "the source says that it is gone, and only the record store can take that"
            if fault is None:
                good.append(item)
            else:
                self._refuse(done, source, item, *fault)
        if deliver.kind == "records":
            done.stored = good
        else:
            self._deliver_all(done, source, deliver, good, origin)
        return done

    def _deliver_all(
        self, done: _Yield, source: str, deliver: Deliver, items: list[r.StoredItem], origin: m.Origin
    ) -> None:
        known = self._known(source, [item.key for item in items])
        ids = [delivery_id(source, item.key) for item in items]
        recorded = self._starts.recorded(ids) if deliver.kind == "workflow" else set()
        for id, item in zip(ids, items, strict=True):
            try:
                if item.key not in known and self._deliver(done, deliver, id, item, origin, recorded):
                    known.add(item.key)
                    done.keys.append(item.key)
                else:
                    done.repeated += 1
            except RuntimedError as error:
                self._refuse(done, source, item, error.code, str(error))

    def _deliver(
        self, done: _Yield, deliver: Deliver, id: str, item: r.StoredItem, origin: m.Origin, recorded: set[str]
    ) -> bool:
        """Start a run or send a signal; False if that had been done before under the same id."""
        if deliver.kind == "workflow":
            wanted = m.StartRun(workflow=deliver.name, input=item.data, id=id)
            _, run = self._starts.make(wanted, origin, recorded, self._engine.clock.now_us())
            if run is not None:
                done.runs.append(run)
            return run is not None
        run_id = _run_id(item.data, deliver.run_id_from or "")
        command = m.SignalRun(run_id=run_id, name=deliver.name, value=item.data, signal_id=id, origin=origin)
        return not self._signal(command)[1]

    def _all_plain(self, items: list[r.StoredItem]) -> bool:
        """Whether nothing about these items needs a closer look: short, plain keys and data with few brackets. It is
        what `_fault` asks, for all of them at once."""
        data = [bytes(item.data) for item in items]
        if not data or max(map(len, data)) > self._engine.limits.payload_max_bytes:
            return False
        keys = [item.key for item in items]
        if not all(keys) or max(map(len, keys)) > KEY_BYTES_MAX or not "".join(keys).isascii():
            return False
        try:
            b"\n".join(data).decode()  # with a newline between them: no character of two halves
        except UnicodeDecodeError:
            return False
        return all([one.count(b"[") + one.count(b"{") <= PAYLOAD_DEPTH_MAX for one in data])

    def _fault(self, item: r.StoredItem) -> tuple[str, str] | None:
        """Why an item cannot be kept, as code and sentence."""
        data, limit = item.data, self._engine.limits.payload_max_bytes
        if len(data) > limit:
            return PayloadTooLarge.code, f"the record is {len(data)} bytes, over the limit of {limit}"
        if (fault := payload_fault(bytes(data))) is not None:
            return "not_json", f"the record {fault}"
        if not 0 < len(item.key) <= KEY_BYTES_MAX or not item.key.isascii():
            try:
                as_key(item.key)
            except ValueError as error:
                return "no_key", str(error)
        return None

    def _refuse(self, done: _Yield, source: str, item: r.StoredItem, code: str, why: str) -> None:
        key = item.key.encode(errors="replace").decode()[:KEY_BYTES_MAX]
        item = r.StoredItem(key, item.data, item.deleted)
        self._add_refused(done, source, [set_aside(source, item, code, why, self._engine.limits.payload_max_bytes)])

    def _add_refused(self, done: _Yield, source: str, refused: list[r.DeliveryRefused]) -> None:
        """Count what is set aside; record it unless the same was recorded for the same record before."""
        for record in refused:
            done.refused += 1
            digest = blake2b(msgspec.json.encode(record), digest_size=16).digest()
            name = (source, record.key or digest.hex())
            if self._known_bad.get(name) != digest:
                _put(self._known_bad, name, digest)
                done.set_aside.append(record)

    def _record_items(self, stream: str, source: str, done: _Yield) -> None:
        if done.stored:
            weight = sum([len(item.data) + len(item.key) for item in done.stored])
            seq = self._writer.append(r.RecordsStored(stream, done.stored, source), weight=weight)
            _put(self._stored_seqs, stream, seq)
        for record in done.set_aside:
            self._writer.append(record, weight=len(record.data))

    def _drop_unchanged(self, connector: str, stream: str, done: _Yield) -> None:
        """Leave out what the store holds already, byte for byte: a source that is read from its cursor on, inclusively,
        tells its last records at each poll, and one that can only be read whole tells all of them.

        Large pages of one poll that hold nothing known are a first sync: then only some of them are looked at."""
        unseen = self._unseen.setdefault(connector, OrderedDict())
        large, left = len(done.stored) >= LARGE_PAGE, unseen.get(stream, 0)
        if large and left:
            unseen[stream] = left - 1
            return
        if not done.stored or self._stored_seqs.get(stream, 0) > self._writer.durable_seq:
            return  # the store is about to change
        counts = Counter([item.key for item in done.stored])
        known = {key for key in self._reader.unchanged(stream, done.stored) if counts[key] == 1}
        if known:
            done.stored = [item for item in done.stored if item.key not in known]
            done.repeated += len(known)
        elif large:
            _put(unseen, stream, UNSEEN_PAGES)

    # --- webhooks

    def take_webhook(self, command: m.TakeWebhook, letter: Letter) -> None:
        """Record a verified delivery and what it becomes. One that cannot be delivered is set aside, and is taken all
        the same: its sender can do nothing about it. Raises PayloadTooLarge: that much is not kept."""
        source, key = WEBHOOK + command.webhook, as_checked_key(command.item.key)
        seq = self._keys.get(source, {}).get(key) or self._reader.delivery_seq(source, key)
        if seq is not None:
            self._writer.when_durable(seq, letter.reply, m.WebhookTaken(seq=seq, repeated=True))
            return
        size, limit = len(command.item.data), self._engine.limits.payload_max_bytes
        if size > limit:
            raise PayloadTooLarge(f"the delivery is {size} bytes, over the limit of {limit}")
        self._check_room()
        done = self._sort(source, command.deliver, [command.item], command.origin)
        self._record_items(command.webhook, source, done)
        record = r.WebhookReceived(
            command.webhook, key, command.headers, command.body, command.via, command.origin.trace_id
        )
        seq = self._writer.append(record, weight=len(command.body or ""))
        self._remember(source, [key], seq)
        self._starts.begin(done.runs)
        self._writer.when_durable(self._writer.seq, letter.reply, m.WebhookTaken(seq=seq))

    # --- holds

    def _pause(self, command: m.PauseConnector, letter: Letter) -> None:
        row, origin = self._need(command.name), command.origin
        record = r.ConnectorPaused(row.name, origin.by, command.reason, origin.trace_id)
        self._move(letter, row, record, status="paused")

    def _resume(self, command: m.ResumeConnector, letter: Letter) -> None:
        row, origin = self._need(command.name), command.origin
        if row.status == "running":
            raise Conflict(f"connector {row.name!r} is neither paused nor quarantined")
        record = r.ConnectorResumed(row.name, origin.by, command.reason, origin.trace_id)
        self._move(letter, row, record, status="running")

    def _reset(self, command: m.ResetConnector, letter: Letter) -> None:
        row, origin = self._need(command.name), command.origin
        self._check_json(command.cursor, "$.cursor")
        check_cursor(self._specs.get(row.name), command.cursor)
        record = r.ConnectorReset(row.name, command.cursor, origin.by, command.reason, origin.trace_id)
        self._move(letter, row, record, cursor=command.cursor, generation=row.generation + 1)

    def _move(self, letter: Letter, row: ConnectorRow, record: r.Fact, **changes: Any) -> None:
        seq = self._writer.append(record)
        self._keep(msgspec.structs.replace(row, **changes), seq)
        self._accept(letter, m.Accepted(seq=seq, id=row.name))
        self._writer.when_durable(seq, self._changed, row.name)

    def _quarantine(self, command: m.QuarantineConnector, letter: Letter) -> None:
        row = self._need(command.name)
        seq = self._writer.seq
        if row.status == "running":  # a person who paused it meanwhile has decided already
            seq = self._writer.append(r.ConnectorQuarantined(row.name, command.error, command.crashes))
            self._keep(msgspec.structs.replace(row, status="quarantined"), seq)
            self._writer.when_durable(seq, self._changed, row.name)
        self._writer.when_durable(seq, letter.reply, m.Accepted(seq=seq, id=row.name))

    def _note_shape(self, command: m.NoteShape, letter: Letter) -> None:
        self._check_json(command.shape, "$.shape")
        record = r.SchemaSeen(command.connector, command.stream, command.shape, command.by)
        seq = self._writer.append(record, weight=len(command.shape))
        self._writer.when_durable(seq, letter.reply, m.Accepted(seq=seq, id=command.connector))

    # --- what is not durable yet, over the journal

    def _row(self, name: str) -> ConnectorRow:
        waiting = self._rows.get(name)
        return waiting[0] if waiting is not None else self._reader.connector(check_id(name, "connector name"))

    def _need(self, name: str) -> ConnectorRow:
        """A connector that is declared, or of which the journal knows. Raises ConnectorNotFound."""
        row = self._row(name)
        if name not in self._specs and not row.updated_at and name not in self._rows:
            raise ConnectorNotFound(f"there is no connector {name!r}")
        return row

    def _keep(self, row: ConnectorRow, seq: int) -> None:
        self._rows[row.name] = (row, seq)
        self._writer.when_durable(seq, self._forget_row, row.name, seq)

    def _forget_row(self, name: str, seq: int) -> None:
        waiting = self._rows.get(name)
        if waiting is not None and waiting[1] <= seq:
            del self._rows[name]

    def _known(self, source: str, keys: list[str]) -> set[str]:
        waiting = self._keys.get(source, {})
        return self._reader.delivered(source, keys) | {key for key in keys if key in waiting}

    def _remember(self, source: str, keys: list[str], seq: int) -> None:
        if keys:
            self._keys.setdefault(source, {}).update(dict.fromkeys(keys, seq))
            self._writer.when_durable(seq, self._forget_keys, source, keys)

    def _forget_keys(self, source: str, keys: list[str]) -> None:
        waiting = self._keys[source]
        for key in keys:
            del waiting[key]
        if not waiting:
            del self._keys[source]


def as_checked_key(key: str) -> str:
    """A delivery's key, or InvalidInput."""
    try:
        return as_key(key)
    except ValueError as error:
        raise InvalidInput(f"the delivery: {error}") from None


def _run_id(data: Raw, path: str) -> str:
    try:
        return as_key(value_at(msgspec.json.decode(data), path))
    except KeyError:
        raise InvalidInput(f"there is no {path!r} in it, which is to name the run") from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"{path!r}, which is to name the run: {error}") from None


def _put(table: OrderedDict[Any, Any], name: Any, value: Any) -> None:
    table[name] = value
    table.move_to_end(name)
    if len(table) > REMEMBERED_MAX:
        table.popitem(last=False)
