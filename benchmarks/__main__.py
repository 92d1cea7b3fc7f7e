"""The command line: ``python -m benchmarks [NAME ...] [--quick] [--mnist ROOT] [--markdown FILE]``.

Without names it runs all rows, and ``growth``: how time and memory grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import growth
from benchmarks.compare import NotTheSame, compare
from benchmarks.memory import peak
from benchmarks.report import HEADINGS, Line, cells, machine, markdown
from benchmarks.rows import ROWS
from benchmarks.scale import Scale, arguments

_BEGIN, _END = "<!-- begin of the measurements -->", "<!-- end of the measurements -->"


def main(args: Sequence[str] | None = None) -> None:
    parser = arguments("python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows to run; none means all")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where the tables go, too")
    options = parser.parse_args(args)
    known = [*ROWS, "growth"]
    names = options.names or known
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"there is no row {unknown[0]}, but {', '.join(known)}")
    scale = Scale.of(options)
    print(f"{machine()}\n\n{markdown(HEADINGS, [])}", flush=True)
    lines: list[Line] = []
    refused: list[str] = []

    def keep(*further: str) -> None:
        # After every row, for some take minutes.
        if options.markdown:
            rows = markdown(HEADINGS, [cells(line) for line in lines])
            write(options.markdown, [machine(), *([rows] if lines else []), *refused, *further])

    for name in (name for name in names if name in ROWS):
        try:
            lines.append(measured(name, scale))
        except NotTheSame as reason:
            refused.append(f"{name}: not compared, {reason}")
            print(refused[-1], flush=True)
        else:
            print(f"| {' | '.join(cells(lines[-1]))} |", flush=True)
        keep()
    if "growth" in names:
        found = growth.curves(scale.quick)
        table = markdown(growth.HEADINGS, [curve.cells() for curve in found])
        print(f"\n{table}")
        if options.markdown:
            growth.plot(found, options.markdown.parent / "figures" / "growth.png")
        keep(table, "![How time and memory grow](figures/growth.png)")


def measured(name: str, scale: Scale) -> Line:
    """A row of the table, with the memory of both sides."""
    row = compare(ROWS[name](scale))
    if not row.comparison.in_process:
        return Line(row, (None, None))
    return Line(row, (peak(name, "ours", scale), peak(name, row.setting, scale)))


def write(path: Path, parts: Sequence[str]) -> None:
    """Put the parts between the marks of the file, or into a new one; the rest of it stays."""
    measurements = "\n\n".join((_BEGIN, *parts, _END))
    before = after = ""
    if path.exists():
        before, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
        _, _, after = rest.partition(_END)
    path.write_text(f"{before}{measurements}{after or chr(10)}", encoding="utf-8")


if __name__ == "__main__":
    main()
