"""The two tables, as text. Pure."""
import statistics

# Figure of a round -> the limit beside which it stands. belay's stall has its own memcpy, taken by the same training loop.
LIMITS = {"stall": ("stall_memcpy", "memcpy"), "added": ("stall_memcpy", "memcpy"), "durable": ("fio_write",),
          "restore_cold": ("fio_read",), "restore_warm": ("memcpy",)}


def spread(values, scale=1.0):
    """Median, least and greatest: `0.13 (0.11-0.15)`."""
    values = [v * scale for v in values if v is not None]
    if not values:
        return "-"
    return f"{number(statistics.median(values))} ({number(min(values))}-{number(max(values))})"


def number(value):
    """Three digits that mean something, no exponent."""
    for digits, limit in ((0, 100), (1, 10), (2, 1), (3, 0.01)):
        if abs(value) >= limit:
            return f"{value:.{digits}f}"
    return f"{value:.4f}" if value else "0"


def ratios(rounds, figure):
    """Each round's figure over the limit taken beside it."""
    pairs = [(r.get(figure), next((r[name] for name in LIMITS[figure] if r.get(name)), None)) for r in rounds]
    return [value / limit for value, limit in pairs if value is not None and limit]


def median(values):
    return statistics.median(values) if values else None


def ratio(rounds, figure):
    value = median(ratios(rounds, figure))
    return "-" if value is None else number(value)


def summary(rounds):
    """Median, least and greatest of every figure and of every ratio, for the JSON."""
    names = sorted({name for r in rounds for name, value in r.items() if isinstance(value, (int, float)) and name != "round"})
    found = {name: [r[name] for r in rounds if r.get(name) is not None] for name in names}
    found.update({f"{figure}_over_{limits[-1]}": ratios(rounds, figure) for figure, limits in LIMITS.items()})
    return {name: {"median": median(values), "least": min(values), "greatest": max(values)} for name, values in found.items() if values}


def speed_row(title, synced, result):
    if "error" in result:
        return [title, f"did not run: {result['error']}"]
    rounds = result["rounds"]
    of = lambda name: [r.get(name) for r in rounds]
    cells = [title]
    for figure in ("stall", "added"):
        cells += [spread(of(figure)), ratio(rounds, figure)]
    cells.append(spread(of("done")))
    for figure in ("durable", "restore_cold", "restore_warm"):
        cells += [spread(of(figure)), ratio(rounds, figure)]
    size = median([b / result["state_bytes"] for b in of("bytes") if b])
    return [*cells, "-" if size is None else f"{size:.2f}", synced]


SPEED_HEAD = ["system", "stall s", "/memcpy", "added s", "/memcpy", "says saved s", "durable s", "/fio", "restore cold s", "/fio",
              "warm s", "/memcpy", "bytes", "synced by itself"]


def render(head, rows, numbers=()):
    """Columns as wide as they must be; a row of two cells (it did not run) runs on. `numbers` are flushed right."""
    whole = [row for row in rows if len(row) == len(head)]
    widths = [max(len(str(row[i])) for row in [head, *whole]) for i in range(len(head))]
    widths[0] = max(widths[0], *(len(row[0]) for row in rows)) if rows else widths[0]

    def line(cells):
        if len(cells) != len(head):
            return f"{cells[0]:{widths[0]}}  {cells[1]}"
        return "  ".join(f"{c:>{w}}" if i in numbers else f"{c:{w}}" for i, (c, w) in enumerate(zip(cells, widths))).rstrip()

    rule = "-" * len(line(head))
    body = [line(row) for row in rows]
    return "\n".join([line(head), rule, *body[:1], *([rule] if len(body) > 1 else []), *body[1:]])


def speeds(results, entries):
    """belay's row first, then the others."""
    rows = [speed_row(entries[name].title, entries[name].synced, result) for name, result in results.items()]
    return render(SPEED_HEAD, rows, numbers=range(1, len(SPEED_HEAD) - 1))


def notes(results):
    """What one must know to read the table of speeds."""
    ran = [r for result in results.values() for r in result.get("rounds", [])]
    lines = ["durable: an explicit sync of files and folders after it says that it is saved, belay excepted, which has synced by then.",
             "warm: from the page cache; belay's from belayd's memory. First rounds (helpers start, memory is fresh) are in the JSON only."]
    if not all(r.get("dropped", True) for r in ran):
        lines.append("THE PAGE CACHE COULD NOT BE DROPPED HERE (it takes root): cold restores are warm ones, belay's excepted.")
    return lines


FAULTS = ["flips", "killed", "full"]
FAULT_TITLES = {"flips": "one byte flipped, 3 places", "killed": "SIGKILL half way through a save", "full": "disk full"}


def faults(results, entries):
    """One block a fault: who noticed, in whose words."""
    blocks = []
    for fault in FAULTS:
        rows = []
        for name, result in results.items():
            found = result.get("faults", {}).get(fault, {"error": result.get("error", "not tried")})
            title = entries[name].title
            rows.append([title, f"not established: {found['error']}"] if "error" in found else [title, *found["cells"]])
        head = {"flips": ["system", "noticed", "its words"],
                "killed": ["system", "checkpoint before", "the new one", "left behind", "its words"],
                "full": ["system", "who is told", "checkpoint before", "later saves", "its words"]}[fault]
        blocks.append(f"{FAULT_TITLES[fault]}\n\n{render(head, rows)}")
    return "\n\n".join(blocks)
