"""Signatures: what the provider signed is taken, and nothing else; keys name deliveries."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.connector_spec import Deliver, Verify, WebhookSpec
from actors.errors import BadSignature, InvalidInput, SecretMissing
from runtimed.webhooks.delivery import Delivery
from runtimed.webhooks.verify import PROVIDERS, at, key_of, needs_document, verify
from tests.runtimed.webhooks.signing import OTHER, SECRET, SIGN, SIGNED_HEADER, STANDARD_SECRET, URL, hubspot_v3

KINDS: list[Verify] = ["stripe", "hubspot_v3", "github", "standard"]
TIMED: list[Verify] = ["stripe", "hubspot_v3", "standard"]
BODY = b'{"id": "evt_1", "eventId": 7}'


def spec(kind: Verify, **fields: Any) -> WebhookSpec:
    return WebhookSpec(name="w", deliver=Deliver(), verify=kind, **fields)


def delivery(headers: dict[str, str], body: bytes = BODY, **fields: Any) -> Delivery:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    return Delivery(method="POST", body=body, headers=raw, urls=(URL,), **fields)


def now() -> int:
    """The real clock: the library of Standard Webhooks looks at no other."""
    return int(time.time())


def signed(kind: Verify, body: bytes = BODY, skew_s: int = 0, secret: str | None = None) -> Delivery:
    return delivery(SIGN[kind](secret or SECRET[kind], body, now() + skew_s), body)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_signed_is_taken(kind: Verify) -> None:
    """Each provider's signature over exactly these bytes is right, whatever bytes they are."""
    for body in (BODY, b"", b"not json", "é".encode()):
        verify(spec(kind), signed(kind, body), [SECRET[kind]], now())


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_secrets_one_must_fit(kind: Verify) -> None:
    """While a secret is rotated both count, in any order; with none that fits, nothing does."""
    for secrets in ([SECRET[kind], OTHER[kind]], [OTHER[kind], SECRET[kind]]):
        verify(spec(kind), signed(kind), secrets, now())
    with pytest.raises(BadSignature):
        verify(spec(kind), signed(kind), [OTHER[kind]], now())
    with pytest.raises(SecretMissing):
        verify(spec(kind), signed(kind), [], now())


@pytest.mark.parametrize("kind", KINDS)
def test_another_body_is_refused(kind: Verify) -> None:
    """One byte more, less or other, and the signature does not fit."""
    whole = signed(kind)
    for body in (BODY + b" ", BODY[:-1], b"[" + BODY[1:]):
        spoiled = Delivery(method="POST", body=body, headers=whole.headers, urls=whole.urls)
        with pytest.raises(BadSignature):
            verify(spec(kind), spoiled, [SECRET[kind]], now())


@pytest.mark.parametrize("kind", TIMED)
@pytest.mark.parametrize("skew", [-280, 280])
def test_clocks_may_differ_by_the_tolerance_both_ways(kind: Verify, skew: int) -> None:
    """Up to the tolerance a signature from the past or the future is taken."""
    verify(spec(kind), signed(kind, skew_s=skew), [SECRET[kind]], now())


@pytest.mark.parametrize("kind", TIMED)
@pytest.mark.parametrize("skew", [-400, 400])
def test_beyond_the_tolerance_it_is_refused(kind: Verify, skew: int) -> None:
    """A right signature of another time is a replay, or a clock that is wrong: refused, both ways."""
    with pytest.raises(BadSignature):
        verify(spec(kind), signed(kind, skew_s=skew), [SECRET[kind]], now())


@pytest.mark.parametrize("kind", TIMED)
def test_a_shorter_tolerance_holds(kind: Verify) -> None:
    """What the configuration says counts, with the library's own five minutes too."""
    with pytest.raises(BadSignature):
        verify(spec(kind, tolerance=10.0), signed(kind, skew_s=-60), [SECRET[kind]], now())


