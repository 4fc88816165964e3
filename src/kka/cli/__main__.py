"""`python -m kka.cli`: the command line where the script `kka` is not on the path."""

import sys

from kka.cli import main

sys.exit(main())
