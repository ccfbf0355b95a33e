"""`python -m pentarch` is the command `pentarch`."""

from pentarch.cli.main import run

if __name__ == "__main__":
    run()
