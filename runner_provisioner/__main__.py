"""`python -m runner_provisioner`."""

from runner_provisioner.cli import main

if __name__ == "__main__":
    main()
