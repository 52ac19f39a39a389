"""`python -m muscan` is the command `muscan`."""

from muscan.cli import main

if __name__ == "__main__":
    main()
