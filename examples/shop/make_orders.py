"""Write orders.csv: the same 2,400 orders each time, as a web shop would export them.

Most are ordinary. Some are not: names in many scripts, quotes and line breaks inside fields, text that looks like a
formula or like markup, cards that get refused, goods that are sold out, and a few rows that are simply wrong.
"""

from __future__ import annotations

import csv
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

ORDERS = 2_400
SEED = 20_260_114
TARGET = Path(__file__).with_name("orders.csv")
COLUMNS = ["order_id", "placed_at", "customer", "email", "street", "postcode", "city", "country"]
COLUMNS += ["sku", "product", "quantity", "unit_price", "currency", "card"]

# country: currency, share of orders, cities with a postcode pattern, streets, given names, family names
MARKETS: dict[str, tuple[str, int, list[tuple[str, str]], list[str], list[str], list[str]]] = {
    "DE": (
        "EUR",
        26,
        [("Leipzig", "04###"), ("Hamburg", "20###"), ("München", "80###"), ("Köln", "50###"), ("Görlitz", "02826")],
        ["Lindenstraße #", "Am Mühlbach #a", "Goethestr. #", "Kastanienallee #", "Hinterm Deich #"],
        ["Jürgen", "Annika", "Björn", "Käthe", "Lukas", "Mareike", "Sören", "Ursula"],
        ["Müller", "Weiß", "Groß-Gerau", "von der Heide", "Özdemir", "Kowalczyk", "Schäfer"],
    ),
    "GB": (
        "GBP",
        18,
        [("Leeds", "LS# #AB"), ("Bristol", "BS# #TR"), ("Glasgow", "G# #QT"), ("Stoke-on-Trent", "ST# #LW")],
        ["# Harbour Row", "Flat #, 12 Station Road", "# St John's Hill", "The Old Forge, # Mill Lane"],
        ["Siobhan", "Oliver", "Priya", "Callum", "Zadie", "Rhys", "Amelia"],
        ["O'Brien", "Smith", "Okafor", "McAllister", "Patel", "Featherstone-Haugh", "Lloyd"],
    ),
    "US": (
        "USD",
        22,
        [("Portland, OR", "972##"), ("Austin, TX", "787##"), ("Brooklyn, NY", "112##"), ("Boise, ID", "837##")],
        ["# Maple Ave", "# W 3rd St Apt #", "PO Box #", "# County Road 12"],
        ["Maria", "Tyrone", "Emily", "José", "Hannah", "DeShawn", "Wei", "Caroline"],
        ["Garcia", "Johnson", "Nguyen", "D'Angelo", "Washington", "Goldberg", "Li"],
    ),
    "FR": (
        "EUR",
        12,
        [("Lyon", "69###"), ("L'Haÿ-les-Roses", "94240"), ("Saint-Étienne", "42###"), ("Besançon", "25###")],
        ["# rue de l'Église", "# bis, avenue Jean-Jaurès", "#, quai des Célestins"],
        ["Zoé", "François", "Maëlys", "Noël", "Chloé", "Hervé"],
        ["Lefèvre", "d'Estaing", "Müller-Petit", "Le Goff", "Benoît"],
    ),
    "CH": (
        "CHF",
        6,
        [("Zürich", "80##"), ("Genève", "12##"), ("Chur", "7000")],
        ["Bahnhofstrasse #", "chemin du Lac #", "Via Nova #"],
        ["Urs", "Beat", "Ladina", "Réto", "Aurélie"],
        ["Rüegg", "Caduff", "Blanc", "Bünzli"],
    ),
    "SE": (
        "SEK",
        7,
        [("Malmö", "21# ##"), ("Växjö", "352 ##"), ("Åre", "837 ##")],
        ["Storgatan #", "Björkvägen # B", "Södra Hamngatan #"],
        ["Åsa", "Östen", "Linnéa", "Göran", "Maj-Britt"],
        ["Ångström", "Sjöberg", "Lindqvist", "Öberg"],
    ),
    "JP": (
        "JPY",
        6,
        [("京都市", "604-80##"), ("札幌市", "060-00##"), ("渋谷区", "150-00##")],
        ["中京区寺町通#", "北一条西#丁目", "神南#-6-3"],
        ["陽子", "健太", "さくら", "蓮"],
        ["佐藤", "鈴木", "髙橋", "渡邊"],
    ),
    "IE": (
        "EUR",
        3,
        [("Cork", "T12 ##XK"), ("Dún Laoghaire", "A96 ##YD")],
        ["# Patrick's Quay", "# Marine Road"],
        ["Aoife", "Ciarán", "Saoirse"],
        ["Ó Súilleabháin", "Ní Dhomhnaill", "Byrne"],
    ),
}

