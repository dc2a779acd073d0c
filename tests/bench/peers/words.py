"""What a system said, short enough for a table. Pure."""
import errno
import re

LENGTH = 130


def short(text, length=LENGTH):
    """In one line, of a path only its name."""
    text = re.sub(r"(?<![\w.])(/[\w.+-]+)+/([\w.+-]+)", r"\2", " ".join(str(text).split()))
    return text if len(text) <= length else text[: length - 3].rstrip() + "..."


def chain(error):
    """The exception and what it was raised from, outermost first."""
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return seen


def of(error):
    """The exception's class and the line of it that says most: the innermost error of a traceback in words, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    inner = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b: ", line)]
    said = (inner or lines or [""])[-1 if inner else 0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def names_space(error):
    """Where the full disk is named in what was raised: `said`, `chained` (only in what the exception was raised from), `never`."""
    first, *rest = ["No space left" in str(each) or getattr(each, "errno", None) == errno.ENOSPC for each in chain(error)]
    return "said" if first else "chained" if any(rest) else "never"


def line_about_failure(log):
    """The last line of a log that names a full disk, else the last that tells of an error."""
    lines = [line.strip() for line in log.splitlines()]
    found = [line for line in lines if "No space left" in line] or [line for line in lines if re.search(r"\b(\w+Error|ERROR)\b", line)]
    return found[-1] if found else None
