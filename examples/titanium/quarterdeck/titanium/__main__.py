import sys

from quarterdeck.titanium.command import main

sys.exit(main())