HOSTILE = [
    "", " ", ",", "=", "v1,", "v1", "t=1,v1=", "t=,v1=x", "t=x,v1=x", "t=1,t=2,v1=x", "sha256=", "sha1=abc",
    "v1,\xff\xfe", "\xe9", "v1,é", "v1,====", "v2,abc", "t=-1,v1=x", "t=1e9,v1=x",
    "t=\xb2,v1=x",
    "v1," * 3_000, "t=" + "9" * 400 + ",v1=x", "v1,abc v1", "\x7f", "t=1" + ",v1=x" * 50, "nan", "inf", "1" * 30,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_malformed_header_is_a_bad_signature(kind: Verify, hostile: str) -> None:
    """Whatever stands in any of the headers, or nothing at all, the answer is BadSignature and no other error."""
    headers = SIGN[kind](SECRET[kind], BODY, now())
    for name in headers:
        if name == "x-github-delivery":
            continue
        for changed in ({**headers, name: hostile}, {n: v for n, v in headers.items() if n != name}):
            with pytest.raises(BadSignature):
                verify(spec(kind), delivery(changed), [SECRET[kind]], now())


@pytest.mark.parametrize("kind", KINDS)
@given(raw=st.binary(max_size=60))
def test_no_bytes_in_a_header_are_an_error_of_ours(kind: Verify, raw: bytes) -> None:
    """Arbitrary bytes in the signature's header never fit and never raise anything else."""
    whole = signed(kind)
    changed = {**whole.headers, SIGNED_HEADER[kind]: raw}
    with pytest.raises(BadSignature):
        verify(spec(kind), Delivery(method="POST", body=BODY, headers=changed, urls=(URL,)), [SECRET[kind]], now())


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_is_there_twice_is_refused(kind: Verify) -> None:
    """Nobody knows which of two signatures is meant."""
    whole = signed(kind)
    doubled = Delivery(
        method="POST", body=BODY, headers=whole.headers, twice=frozenset({SIGNED_HEADER[kind]}), urls=(URL,)
    )
    with pytest.raises(BadSignature, match="twice"):
        verify(spec(kind), doubled, [SECRET[kind]], now())


def test_a_body_that_is_not_utf8_is_a_bad_signature() -> None:
    """The library decodes the body first and raises UnicodeDecodeError: that is a 401, too."""
    headers = SIGN["standard"](STANDARD_SECRET, b"x", now())
    with pytest.raises(BadSignature):
        verify(spec("standard"), delivery(headers, b"\xff\xfe"), [STANDARD_SECRET], now())


def test_a_secret_of_ours_that_is_none_is_our_fault() -> None:
    """A configured secret that the library cannot read is said as such, unless another one fits."""
    with pytest.raises(SecretMissing, match="whsec_"):
        verify(spec("standard"), signed("standard"), ["whsec_"], now())
    verify(spec("standard"), signed("standard"), ["whsec_", STANDARD_SECRET], now())


def test_while_stripe_rolls_its_secret_one_of_its_signatures_fits() -> None:
    """Stripe signs with both then: a second v1 is looked at."""
    header = SIGN["stripe"](SECRET["stripe"], BODY, now())["stripe-signature"]
    t, v1, _ = header.split(",")
    rolled = {"stripe-signature": f"{t},v1={'0' * 64}, {v1}"}
    verify(spec("stripe"), delivery(rolled), [SECRET["stripe"]], now())


def test_hubspot_signs_the_address_that_it_was_told() -> None:
    """Any of the addresses that it may have meant fits, with its percent escapes; another one does not."""
    secret, url = SECRET["hubspot_v3"], "https://hooks.example.org/v1/webhooks/w?a=%7Bx%7D&b=c%3Ad"
    headers = hubspot_v3(secret, BODY, now(), "https://hooks.example.org/v1/webhooks/w?a=%7Bx%7D&b=c:d")
    raw = {name: value.encode() for name, value in headers.items()}
    meant = Delivery(method="POST", body=BODY, headers=raw, urls=("http://10.0.0.1/v1/webhooks/w", url))
    verify(spec("hubspot_v3"), meant, [secret], now())
    for urls in ((), ("https://hooks.example.org/v1/webhooks/other",)):
        with pytest.raises(BadSignature):
            verify(spec("hubspot_v3"), Delivery(method="POST", body=BODY, headers=raw, urls=urls), [secret], now())


def test_vectors_of_the_providers() -> None:
    """The examples that GitHub and Standard Webhooks publish verify."""
    github = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
    verify(spec("github"), delivery(github, b"Hello, World!"), ["It's a Secret to Everybody"], now())
    from standardwebhooks import Webhook

    at_2021 = {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330"}
    hook = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    from datetime import UTC, datetime

    made = hook.sign(at_2021["webhook-id"], datetime.fromtimestamp(1_614_265_330, UTC), '{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key", "document", "expected"),
    [
        ("stripe", None, {"id": "evt_1"}, "evt_1"),
        ("stripe", "data.object.id", {"id": "evt_1", "data": {"object": {"id": "ch_1"}}}, "ch_1"),
        ("hubspot_v3", None, [{"eventId": 7}], "7"),
        ("hubspot_v3", None, {"eventId": 7}, "7"),
        ("hubspot_v3", "0.objectId", [{"objectId": 9}], "9"),
        ("github", None, None, "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("github", "head_commit.id", {"head_commit": {"id": "c0ffee"}}, "c0ffee"),
        ("standard", None, None, "msg_1"),
    ],
)
def test_a_delivery_has_its_providers_id_or_that_at_a_path(
    kind: Verify, key: str | None, document: Any, expected: str
) -> None:
    """Without a key the provider's own id counts; a path with dots and numbers finds it in the body."""
    assert key_of(spec(kind, key=key), signed(kind), document) == expected


def test_a_batch_of_hubspot_is_named_by_its_events() -> None:
    """The same events in another order, or at another attempt, are the same delivery; others are not."""
    one = [{"eventId": 1, "attemptNumber": 0}, {"eventId": 2, "attemptNumber": 0}]
    two = [{"eventId": 2, "attemptNumber": 1}, {"eventId": 1, "attemptNumber": 1}]
    keys = [
        key_of(spec("hubspot_v3"), signed("hubspot_v3"), each) for each in (one, two, one[:1], [*one, {"eventId": 3}])
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("document", [None, 7, "x", [], {}, {"id": None}, {"id": True}, {"id": 1.5}, {"id": ""},
                                      {"id": "x" * 513}, {"id": "a\nb"}, {"id": {"x": 1}}])  # fmt: skip
def test_what_names_nothing_is_refused_with_its_place(document: Any) -> None:
    """A body without a usable id is the sender's fault, and the message names the field."""
    with pytest.raises(InvalidInput, match=r"\$\.id"):
        key_of(spec("stripe", key="id"), signed("stripe"), document)
    with pytest.raises(InvalidInput, match="x-github-delivery"):
        key_of(spec("github"), delivery({}), document)


def test_the_body_must_be_understood_only_where_something_is_read_from_it() -> None:
    """A key in the body, a run to start or a signal to send need JSON; a header's key and the store do not."""
    workflow = Deliver("workflow", "w")
    assert needs_document(spec("github", key="id"))
    assert needs_document(WebhookSpec(name="w", deliver=workflow, verify="github"))
    assert needs_document(spec("stripe"))
    assert not needs_document(spec("github"))


DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(DOCUMENTS, st.text("ab0.1", max_size=8))
def test_no_path_in_no_document_is_an_error(document: Any, path: str) -> None:
    """Whatever the path and the document, there is something there or None."""
    at(document, path)


def test_each_kind_has_its_module() -> None:
    """The table of providers is what a specification may say."""
    assert set(PROVIDERS) == {*KINDS, "none"}
