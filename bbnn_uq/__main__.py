"""``python -m bbnn_uq`` is the command ``bbnn-uq``."""

from bbnn_uq.cli import main

if __name__ == "__main__":
    main()
