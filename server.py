"""`python server.py` is `nofx-grpc serve`."""

import sys

from nofx_grpc.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