# sku: product, price in euro, weight in the draw. What ends in -X is sold out.
GOODS: dict[str, tuple[str, float, int]] = {
    "MUG-ENAMEL-RED": ("Enamel mug, red", 14.5, 14),
    "MUG-ENAMEL-BLU": ("Enamel mug, blue", 14.5, 12),
    "TEA-ASSAM-250": ("Assam, second flush, 250 g", 11.9, 18),
    "TEA-SENCHA-100": ("Sencha 煎茶, 100 g", 17.25, 9),
    "KETTLE-1L": ("Kettle, 1 l, stainless", 64.0, 7),
    "PRESS-8C": ('French press "Größe 8"', 39.9, 8),
    "GRINDER-M47": ("Hand grinder M47", 189.0, 5),
    "ESP-DUO": ("Espresso machine, two boilers", 1_349.0, 2),
    "ESP-UNO": ("Espresso machine, one boiler", 549.0, 3),
    "FILTER-02-100": ("Paper filters 02, 100 pcs", 4.2, 16),
    "SCALE-01G": ("Brewing scale, 0.1 g", 59.0, 5),
    "TOWEL-LINEN": ("Linen towel; set of 2", 24.0, 8),
    "CUP-RAKU-X": ("Raku cup, one of a kind", 79.0, 2),
    "TEAPOT-CAST-X": ("Cast-iron teapot 1.2 l", 96.0, 2),
}
RATES = {"EUR": 1.0, "GBP": 0.86, "USD": 1.09, "CHF": 0.95, "SEK": 11.3, "JPY": 162.0}
CARDS = ["tok_visa_{}", "tok_visa_debit_{}", "tok_mastercard_{}", "tok_amex_{}"]

# Rows that once broke somebody's import: customer, street, city, email.
NASTY = [
    ('Dwayne "The Rock" J.', '12 "Quoted" Street', "Portland, OR", "rock@example.com"),
    ("Söhne & Töchter GmbH\nz. Hd. Frau Weiß", "Hinterhof,\n3. Etage links", "Köln", "einkauf@example.org"),
    ('=HYPERLINK("http://example.com","click")', "+1-1", "Austin, TX", "formula@example.net"),
    ("Robert'); DROP TABLE orders;--", "1 Exploit Ave", "Boise, ID", "bobby@example.com"),
    ("<script>alert(1)</script>", "[bold red]Markup Way[/x]", "Leeds", "markup@example.com"),
    ("عبد الرحمن السيد", "شارع النيل 7", "Brooklyn, NY", "abd@example.com"),
    ("Zoë 👩‍👩‍👧 Family", "1 Émoji Lane 🏠", "Bristol", "zoe+kettle@example.co.uk"),
    ("N", "1", "Å", "n@example.com"),
    ("Wolfeschlegelsteinhausenbergerdorff " * 4, "Lange Straße 1", "Görlitz", "long@example.de"),
    ("null", "None", "NaN", "null@example.com"),
    ("Łukasz\tTab", "Ulica\u00a0Niełamliwa 5", "Leipzig", "lukasz@example.pl"),
    ("e\u0301 combining, \u202eRTL override", "Zalgo\u0336 St 1", "Glasgow", "unicode@example.com"),
]

# Rows that are wrong: nothing may be recorded for them. Column, value.
WRONG = [
    ("quantity", "0"),
    ("quantity", "-3"),
    ("quantity", "two"),
    ("currency", "BTC"),
    ("unit_price", "0.00"),
    ("unit_price", "-19.90"),
    ("country", "Germany"),
    ("customer", ""),
]


def digits(pattern: str, chance: random.Random) -> str:
    """`pattern` with each # replaced by a digit; none of them leads with zero."""
    return "".join(str(chance.randint(1, 9)) if letter == "#" else letter for letter in pattern)


def price(euro: float, currency: str) -> str:
    """A price in that currency, as exports write it: yen have no decimals."""
    amount = euro * RATES[currency]
    return str(round(amount / 10) * 10) if currency == "JPY" else f"{amount:.2f}"


def order(number: int, placed_at: datetime, chance: random.Random) -> dict[str, str]:
    """One ordinary order; about one in thirty comes with a card that gets refused."""
    market = chance.choices(list(MARKETS), weights=[share for _, share, *_ in MARKETS.values()])[0]
    currency, _, cities, streets, given, family = MARKETS[market]
    city, postcode = chance.choice(cities)
    first, last = chance.choice(given), chance.choice(family)
    sku = chance.choices(list(GOODS), weights=[weight for *_, weight in GOODS.values()])[0]
    product, euro, _ = GOODS[sku]
    quantity = 1 if euro > 150 else chance.choices([1, 2, 3, 4, 6, 12], weights=[60, 22, 8, 5, 3, 2])[0]
    token = f"{chance.getrandbits(48):012x}"
    card = f"tok_declined_{token}" if chance.random() < 1 / 30 else chance.choice(CARDS).format(token)
    return {
        "order_id": f"SO-{100_000 + number}",
        "placed_at": placed_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "customer": f"{last} {first}" if market == "JP" else f"{first} {last}",
        "email": f"customer{number}@example.{market.lower() if market not in ('US', 'GB') else 'com'}",
        "street": digits(chance.choice(streets), chance),
        "postcode": digits(postcode, chance),
        "city": city,
        "country": market,
        "sku": sku,
        "product": product,
        "quantity": str(quantity),
        "unit_price": price(euro, currency),
        "currency": currency,
        "card": card,
    }


def orders() -> list[dict[str, str]]:
    """All orders, the nasty and the wrong ones spread among the ordinary."""
    chance = random.Random(SEED)
    placed_at = datetime(2026, 1, 9, 6, 0, tzinfo=UTC)
    rows = []
    for number in range(ORDERS):
        placed_at += timedelta(seconds=chance.expovariate(1 / 95))
        rows.append(order(number, placed_at, chance))
    spots = iter(chance.sample(range(ORDERS), len(NASTY) + len(WRONG)))
    for customer, street, city, email in NASTY:
        rows[next(spots)].update(customer=customer, street=street, city=city, email=email)
    for column, value in WRONG:
        rows[next(spots)][column] = value
    return rows


def write(target: Path) -> None:
    """Write all orders as CSV."""
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(orders())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
