import sys

from quarterdeck.keel.stdio import run

sys.exit(run("quarterdeck.research.server"))
