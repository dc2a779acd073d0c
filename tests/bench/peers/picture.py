"""The comparison as a picture: three panels of bars on a logarithmic axis, each ratio beside the limit it is measured against."""
import subprocess

import tables

PANELS = [("stall", "Training is blocked: times a memcpy"), ("durable", "Until it is on disk: times fio's write"),
          ("restore_cold", "Restore, cold cache: times fio's read")]
OURS, THEIRS = "#c2410c", "#8aa4c0"


def bars(results, entries, figure):
    """Title, median, least and greatest of each system that has the ratio, in the order of the tables."""
    found = []
    for name, result in results.items():
        values = tables.ratios(result.get("rounds", []), figure)
        if values:
            found.append((entries[name].title, tables.median(values), min(values), max(values)))
        else:
            found.append((entries[name].title, None, None, None))
    return found


def quoted(text):
    return '"' + text.replace('"', "'") + '"'


def panel(rows, title, left, right, names):
    """One panel's gnuplot commands: bars from the left edge, whiskers from least to greatest, the figure beside each."""
    known = [row for row in rows if row[1] is not None]
    least = min([0.5, *(row[2] for row in known)]) * 0.7
    most = max([2, *(row[3] for row in known)])
    lines = [f"set lmargin at screen {left}", f"set rmargin at screen {right}", f"set title {quoted(title)}",
             f"set xrange [{least}:{most * 3.2}]", f"set yrange [{len(rows) - 0.4}:-0.6]"]
    ticks = ", ".join(f"{quoted(row[0] if names else '')} {i}" for i, row in enumerate(rows))
    lines += [f"set ytics ({ticks})", "unset label", "unset object", "unset arrow", "set arrow from 1, graph 0 to 1, graph 1 nohead dashtype 2 linecolor '#333333' back"]
    for i, (_, middle, low, high) in enumerate(rows):
        if middle is None:
            lines.append(f"set label 'did not run' at {least * 1.1}, {i} font ',9' textcolor '#888888' front")
            continue
        color = OURS if i == 0 else THEIRS
        lines += [f"set object rectangle from {least}, {i - 0.32} to {middle}, {i + 0.32} fillcolor '{color}' fillstyle solid noborder",
                  f"set arrow from {low}, {i} to {high}, {i} heads size screen 0.003, 90 linewidth 1.4 linecolor '#333333' front",
                  f"set label {quoted(tables.number(middle))} at {max(high, middle)}, {i} offset 0.8, 0 boxed font ',10' front"]
    lines.append("plot 1/0 notitle")
    return lines


def script(results, entries, image):
    height = 190 + 34 * len(results)
    lines = [f'set terminal pngcairo size 1500, {height} font "DejaVu Sans,11" background "white" noenhanced', f"set output {quoted(str(image))}",
             "set multiplot", "set logscale x", "set grid xtics linecolor '#e5e5e5'", "set border 1 linecolor '#888888'",
             "set xtics nomirror textcolor '#333333'", "set ytics nomirror scale 0 textcolor '#111111'",
             "set style textbox opaque noborder fillcolor 'white'", "set format x '%g'", f"set tmargin at screen {1 - 74 / height}",
             f"set bmargin at screen {58 / height}", "set title font ',12'",
             f"set label 1 {quoted('medians with least and greatest; dashed: the limit itself; the axes are logarithmic, less is better')} "
             f"at screen 0.5, screen {18 / height} center font ',10' textcolor '#555555'"]
    caption = lines.pop()
    edges = [(0.19, 0.445), (0.47, 0.725), (0.75, 0.985)]
    for number, ((figure, title), (left, right)) in enumerate(zip(PANELS, edges)):
        lines += panel(bars(results, entries, figure), title, left, right, names=number == 0)
    # After the panels, which unset labels: a last, empty plot over the whole picture carries it.
    lines += ["unset object", "unset arrow", "unset label", caption, "unset border", "unset tics", "unset title", "unset grid", "plot 1/0 notitle"]
    return "\n".join([*lines, "unset multiplot", ""])


def draw(results, entries, image):
    done = subprocess.run(["gnuplot"], input=script(results, entries, image), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"gnuplot failed: {done.stderr.strip()}")
