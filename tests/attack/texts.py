"""Texts that somebody might send to see what breaks."""

SQL = (
    "'; drop table traders; --",
    '" or "1"="1',
    "' union all select api_key from exchanges --",
    "default'/*",
    "\\'; drop table users; --",
    "%",
    "_",
)
LOG = (
    'x\n{"event":"forged","level":"info"}',
    "x\r\nlevel=info forged",
    "x\u2028y\u2029z\x85",
    '","event":"forged","x":"',
    "{0.__class__} %s %n ${jndi:ldap://127.0.0.1/x}",
)
TERMINAL = (
    "\x1b[2J\x1b[1;1Howned",
    "\x1b]0;owned\x07",
    "\x1b]52;c;b3duZWQ=\x1b\\",
    "\x9b31mred",
    "\u202egnp.exe",
    "\x08\x08\x08\x7f",
    "[red]markup[/red][link=http://127.0.0.1]x[/link]",
)
PATHS = ("../../etc/passwd", "/etc/passwd", "a/../../b", "..", ".", "~", "-rf", "CON", "a\\..\\b", "file:///etc/passwd")
ODD = (
    "",
    " ",
    "\0",
    "a\0b",
    "é",
    "e\u0301",
    "İı",
    "\U0001f4a3",
    "\ufeff",
    "*",
    "a.b.c",
    "null",
    "NaN",
    "-0",
    "9" * 40,
    "ENC:v1:AAAA",
    "[" * 3000,
    "x" * 513,
    "x" * 8193,
    "\u00e9" * 300,
)
ALL = (*SQL, *LOG, *TERMINAL, *PATHS, *ODD)
