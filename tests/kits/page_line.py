"""A tiny real line with a page, in a process of its own, for tests that freeze or kill it.

``python page_line.py LEVEL SOURCE NAME``: judges a picture of one grey level again and again, ten
times a second, under these names; prints the page's port and runs until it is ended.
"""

from __future__ import annotations

import sys
import time

from page_kit import CONFIG, make_board
from runtime_kit import make_bundle, make_frame, picture, wait_until

from cada_edge.runtime.judge import Judge
from cada_edge.runtime.page.publisher import PagePublisher
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.runtime.status import LinkStatus, SourceStatus


def main() -> None:
    """Run until killed."""
    level, source, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    bundle, board = make_bundle(), make_board()
    with OrtRunner(bundle, 1) as runner, PagePublisher(board, CONFIG, lambda *_: None) as page:
        judge = Judge(runner, bundle.manifest.threshold)
        wait_until(page.healthy)
        sys.stdout.write(f"{page.port}\n")
        sys.stdout.flush()
        for number in range(1 << 30):
            done = judge.judge(make_frame(0, number, image=picture(level), source_id=source, name=name))
            board.verdict(done.verdict, done.frame, done.prediction)
            board.update(
                sources=(SourceStatus(source, True, number, 0, 10.0, 1.0, name),),
                links=(LinkStatus("s7", name, True, name, late=2),),
            )
            time.sleep(0.1)


if __name__ == "__main__":
    main()
