"""The sync: every customer that Stripe tells of is welcomed, once; about large ones a person is asked first.

The connector is configuration alone (`runtimed.toml`): it reads Stripe's customers, makes canonical ones of them, and
starts one run of `welcome` for each, whose id comes from the customer's. Serve it from this folder with
`runtimed serve --config runtimed.toml`, after `runtimed secret set stripe`. The mailer's address comes in `MAIL_URL`.
"""

from __future__ import annotations

import logging
import os
import ssl

import httpx2

from runtimed import App, Context, Retry, current_step
from runtimed.models import Customer

DAY = 24 * 3600.0
MAIL_URL = os.environ.get("MAIL_URL", "http://127.0.0.1:8720")
LARGE_SEATS = 500
TLS = ssl.create_default_context()  # once: loading the certificates costs more than a request

logging.getLogger("httpx2").setLevel(logging.WARNING)  # else each request is a line in the daemon's log

app = App("sync")


def seats_of(customer: Customer) -> int:
    """How many seats a customer has; Stripe keeps such things as text in `metadata`."""
    try:
        return int(customer.extras["metadata"]["seats"])
    except (KeyError, TypeError, ValueError):
        return 1


@app.step(retry=Retry(max_attempts=8, initial_interval=0.1, max_interval=2.0), timeout=5.0)
async def mail(customer_id: str, text: str) -> str:
    """Send a mail; returns its id. The key is the same in every attempt, so the mailer can tell a repeat."""
    headers = {"Idempotency-Key": current_step().idempotency_key}
    async with httpx2.AsyncClient(base_url=MAIL_URL, verify=TLS, trust_env=False) as client:
        response = await client.post("/mail", json={"customer": customer_id, "text": text}, headers=headers)
    response.raise_for_status()  # 500 and the like: worth another attempt
    return str(response.json()["id"])


@app.workflow
async def welcome(ctx: Context, customer: Customer) -> str:
    """From the customer to the mail. A large one gets a manager if a person says so, else what everybody gets."""
    text, seats = "welcome", seats_of(customer)
    if seats >= LARGE_SEATS:
        title = f"A manager for {customer.name} ({seats} seats)?"
        decision = await ctx.approval(title, detail={"id": customer.id, "seats": seats}, timeout=3 * DAY)
        text = "your manager" if decision.approved else "welcome"
    await ctx.step(mail, customer.id, text)
    return text
