"""`auditor rules`: the meaning of each finding code."""

from __future__ import annotations

from typing import Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument
from auditor.cli.choices import Format

EXAMPLES = """\
auditor rules
auditor rules snapshot-without-blob"""

#: Shortest part of a code that leads to the codes with it, and the number of those that are named.
_PART, _MOST = 3, 6


def rules(
    code: Annotated[str | None, Argument(metavar="CODE", help="A finding code. Default: all.")] = None,
    output_format: o.PlainFormats = Format.TABLE,
) -> int:
    """Explain the finding codes: severity, meaning, impact and remedy."""
    import difflib

    from auditor import checks
    from auditor.cli.output import deliver
    from auditor.errors import UsageError
    from auditor.formats import rulebook

    known = tuple(checks.RULEBOOK.values())
    chosen = [rule for rule in known if code in (None, rule.code)]
    if not chosen:
        codes = [rule.code for rule in known]
        asked = (code or "").lower()
        close = difflib.get_close_matches(asked, codes, n=3, cutoff=0.75)
        close = close or [each for each in codes if len(asked) >= _PART and asked in each][:_MOST]
        hint = f"did you mean {' or '.join(close)}?" if close else "auditor rules lists them all"
        raise UsageError(f"there is no rule {(code or '')[:100]!r}", hint=hint)
    if output_format is Format.JSON:
        deliver(rulebook.as_json(chosen), None)
    else:
        deliver(rulebook.listed(chosen) if code is None else rulebook.explained(chosen[0]), None)
    return 0
