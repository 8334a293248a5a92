{ python = "python3"; }
