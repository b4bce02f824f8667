"""Write the settings table into README.md, between its markers."""

from pathlib import Path

from nofx_grpc.settings import Settings

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- settings: begin (written by `make fix`) -->"
END = "<!-- settings: end -->"


def settings_table() -> str:
    """Return the table of all settings as Markdown."""
    rows = [
        f"| `{row.name}` | {f'`{row.default}`' if row.default else 'not set'} | {row.meaning} |"
        for row in Settings.describe()
    ]
    return "\n".join(["| Variable | Default | Meaning |", "|---|---|---|", *rows])


def with_table(readme: str) -> str:
    """Return the text with what stands between the markers replaced.  Raises ValueError if a marker is missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md needs the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{settings_table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
