"""Real user agents, each with what it is.

tests/data/user_agents.tsv, made on 2026-11-25: of recorded traffic (npm package user-agents 2.1.198), of the access log in
tests/data, and of AI crawlers and search engines as crawler-user-agents 1.67.0 quotes them. What each is was told by
another parser (device-detector for Python) and corrected by hand where that was wrong or vague.
"""

import csv
from pathlib import Path

from pixel import agents

_LIST = Path(__file__).parent / "data" / "user_agents.tsv"


def test_under_two_in_a_hundred_are_wrong(capsys):
    with _LIST.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) >= 300
    missed = [(what, row) for row in rows if (what := wrong(row))]
    with capsys.disabled():
        print(f"\n{len(missed)} of {len(rows)} user agents are wrong:")
        for what, row in missed:
            print(f"  {what}: {row['user_agent'][:120]}")
    assert len(missed) < 0.02 * len(rows)


def wrong(row):
    """How this user agent is misread; '' when it is read right."""
    read = agents.classify(row["user_agent"])
    if row["bot"]:
        # Whoever only says that it is a bot does not say its name.
        fine = bool(read.bot) if row["bot"] == "bot" else read.bot.lower() == row["bot"].lower()
        return "" if fine else f"bot {row['bot']} read as {read.bot or read.browser or 'a person'}"
    told = {name: row[name] for name in ("browser", "os", "device")}
    differ = [f"{name} {want or '-'} read as {getattr(read, name) or '-'}" for name, want in told.items()
              if getattr(read, name) != want]  # fmt: skip
    return "read as the bot " + read.bot if read.bot else ", ".join(differ)
