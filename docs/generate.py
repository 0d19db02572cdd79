"""Makes the reference pages and the README's picture: `make docs`. The pages are made from the code; a test says when they are stale."""

import asyncio
import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path

import typer
import uvloop
from rich.console import Console

from docs import protocol
from truetape.app import rehearsal
from truetape.app.cli import defaults, demo, faults, screen
from truetape.app.cli.main import app
from truetape.app.live import Gateway
from truetape.app.metrics import DEFINITIONS as METRICS
from truetape.core.route.modes import conflate, drop_oldest
from truetape.core.route.tally import CAUSES
from truetape.io.obs import log
from truetape.model.reason import REASONS
from truetape.venues._tickdb import REASONS as TICKDB

HERE = Path(__file__).parent
PICTURE_AFTER_S = 6.0
FAULTS_HEAD = """# What becomes of each fault

`truetape faults` runs the gateway, with its default timings, against a simulated venue that makes one fault of [the script](simulator.md)
after three seconds of ordinary messages (two books, 120 messages a second, real sockets). The simulator's own books are the judge: every
book that the gateway calls LIVE is compared with them at each published change and fifty times a second. This page is
`make docs ARGS=--faults`; figures vary from run to run, verdicts must not.

- *detected*: seconds from the fault to the first `Gap` or change of state that tells of it; — where there was nothing to tell.
- *recovered*: seconds from the fault to the last time that a book became LIVE again. A fault that lasts counts from its beginning:
  `half-open` 12 s, `mute-symbol`, `mute-after-ack` and `never-ack` 6 s, `slow-drip` 7 s, `refuse-429` and `rate-3001` 4 s, `token-expired` 3 s,
  `lifetime-cut` at 5 s of age. Faults of a handshake or a subscription begin with a break, so that there is one.
- *lost*: changes of the books that the venue told nobody, or broken; *accounted*: how many of them a `Gap` covers, by number or by time.
  TickDB numbers nothing and sends whole books: what is missing between two of them cannot be known, and heals with the next.
- *oldest LIVE*: how far a book called LIVE was behind the market at worst. Silence takes its threshold to be found, at least 3 s, a dead
  link 2 to 4.5 s, and messages that come late 3 s and the second that is so late ([health](health.md#late)).
- *verdict*: `unharmed` (LIVE and true all the while), `recovered`, `not LIVE and says why`; anything else fails the command.

"""


