"""``python -m cl_vs_mim`` is ``cl-vs-mim``."""

from cl_vs_mim.cli import main

if __name__ == "__main__":
    main()
