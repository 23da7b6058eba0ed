"""Run it: python -m quarterdeck.lever [http PORT]."""

import sys

from quarterdeck.keel.stdio import run

if len(sys.argv) > 1:
    from quarterdeck.deck.serve import serve_http
    from quarterdeck.keel.settings import load

    sys.exit(serve_http(["lever"], load(), None, int(sys.argv[1])))
sys.exit(run("quarterdeck.lever.server"))