def config_page() -> str:
    """`docs/config.md`: the commented defaults."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        defaults.config(True)
    return f"# Configuration\n\nOne TOML file. This page is `truetape config --defaults`.\n\n```toml\n{text.getvalue().rstrip()}\n```\n"


def cli_page() -> str:
    """`docs/cli.md`: every command, its arguments and options."""
    parts = [
        "# Command line",
        "Data go to stdout, progress and logs to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 Ctrl-C.",
    ]
    top = typer.main.get_command(app)
    for name, command in sorted(top.commands.items()):  # type: ignore[attr-defined]  # the top is a group
        rows = [f"## truetape {name}", (command.help or "").strip(), ""]
        for param in command.params:
            if param.name != "help":
                spelled = ", ".join(param.opts) if param.param_type_name == "option" else (param.name or "").upper()
                default = (
                    ""
                    if param.default in (None, "", False, 0) or callable(param.default)
                    else f" (default {param.default})"
                )
                rows.append(f"- `{spelled}`: {getattr(param, 'help', None) or ''}{default}".rstrip(": "))
        parts.append("\n".join(rows).rstrip())
    return "\n\n".join(parts) + "\n"


def reasons_page() -> str:
    """`docs/reasons.md`: what can happen, and the one remedy for each."""
    rows = [
        "# Reasons",
        "",
        "Every end, refusal and doubt has one of these names, in `reason` of statuses and gaps, and one remedy. See [recovery](recovery.md).",
        "",
        "| reason | remedy | at least | what it means |",
        "|---|---|---|---|",
    ]
    for row in REASONS.values():
        least = f"{row.wait_s:g} s" if row.wait_s else ""
        rows += [f"| `{row.name}` | `{row.remedy}` | {least} | {row.text} |"]
    rows += [
        "",
        "TickDB's codes (frames, close codes from 3000 on, texts of close frames, bodies of HTTP answers):",
        "",
    ]
    rows += ["| code | reason | remedy |", "|---|---|---|"]
    rows += [f"| {code} | `{name}` | `{REASONS[name].remedy}` |" for code, name in sorted(TICKDB.items())]
    return "\n".join(rows) + "\n"


def metrics_page() -> str:
    """`docs/metrics.md`: every metric of `/metrics`."""
    rows = [
        "# Metrics",
        "",
        "`GET /metrics` on the data port answers in Prometheus' text format. Where tokens are asked for, the scraper sends one of role `ops`:",
        "`truetape token issue prometheus --role ops --ttl 365d`. Counters are read when somebody asks, and cost nothing in between. No label",
        "is a symbol. [deploy/](../deploy) has a dashboard and alert rules.",
        "",
        "| metric | kind | labels | what it tells |",
        "|---|---|---|---|",
    ]
    rows += [f"| `{row.name}` | {row.kind} | {', '.join(row.labels)} | {row.help} |" for row in METRICS]
    rows += ["", f"`reason` of `truetape_gaps_total` is one of {', '.join(CAUSES)}."]
    return "\n".join(rows) + "\n"


async def picture() -> str:
    """Run the demo's venues and gateway for some seconds; its screen as SVG, without fonts from elsewhere."""
    processes, venues = [], []
    try:
        for venue, symbols, rate in demo.VENUES:
            process, said = demo.start(venue, symbols, rate)
            processes.append(process)
            venues.append(said)
        with tempfile.TemporaryDirectory() as folder:
            async with (
                Gateway(demo.configuration(venues, Path(folder) / "tape")) as gateway,
                asyncio.TaskGroup() as group,
            ):
                group.create_task(
                    demo.Meter().read(gateway.subscribe("*", ["book", "trade"], mode=drop_oldest, name="strategy"))
                )
                group.create_task(
                    demo.Meter().read(
                        gateway.subscribe("*", ["book", "trade"], mode=conflate(ms=250), name="dashboard")
                    )
                )
                await asyncio.sleep(PICTURE_AFTER_S)
                console = Console(record=True, width=160, height=46, file=io.StringIO())
                console.print(screen.whole(gateway, f"{sum(gateway.pump.digest.counts().values()):,} events"))
                drawn = console.export_svg(title="truetape demo")
                for box in list(gateway.boxes):
                    gateway.release(box, "done")
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


def faults_page() -> str:
    """`docs/faults.md`: every fault rehearsed, here and now."""
    log.setup(str, level=50)  # connections break here by order
    pairs = rehearsal.matrix([], [])
    outcomes = uvloop.run(rehearsal.rehearse(pairs, at_once=faults.AT_ONCE))
    return FAULTS_HEAD + faults.markdown(outcomes)


def main() -> None:
    """Write the pages; `--picture` also runs the demo for the picture, `--faults` the rehearsals for their table."""
    (HERE / "config.md").write_text(config_page(), encoding="utf-8")
    (HERE / "reasons.md").write_text(reasons_page(), encoding="utf-8")
    (HERE / "metrics.md").write_text(metrics_page(), encoding="utf-8")
    (HERE / "cli.md").write_text(cli_page(), encoding="utf-8")
    (HERE / "protocol.md").write_text(protocol.protocol_page(), encoding="utf-8")
    (HERE / "asyncapi.json").write_text(protocol.asyncapi_page(), encoding="utf-8")
    if "--faults" in sys.argv:
        (HERE / "faults.md").write_text(faults_page(), encoding="utf-8")
    if "--picture" in sys.argv:
        (HERE / "demo.svg").write_text(asyncio.run(picture()), encoding="utf-8")


if __name__ == "__main__":
    main()
