"""The long form of fuzzing: ``python tests/peers/fuzz_campaign.py --inputs 10000 --seed 1 [--only http ...]``.

Prints a table in Markdown and leaves with 1 when anything crashed or changed; each finding names its seed, and
``--only NAME --first NUMBER --inputs 1`` with the same ``--seed`` does that input again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "kits"))

from fuzz_kit import Outcome, campaign, table
from fuzz_targets import TARGETS


def main() -> int:
    """Fuzz, tell how it goes on standard error, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="of all targets together, or of the one named")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in TARGETS])
    given = parser.parse_args()
    chosen = [one for one in TARGETS if not given.only or one.name in given.only]
    whole = sum(one.share for one in chosen)
    outcomes: list[Outcome] = []
    for one in chosen:
        outcomes.append(campaign(one, round(given.inputs * one.share / whole), given.seed, given.first))
        sys.stderr.write(f"{table(outcomes[-1:]).splitlines()[2]}\n")
        for finding in (*outcomes[-1].crashes[:20], *outcomes[-1].changes):
            sys.stderr.write(f"  {finding}\n")
    sys.stdout.write(table(outcomes) + "\n")
    return 0 if all(outcome.clean for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
