"""`python -m streamtable`."""

from streamtable.cli import main

if __name__ == "__main__":
    main()
